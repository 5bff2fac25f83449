/** A worker thread that opens files in every way, many at once, until it is ended: `workerData` is an OpeningWork. */
import { join } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { openFile } from '../../src/input-file.ts';
import { readWhole, writeWhole } from '../../src/opened-file.ts';
import { writeOutputFile } from '../../src/output-file.ts';

export interface OpeningWork {
  /** A file that is there. */
  readonly file: string;
  /** Files may be written there. */
  readonly folder: string;
}

const { file, folder } = workerData as OpeningWork;

const ways: readonly ((path: string) => Promise<unknown>)[] = [
  async () => {
    await using opened = await openFile(file);
    await opened.read(new Uint8Array(8), 0, 8, 0);
  },
  () => readWhole(file),
  (path) => writeWhole(path, 'written'),
  (path) => writeOutputFile(path, 'written'),
];

let done = 0;
async function repeat(way: (path: string) => Promise<unknown>, path: string): Promise<void> {
  for (;;) {
    await way(path);
    if (++done === 100) parentPort?.postMessage('busy');
  }
}

// As many as wait for each other's turn in the threads that files are read by.
await Promise.all(ways.flatMap((way, i) => [0, 1, 2, 3].map((j) => repeat(way, join(folder, `${i}-${j}`)))));

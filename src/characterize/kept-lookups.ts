/** Lookups in files, for programs that run many times on the same ones: reading them takes a fraction of drawing them. */
import { join } from 'node:path';
import { deserialize, serialize } from 'node:v8';
import type { EmbeddingWorkload } from '../bench/workload.ts';
import type { BagBatch } from '../embedding/bag.ts';
import { fileError, unwritable } from '../errors.ts';
import { readWhole, writeWhole } from '../opened-file.ts';

/** The lookups of one pattern or trace. */
export type Lookups = Pick<EmbeddingWorkload, 'pattern' | 'batches'>;

/** What stands in the list of a folder's lookups. */
interface Listed {
  readonly pattern: string;
  readonly batches: number;
}

const listOf = (folder: string) => join(folder, 'lookups.json');
const batchFile = (folder: string, pattern: number, batch: number) =>
  join(folder, `lookups-${pattern}-${batch}.bin`);

/** Writes lookups into a folder, one file per batch. @throws UsageError FILE_UNWRITABLE. */
export async function keepLookups(folder: string, lookups: readonly Lookups[]): Promise<void> {
  const write = (file: string, content: string | Uint8Array) =>
    writeWhole(file, content).catch((cause) => {
      throw unwritable(file, cause);
    });
  for (const [p, { batches }] of lookups.entries()) {
    // Arrays that tables share are written once, and shared again when they are read.
    for (const [b, batch] of batches.entries()) await write(batchFile(folder, p, b), serialize(batch));
  }
  const list = lookups.map(({ pattern, batches }): Listed => ({ pattern, batches: batches.length }));
  await write(listOf(folder), JSON.stringify(list));
}

/** What `keepLookups` wrote. @throws UsageError FILE_NOT_FOUND. */
export async function keptLookups(folder: string): Promise<Lookups[]> {
  const read = (file: string) =>
    readWhole(file).catch((cause) => {
      throw fileError(file, cause);
    });
  const list = JSON.parse((await read(listOf(folder))).toString()) as Listed[];
  const lookups: Lookups[] = [];
  for (const [p, { pattern, batches: count }] of list.entries()) {
    const batches: BagBatch[] = [];
    for (let b = 0; b < count; b++) batches.push(deserialize(await read(batchFile(folder, p, b))));
    lookups.push({ pattern, batches });
  }
  return lookups;
}

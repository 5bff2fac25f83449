/** Starts model-worker.ts. */
import { rmSync } from 'node:fs';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
// @ts-expect-error: a script, without types
import { bundleTests } from '../../scripts/bundle-tests.mjs';
import type { ModelWork } from './model-worker.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const program = relative(root, fileURLToPath(new URL('model-worker.ts', import.meta.url)));
// Threads import JavaScript alone.
const { folder, paths } = await bundleTests([program], root);
/** What a thread runs. */
export const workerFile: string = paths.get(program);
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

export interface StartedWorker {
  readonly worker: Worker;
  /** Resolves when it has predicted once. */
  readonly ready: Promise<void>;
  /** Resolves to what it predicted first, by request; rejects with its error, or when it ends before. */
  readonly done: Promise<readonly Float32Array[]>;
  /** Resolves when its thread has ended. */
  readonly ended: Promise<void>;
}

export function startWorker(work: ModelWork): StartedWorker {
  const worker = new Worker(workerFile, { workerData: work });
  const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  const message = (wanted: (value: unknown) => boolean) =>
    new Promise<unknown>((resolve, reject) => {
      worker.on('message', (value) => {
        if (wanted(value)) resolve(value);
      });
      worker.once('error', reject);
      worker.once('exit', (code) => reject(new Error(`the worker ended with ${code}`)));
    });
  const ready = message((value) => value === 'ready').then(() => {});
  const done = message(Array.isArray) as Promise<readonly Float32Array[]>;
  // Who waits for one may not wait for the other.
  ready.catch(() => {});
  done.catch(() => {});
  return { worker, ready, done, ended };
}

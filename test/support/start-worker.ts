/** Starts model-worker.ts. */
import { Worker } from 'node:worker_threads';
import { bundledProgram } from './bundled-program.ts';
import type { ModelWork } from './model-worker.ts';

/** What a thread runs. */
export const workerFile: string = await bundledProgram(new URL('model-worker.ts', import.meta.url));

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

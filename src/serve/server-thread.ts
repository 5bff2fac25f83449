/** Threads that a server starts. */
import { type ResourceLimits, Worker } from 'node:worker_threads';

/** A thread of the server. */
export class ServerThread<To, From extends { readonly kind: string }> {
  readonly #worker: Worker;
  readonly ended: Promise<void>;

  constructor(
    program: string,
    data: object,
    onMessage: (message: From) => void,
    resourceLimits: ResourceLimits = {},
  ) {
    this.#worker = new Worker(program, { workerData: data, resourceLimits });
    this.#worker.on('message', onMessage);
    this.ended = new Promise((resolve, reject) => {
      this.#worker.once('error', reject);
      this.#worker.once('exit', () => resolve());
    });
    this.ended.catch(() => {});
  }

  say(message: To): void {
    this.#worker.postMessage(message);
  }

  async terminate(): Promise<void> {
    await this.#worker.terminate();
  }
}

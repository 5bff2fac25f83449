/** PyTorch's embedding bags as a peer in the same run: one batch whenever it is asked. */
import { setTimeout } from 'node:timers/promises';
import type { DeviceKind } from '../device.ts';
import type { Bags, EmbeddingTable } from '../embedding/bag.ts';
import { PytorchProcess } from './pytorch-process.ts';

/** PyTorch's OpenMP threads go on spinning for some milliseconds after a call, on cores that the next variant needs. */
const SPIN_DOWN_MS = 20;

/** What one batch took. */
export interface PeerTimes {
  /** All calls, back to back. */
  readonly seconds: number;
  /** Every call by itself, on a GPU. */
  readonly launches: readonly number[];
}

export class PytorchPeer implements AsyncDisposable {
  readonly #process: PytorchProcess;

  private constructor(process: PytorchProcess) {
    this.#process = process;
  }

  /** As PytorchProcess.start. */
  static async start(device: DeviceKind): Promise<PytorchPeer | string> {
    const process = await PytorchProcess.start('pytorch_embedding_bag.py', device);
    return typeof process === 'string' ? process : new PytorchPeer(process);
  }

  get version(): string {
    return this.#process.version;
  }

  /** Makes tables of the same shapes, with random rows. */
  async setUp(tables: readonly EmbeddingTable[], threads: number): Promise<void> {
    const shapes = tables.map(({ rows, dim, rowFormat }) => [rows, dim, rowFormat]);
    const mode = tables[0]?.mode ?? 'sum';
    await this.#process.ask({ setup: { tables: shapes, mode, threads, device: this.#process.device } });
  }

  /** Hands over the lookups of every batch, table by table. */
  load(batches: readonly (readonly Bags[])[]): Promise<void> {
    return this.#process.withLookups(batches, (files) => this.#process.ask({ load: { batches: files } }));
  }

  /** Runs batches over all tables. */
  async run(batches: readonly number[]): Promise<readonly PeerTimes[]> {
    const answer = await this.#process.ask({ run: { batches } });
    if (this.#process.device === 'cpu') await setTimeout(SPIN_DOWN_MS);
    return answer.batches as PeerTimes[];
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#process[Symbol.asyncDispose]();
  }
}

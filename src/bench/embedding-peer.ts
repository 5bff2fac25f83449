/** Another library's embedding stage as a peer in the same run: one batch whenever it is asked. */
import { setTimeout } from 'node:timers/promises';
import type { DeviceKind } from '../device.ts';
import type { Bags, EmbeddingTable } from '../embedding/bag.ts';
import { checkSample, type PeerSample } from './peer-check.ts';
import { PytorchProcess } from './pytorch-process.ts';
import type { IndexType } from './workload.ts';

/** PyTorch's OpenMP threads go on spinning for some milliseconds after a call, on cores that the next variant needs. */
const SPIN_DOWN_MS = 20;

/** A library that can be a peer. */
export interface PeerKind {
  /** As results name it, one word. */
  readonly name: string;
  /** What of it is measured. */
  readonly operator: string;
  readonly devices: readonly DeviceKind[];
  /** In bench/peers; it speaks what pytorch_embedding_bag.py describes. */
  readonly script: string;
  /** Whether one launch serves all tables, or one each. */
  readonly allTablesPerLaunch: boolean;
  /** Why it cannot pool a table; undefined: it can. */
  readonly refuse: (table: EmbeddingTable) => string | undefined;
  /** What its set-up is told besides tables, pooling, threads and device. */
  readonly setup?: (workload: PeerWorkload) => object;
}

/** What the lookups of a run have in common. */
export interface PeerWorkload {
  readonly tables: readonly EmbeddingTable[];
  readonly indexType: IndexType;
  /** Of the host. */
  readonly threads: number;
}

/** What one batch took. */
export interface PeerTimes {
  /** All launches, back to back. */
  readonly seconds: number;
  /** Every launch by itself, on a GPU. */
  readonly launches: readonly number[];
}

export class EmbeddingPeer implements AsyncDisposable {
  readonly kind: PeerKind;
  readonly #process: PytorchProcess;
  #tables: readonly EmbeddingTable[] = [];
  #indexType: IndexType | undefined;

  private constructor(kind: PeerKind, process: PytorchProcess) {
    this.kind = kind;
    this.#process = process;
  }

  /** As PytorchProcess.start. */
  static async start(
    kind: PeerKind,
    device: DeviceKind,
    signal?: AbortSignal,
  ): Promise<EmbeddingPeer | string> {
    const process = await PytorchProcess.start(kind.script, device, { name: kind.name, signal });
    return typeof process === 'string' ? process : new EmbeddingPeer(kind, process);
  }

  /** `FBGEMM 1.4.0`. */
  get implementation(): string {
    return `${this.kind.name} ${this.#process.version}`;
  }

  /** What it runs, for a row: the operator, and the indices it takes where it says so. */
  get variant(): string {
    const { operator } = this.kind;
    return this.#indexType === undefined ? operator : `${operator}, ${this.#indexType} indices`;
  }

  get tablesPerLaunch(): number {
    return this.kind.allTablesPerLaunch ? this.#tables.length : 1;
  }

  /** The type of the indices that it looks up by, where it says so. */
  get indexType(): IndexType | undefined {
    return this.#indexType;
  }

  /** Makes tables of the same shapes, with random rows. */
  async setUp(workload: PeerWorkload): Promise<void> {
    const { tables, threads } = workload;
    const answer = await this.#process.ask({
      setup: {
        tables: tables.map(({ rows, dim, rowFormat }) => [rows, dim, rowFormat]),
        mode: tables[0]?.mode ?? 'sum',
        threads,
        device: this.#process.device,
        ...this.kind.setup?.(workload),
      },
    });
    this.#tables = tables;
    this.#indexType = answer.indexType as IndexType | undefined;
  }

  /** Hands over the lookups of every batch, table by table. @throws Error when it then pools other values than it should. */
  async load(batches: readonly (readonly Bags[])[]): Promise<void> {
    await this.#process.withLookups(batches, async (files) => {
      const { samples = [] } = await this.#process.ask({ load: { batches: files } });
      for (const sample of samples as PeerSample[]) checkSample(sample, this.#tables, batches[0] ?? []);
    });
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

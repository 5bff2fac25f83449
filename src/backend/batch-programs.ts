/**
 * Programs for batches, kept with their matrices: making both anew for each batch would cost more than small layers do.
 * Concurrent batches get programs of their own.
 */
import { DeviceError } from '../errors.ts';
import type { Backend, KeptProgram, Operation, PlacedBags, RunOptions, RunReport } from './backend.ts';
import { Workspace } from './workspace.ts';

/** Memory of idle programs, at most; the one that was used last stays whatever it takes. */
const IDLE_BYTES = 2 ** 32;
/** Idle programs for one number of samples, at most: a request per user and one per candidate, of a few types, take turns. */
const MOST_KINDS = 4;

/** The program for a batch, over matrices that it has for itself. */
export type ProgramOf<B> = (batch: B) => readonly Operation[];

interface Entry<B> {
  readonly capacity: number;
  /** Of the bags that it ran last. */
  kind: unknown;
  readonly programOf: ProgramOf<B>;
  readonly workspace: Workspace;
  readonly kept: KeptProgram;
}

/** `B`: the arrays of a batch. */
export class BatchPrograms<B> implements Disposable {
  readonly #backend: Backend;
  readonly #make: (capacity: number, workspace: Workspace) => ProgramOf<B>;
  /** Idle ones, least recently used first. */
  readonly #idle: Entry<B>[] = [];

  /** `make`: the program for batches of at most `capacity` samples, with its matrices. */
  constructor(backend: Backend, make: (capacity: number, workspace: Workspace) => ProgramOf<B>) {
    this.#backend = backend;
    this.#make = make;
  }

  /** Runs the program for a batch with these bags. @throws as Backend.run. */
  async run(
    { batchSize, kind }: Pick<PlacedBags, 'batchSize' | 'kind'>,
    batch: B,
    options?: RunOptions,
  ): Promise<RunReport> {
    const entry = this.#borrow(this.#backend.capacityFor(batchSize), kind);
    try {
      return await entry.kept.run(entry.programOf(batch), options);
    } finally {
      this.#idle.push(entry);
      this.#trim();
    }
  }

  [Symbol.dispose](): void {
    for (const entry of this.#idle.splice(0)) discard(entry);
  }

  /** A program that ran bags of this kind, or a new one; where there are many of other kinds, the one that is idle longest. */
  #borrow(capacity: number, kind: unknown): Entry<B> {
    const fitting = this.#idle.filter((entry) => entry.capacity === capacity);
    const known =
      fitting.findLast((entry) => entry.kind === kind) ??
      (fitting.length < MOST_KINDS ? undefined : fitting[0]);
    if (known !== undefined) {
      this.#idle.splice(this.#idle.indexOf(known), 1);
      known.kind = kind;
      return known;
    }
    try {
      return this.#create(capacity, kind);
    } catch (error) {
      // Programs of other sizes make room.
      if (!(error instanceof DeviceError) || error.code !== 'OUT_OF_MEMORY' || this.#idle.length === 0)
        throw error;
      this[Symbol.dispose]();
      return this.#create(capacity, kind);
    }
  }

  #create(capacity: number, kind: unknown): Entry<B> {
    const workspace = new Workspace(this.#backend);
    try {
      const programOf = this.#make(capacity, workspace);
      return { capacity, kind, programOf, workspace, kept: this.#backend.keep() };
    } catch (error) {
      workspace[Symbol.dispose]();
      throw error;
    }
  }

  #trim(): void {
    let bytes = this.#idle.reduce((sum, { workspace }) => sum + workspace.bytes, 0);
    while (bytes > IDLE_BYTES && this.#idle.length > 1) {
      const oldest = this.#idle.shift() as Entry<B>;
      bytes -= oldest.workspace.bytes;
      discard(oldest);
    }
  }
}

function discard<B>({ kept, workspace }: Entry<B>): void {
  kept[Symbol.dispose]();
  workspace[Symbol.dispose]();
}

/**
 * Programs for batches, kept with their matrices: making both anew for each batch would cost more than small layers do.
 * Concurrent batches get programs of their own.
 */
import { DeviceError } from '../errors.ts';
import type {
  Backend,
  Bindings,
  Executable,
  Operation,
  PlacedBags,
  RunOptions,
  RunReport,
} from './backend.ts';
import { Workspace } from './workspace.ts';

/** Memory of idle programs, at most; the one that was used last stays whatever it takes. */
const IDLE_BYTES = 2 ** 32;
/** Idle programs for one number of samples, at most: a request per user and one per candidate, of a few types, take turns. */
const MOST_KINDS = 4;

/** A program for batches of at most `capacity` samples, over matrices that it has for itself. */
export type MakeProgram = (capacity: number, workspace: Workspace) => readonly Operation[];

interface Entry {
  readonly capacity: number;
  /** Of the bags that it ran last. */
  kind: unknown;
  readonly workspace: Workspace;
  readonly executable: Executable;
}

export class BatchPrograms implements Disposable {
  readonly #backend: Backend;
  readonly #make: MakeProgram;
  /** Idle ones, least recently used first. */
  readonly #idle: Entry[] = [];

  constructor(backend: Backend, make: MakeProgram) {
    this.#backend = backend;
    this.#make = make;
  }

  /** Runs the program on a batch with these bags. @throws as Executable.run. */
  async run(
    { batchSize, kind }: Pick<PlacedBags, 'batchSize' | 'kind'>,
    bindings: Bindings,
    options?: RunOptions,
  ): Promise<RunReport> {
    const entry = this.#borrow(this.#backend.capacityFor(batchSize), kind);
    try {
      return await entry.executable.run(bindings, options);
    } finally {
      this.#idle.push(entry);
      this.#trim();
    }
  }

  [Symbol.dispose](): void {
    for (const entry of this.#idle.splice(0)) discard(entry);
  }

  /** A program that ran bags of this kind, or a new one; where there are many of other kinds, the one that is idle longest. */
  #borrow(capacity: number, kind: unknown): Entry {
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

  #create(capacity: number, kind: unknown): Entry {
    const workspace = new Workspace(this.#backend);
    try {
      const executable = this.#backend.prepare(this.#make(capacity, workspace));
      return { capacity, kind, workspace, executable };
    } catch (error) {
      workspace[Symbol.dispose]();
      throw error;
    }
  }

  #trim(): void {
    let bytes = this.#idle.reduce((sum, { workspace }) => sum + workspace.bytes, 0);
    while (bytes > IDLE_BYTES && this.#idle.length > 1) {
      const oldest = this.#idle.shift() as Entry;
      bytes -= oldest.workspace.bytes;
      discard(oldest);
    }
  }
}

function discard({ executable, workspace }: Entry): void {
  executable[Symbol.dispose]();
  workspace[Symbol.dispose]();
}

/**
 * Programs for batches, kept with their matrices: making both anew for each batch would cost more than small layers do.
 * Concurrent batches get programs of their own.
 */
import { DeviceError } from '../errors.ts';
import type { Backend, DeviceBuffer, Executable, Operation, PlacedBags } from './backend.ts';
import { ProgramLane } from './program-lane.ts';
import { Workspace } from './workspace.ts';

const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT;
/** Memory of idle programs, at most, or as much as those under way may take; the one that was used last stays whatever it takes. */
const IDLE_BYTES = 2 ** 32;
/** Parts of a batch that are under way at once: one comes over, one is computed, one goes back, one is made ready. */
export const PARTS_AT_ONCE = 4;
/** Samples of such a part, at least. */
const SMALLEST_PART = 2048;
/** Idle programs for one number of samples, at most: a request per user and one per candidate, of a few types, take turns. */
const MOST_KINDS = 4;
/** Idle programs, at most. */
const MOST_IDLE = 64;
/** Samples of the program whose matrices say what one sample takes. */
const MEASURED_SAMPLES = 64;

/** A program for batches of at most `capacity` samples, over matrices that it has for itself. */
export type MakeProgram = (capacity: number, workspace: Workspace) => readonly Operation[];

/** A program that is lent, until it is disposed. */
export interface LentProgram extends Disposable {
  readonly executable: Executable;
}

interface Entry extends LentProgram {
  readonly capacity: number;
  /** Of the bags that it ran last. */
  kind: unknown;
  /** Of its matrices. */
  readonly block: DeviceBuffer;
}

export class BatchPrograms implements Disposable {
  readonly #backend: Backend;
  readonly #make: MakeProgram;
  /** Idle ones, least recently used first. */
  readonly #idle: Entry[] = [];
  /** For batches that were announced. */
  readonly #lanes: ProgramLane[] = [];
  #sampleBytes: number | undefined;

  constructor(backend: Backend, make: MakeProgram) {
    this.#backend = backend;
    this.#make = make;
  }

  /** What the matrices of a program for so many samples take, about. */
  bytesFor(batchSize: number): number {
    this.#sampleBytes ??=
      (FLOAT_BYTES * this.#elementsFor(this.#backend.capacityFor(MEASURED_SAMPLES))) / MEASURED_SAMPLES;
    return Math.ceil(this.#sampleBytes * batchSize);
  }

  /**
   * Samples of the parts that a batch is to be run in, at most; undefined: it runs whole, since a program for it leaves room for others.
   */
  partSamples(batchSize: number): number | undefined {
    const { bytes } = this.#backend.admission.limits;
    if (batchSize <= SMALLEST_PART || this.bytesFor(batchSize) <= bytes) return undefined;
    const fitting = (bytes / PARTS_AT_ONCE / this.bytesFor(MEASURED_SAMPLES)) * MEASURED_SAMPLES;
    return Math.max(SMALLEST_PART, 2 ** Math.floor(Math.log2(Math.max(1, fitting))));
  }

  /**
   * A program for a batch with these bags: one that ran bags of this kind, or a new one; where there are many of other kinds, the
   * one that is idle longest.
   * @throws DeviceError OUT_OF_MEMORY.
   */
  borrow({ batchSize, kind }: Pick<PlacedBags, 'batchSize' | 'kind'>): LentProgram {
    const capacity = this.#backend.capacityFor(batchSize);
    const lane = this.#laneFor(capacity, kind);
    if (lane !== undefined)
      return { executable: lane.lend(capacity, kind), [Symbol.dispose]: () => lane.giveBack() };
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
      for (const entry of this.#idle.splice(0)) discard(entry);
      return this.#create(capacity, kind);
    }
  }

  /**
   * Takes memory for `atOnce` batches of at most `samples` samples, once: programs of all sizes share it. Batches beyond that take
   * memory of their own.
   * @throws DeviceError OUT_OF_MEMORY; nothing is taken then.
   */
  reserve(samples: number, atOnce: number): void {
    const capacity = this.#backend.capacityFor(samples);
    const elements = this.#elementsFor(capacity);
    const prepare = (capacity: number, block: DeviceBuffer) =>
      this.#backend.prepare(Workspace.over(block, (workspace) => this.#make(capacity, workspace)));
    const made: ProgramLane[] = [];
    try {
      for (let lane = 0; lane < atOnce; lane++)
        made.push(new ProgramLane(capacity, this.#backend.allocate(elements), prepare));
    } catch (error) {
      for (const lane of made) lane[Symbol.dispose]();
      throw error;
    }
    this.#lanes.push(...made);
  }

  [Symbol.dispose](): void {
    for (const entry of this.#idle.splice(0)) discard(entry);
    for (const lane of this.#lanes.splice(0)) lane[Symbol.dispose]();
  }

  /** A lane that is idle; one that has the program already, if there is. */
  #laneFor(capacity: number, kind: unknown): ProgramLane | undefined {
    const fitting = this.#lanes.filter((lane) => lane.isIdle && capacity <= lane.capacity);
    return fitting.find((lane) => lane.has(capacity, kind)) ?? fitting[0];
  }

  #takeBack(entry: Entry): void {
    this.#idle.push(entry);
    this.#trim();
  }

  #elementsFor(capacity: number): number {
    return Workspace.elementsOf(this.#backend.device, (workspace) => this.#make(capacity, workspace));
  }

  #create(capacity: number, kind: unknown): Entry {
    const { block, made } = Workspace.of(this.#backend, (workspace) => this.#make(capacity, workspace));
    try {
      const executable = this.#backend.prepare(made);
      const entry: Entry = {
        capacity,
        kind,
        block,
        executable,
        [Symbol.dispose]: () => this.#takeBack(entry),
      };
      return entry;
    } catch (error) {
      block[Symbol.dispose]();
      throw error;
    }
  }

  #trim(): void {
    let elements = this.#idle.reduce((sum, { block }) => sum + block.length, 0);
    const most = Math.max(IDLE_BYTES, this.#backend.admission.limits.bytes);
    while (this.#idle.length > MOST_IDLE || (elements * FLOAT_BYTES > most && this.#idle.length > 1)) {
      const oldest = this.#idle.shift() as Entry;
      elements -= oldest.block.length;
      discard(oldest);
    }
  }
}

function discard({ executable, block }: Entry): void {
  executable[Symbol.dispose]();
  block[Symbol.dispose]();
}

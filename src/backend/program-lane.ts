/**
 * Programs for batches of all sizes over the same memory, one of them at a time. A server's batches have another size each time:
 * programs with memory of their own would take it many times over, or be made anew, for which devices stop.
 */
import { at } from '../at.ts';
import type { DeviceBuffer, Executable } from './backend.ts';

/** A program for batches of at most `capacity` samples. */
interface LaneProgram {
  readonly capacity: number;
  /** Of the bags that it ran last. */
  kind: unknown;
  readonly executable: Executable;
}

/** Programs of one capacity: bags of other kinds take other launches. */
const MOST_KINDS = 4;
/** Programs in all. */
const MOST_PROGRAMS = 256;

export class ProgramLane implements Disposable {
  readonly #block: DeviceBuffer;
  readonly #prepare: (capacity: number, block: DeviceBuffer) => Executable;
  /** Least recently used first. */
  readonly #programs: LaneProgram[] = [];
  #isLent = false;
  #isDisposed = false;

  /** Takes `block` over, which holds the matrices of a program for `capacity` samples. */
  constructor(
    readonly capacity: number,
    block: DeviceBuffer,
    prepare: (capacity: number, block: DeviceBuffer) => Executable,
  ) {
    this.#block = block;
    this.#prepare = prepare;
  }

  get isIdle(): boolean {
    return !this.#isLent;
  }

  /** Whether it has a program that ran bags of this kind. */
  has(capacity: number, kind: unknown): boolean {
    return this.#programs.some((program) => program.capacity === capacity && program.kind === kind);
  }

  /** Lends a program for batches of `capacity` samples, until `giveBack`. @throws DeviceError OUT_OF_MEMORY. */
  lend(capacity: number, kind: unknown): Executable {
    const fitting = this.#programs.filter((program) => program.capacity === capacity);
    const known =
      fitting.find((program) => program.kind === kind) ??
      (fitting.length < MOST_KINDS ? undefined : fitting[0]);
    if (known !== undefined) this.#programs.splice(this.#programs.indexOf(known), 1);
    const executable = known?.executable ?? this.#prepare(capacity, this.#block);
    this.#programs.push({ capacity, kind, executable });
    if (this.#programs.length > MOST_PROGRAMS)
      at(this.#programs.splice(0, 1), 0).executable[Symbol.dispose]();
    this.#isLent = true;
    return executable;
  }

  giveBack(): void {
    this.#isLent = false;
    if (this.#isDisposed) this.#giveMemoryBack();
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    if (!this.#isLent) this.#giveMemoryBack();
  }

  #giveMemoryBack(): void {
    for (const { executable } of this.#programs.splice(0)) executable[Symbol.dispose]();
    this.#block[Symbol.dispose]();
  }
}

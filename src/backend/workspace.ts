/**
 * Device memory for intermediate results, kept between batches: allocating fresh pages for each batch would cost more
 * than small layers do. Concurrent batches get buffers of their own.
 */
import { type Backend, type DeviceBuffer, type Matrix, matrix } from './backend.ts';

export class WorkspacePool implements Disposable {
  readonly #backend: Backend;
  /** Idle buffers, smallest first. */
  readonly #idle: DeviceBuffer[] = [];

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  /** An empty workspace; dispose it to give its matrices back. */
  open(): Workspace {
    return new Workspace(this);
  }

  /** The smallest idle buffer of at least `length` and at most twice that, or a new one. @throws DeviceError OUT_OF_MEMORY. */
  borrow(length: number): DeviceBuffer {
    const fit = this.#idle.findIndex((buffer) => buffer.length >= length);
    const candidate = this.#idle[fit];
    if (candidate === undefined || candidate.length > 2 * length + 1024)
      return this.#backend.allocate(length);
    this.#idle.splice(fit, 1);
    return candidate;
  }

  giveBack(buffer: DeviceBuffer): void {
    const after = this.#idle.findIndex((idle) => idle.length >= buffer.length);
    this.#idle.splice(after < 0 ? this.#idle.length : after, 0, buffer);
    // Batches of ever new sizes must not pile up buffers that nobody fits.
    if (this.#idle.length > MAX_IDLE_BUFFERS) this.#idle.shift()?.[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    for (const buffer of this.#idle.splice(0)) buffer[Symbol.dispose]();
  }
}

const MAX_IDLE_BUFFERS = 64;

/** The matrices of one batch. */
export class Workspace implements Disposable {
  readonly #pool: WorkspacePool;
  readonly #taken: DeviceBuffer[] = [];

  constructor(pool: WorkspacePool) {
    this.#pool = pool;
  }

  /** An uninitialised [rows, cols] matrix. */
  matrix(rows: number, cols: number): Matrix {
    const buffer = this.#pool.borrow(rows * cols);
    this.#taken.push(buffer);
    return matrix(buffer, rows, cols);
  }

  [Symbol.dispose](): void {
    for (const buffer of this.#taken.splice(0)) this.#pool.giveBack(buffer);
  }
}

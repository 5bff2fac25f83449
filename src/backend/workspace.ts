/** The matrices of a program that runs again and again: one block of device memory. */
import type { DeviceDescription } from '../device.ts';
import {
  type Backend,
  type DeviceBuffer,
  elementBytes,
  type Matrix,
  matrix,
  type PooledFormat,
  type PooledMatrix,
  packedBytes,
} from './backend.ts';

const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT;
/** Rows begin at multiples of so many elements: 16 bytes of float32. */
const ROW_ELEMENTS = 4;
/** Matrices begin at multiples of so many elements: 256 bytes of float32, as memory that a GPU allocates does. */
const MATRIX_ELEMENTS = 64;

/** Takes matrices of a workspace, always the same ones in the same order. */
export type TakeMatrices<T> = (workspace: Workspace) => T;

export class Workspace {
  readonly #buffer: DeviceBuffer;
  #taken = 0;

  private constructor(buffer: DeviceBuffer) {
    this.#buffer = buffer;
  }

  /** float32 elements of the block that holds all matrices that `take` takes. Allocates nothing. */
  static elementsOf(device: DeviceDescription, take: TakeMatrices<unknown>): number {
    const measuring = new Workspace({ device, length: Number.MAX_SAFE_INTEGER, [Symbol.dispose]() {} });
    take(measuring);
    return measuring.#taken;
  }

  /** The block, and what `take` made of the matrices in it. `take` is called twice. @throws DeviceError OUT_OF_MEMORY. */
  static of<T>(backend: Backend, take: TakeMatrices<T>): { readonly block: DeviceBuffer; readonly made: T } {
    const block = backend.allocate(Workspace.elementsOf(backend.device, take));
    try {
      return { block, made: take(new Workspace(block)) };
    } catch (error) {
      block[Symbol.dispose]();
      throw error;
    }
  }

  /** What `take` makes of matrices in a block that is there, and stays the caller's. @throws TypeError for one that is too small. */
  static over<T>(block: DeviceBuffer, take: TakeMatrices<T>): T {
    return take(new Workspace(block));
  }

  /** An uninitialised [rows, cols] matrix, its rows aligned for vector loads. */
  matrix(rows: number, cols: number): Matrix {
    return this.#strided(rows, cols, Math.ceil(cols / ROW_ELEMENTS) * ROW_ELEMENTS);
  }

  /** One without gaps between rows, as arrays of the host are. */
  packed(rows: number, cols: number): Matrix {
    return this.#strided(rows, cols, cols);
  }

  /** An uninitialised [rows, cols] matrix of pooled rows. */
  pooled(rows: number, cols: number, format: PooledFormat): PooledMatrix {
    const start = this.#take(Math.ceil(packedBytes({ rows, cols, format }) / FLOAT_BYTES));
    const offset = (start * FLOAT_BYTES) / elementBytes({ format });
    return { buffer: this.#buffer, offset, rows, cols, stride: cols, format };
  }

  #strided(rows: number, cols: number, stride: number): Matrix {
    return matrix(this.#buffer, rows, cols, this.#take(rows * stride), stride);
  }

  /** Where the next `elements` begin. */
  #take(elements: number): number {
    const start = this.#taken;
    this.#taken += Math.ceil(elements / MATRIX_ELEMENTS) * MATRIX_ELEMENTS;
    if (this.#taken > this.#buffer.length)
      throw new TypeError(`matrices of ${this.#taken} elements in a block of ${this.#buffer.length}`);
    return start;
  }
}

/** The matrices of a program that runs again and again: one block of device memory. */
import type { DeviceDescription, ElementFormat } from '../device.ts';
import {
  type Backend,
  type DeviceBuffer,
  elementBytes,
  type Matrix,
  matrix,
  packedBytes,
} from './backend.ts';

const FLOAT_BYTES = Float32Array.BYTES_PER_ELEMENT;
/** Rows begin at multiples of so many bytes. */
const ROW_BYTES = 16;
/** Matrices begin at multiples of so many elements of the block: 256 bytes, as memory that a GPU allocates does. */
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

  /** An uninitialised [rows, cols] matrix for one program's operations alone, its rows aligned for vector loads. */
  matrix(rows: number, cols: number, format: ElementFormat = 'float32'): Matrix {
    const rowElements = ROW_BYTES / elementBytes({ format });
    const stride = Math.ceil(cols / rowElements) * rowElements;
    return { ...this.#strided(rows, cols, stride, format), transient: true };
  }

  /** One without gaps between rows, as arrays of the host are. */
  packed(rows: number, cols: number, format: ElementFormat = 'float32'): Matrix {
    return this.#strided(rows, cols, cols, format);
  }

  #strided(rows: number, cols: number, stride: number, format: ElementFormat): Matrix {
    const start = this.#take(Math.ceil(packedBytes({ rows, cols: stride, format }) / FLOAT_BYTES));
    const offset = (start * FLOAT_BYTES) / elementBytes({ format });
    return { ...matrix(this.#buffer, rows, cols, offset, stride), format };
  }

  /** Where the next `elements` of the block begin. */
  #take(elements: number): number {
    const start = this.#taken;
    this.#taken += Math.ceil(elements / MATRIX_ELEMENTS) * MATRIX_ELEMENTS;
    if (this.#taken > this.#buffer.length)
      throw new TypeError(`matrices of ${this.#taken} elements in a block of ${this.#buffer.length}`);
    return start;
  }
}

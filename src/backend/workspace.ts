/** The matrices of a program that runs again and again. */
import {
  type Backend,
  type DeviceBuffer,
  type Matrix,
  matrix,
  type PooledFormat,
  type PooledMatrix,
  packedBytes,
} from './backend.ts';

/** Rows begin at multiples of so many elements: 16 bytes of float32. */
const ROW_ELEMENTS = 4;

export class Workspace implements Disposable {
  readonly #backend: Backend;
  readonly #buffers: DeviceBuffer[] = [];

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  /** Device memory of all matrices. */
  get bytes(): number {
    return this.#buffers.reduce((sum, { length }) => sum + length * Float32Array.BYTES_PER_ELEMENT, 0);
  }

  /** An uninitialised [rows, cols] matrix, its rows aligned for vector loads. @throws DeviceError OUT_OF_MEMORY. */
  matrix(rows: number, cols: number): Matrix {
    return this.#strided(rows, cols, Math.ceil(cols / ROW_ELEMENTS) * ROW_ELEMENTS);
  }

  /** One without gaps between rows, as arrays of the host are. @throws DeviceError OUT_OF_MEMORY. */
  packed(rows: number, cols: number): Matrix {
    return this.#strided(rows, cols, cols);
  }

  /** An uninitialised [rows, cols] matrix of pooled rows. @throws DeviceError OUT_OF_MEMORY. */
  pooled(rows: number, cols: number, format: PooledFormat): PooledMatrix {
    const bytes = packedBytes({ rows, cols, format });
    const buffer = this.#backend.allocate(Math.ceil(bytes / Float32Array.BYTES_PER_ELEMENT));
    this.#buffers.push(buffer);
    return { buffer, offset: 0, rows, cols, stride: cols, format };
  }

  #strided(rows: number, cols: number, stride: number): Matrix {
    const buffer = this.#backend.allocate(rows * stride);
    this.#buffers.push(buffer);
    return matrix(buffer, rows, cols, 0, stride);
  }

  [Symbol.dispose](): void {
    for (const buffer of this.#buffers.splice(0)) buffer[Symbol.dispose]();
  }
}

/** The matrices of a program that runs again and again. */
import {
  type Backend,
  type DeviceBuffer,
  elementBytes,
  type Matrix,
  matrix,
  type PooledFormat,
  type PooledMatrix,
} from './backend.ts';

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

  /** An uninitialised [rows, cols] matrix. @throws DeviceError OUT_OF_MEMORY. */
  matrix(rows: number, cols: number): Matrix {
    const buffer = this.#backend.allocate(rows * cols);
    this.#buffers.push(buffer);
    return matrix(buffer, rows, cols);
  }

  /** An uninitialised [rows, cols] matrix of pooled rows. @throws DeviceError OUT_OF_MEMORY. */
  pooled(rows: number, cols: number, format: PooledFormat): PooledMatrix {
    const bytes = rows * cols * elementBytes({ format });
    const buffer = this.#backend.allocate(Math.ceil(bytes / Float32Array.BYTES_PER_ELEMENT));
    this.#buffers.push(buffer);
    return { buffer, offset: 0, rows, cols, stride: cols, format };
  }

  [Symbol.dispose](): void {
    for (const buffer of this.#buffers.splice(0)) buffer[Symbol.dispose]();
  }
}

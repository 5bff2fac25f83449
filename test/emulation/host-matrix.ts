/** What the tests of the dense kernels share: matrices amid sentinels, launches of the emulated kernels. */
import assert from 'node:assert/strict';
import { denseSources, type PackWidth } from '../../src/backend/cuda/dense/dense-source.ts';
import { UNSCALED_PRECISIONS } from '../../src/device.ts';
import type { LaunchShape } from '../../src/ffi/cuda-structs.ts';
import { addressOf, type Emulator, emulate, type HostArray } from './emulator.ts';

/** Compiles the kernels of `family` in every precision. */
export function emulateDense(family: RegExp): Promise<Emulator> {
  const sources = UNSCALED_PRECISIONS.flatMap((precision) => denseSources(precision, true));
  const chosen = sources.filter(({ id }) => family.test(id));
  return emulate([...new Map(chosen.map((source) => [source.id, source])).values()]);
}

const SENTINEL = 12345.5;

/** A float32 matrix that begins at an element `offset` of an array which is aligned to 16 bytes. */
export class HostMatrix {
  readonly array: Float32Array;

  constructor(
    readonly rows: number,
    readonly cols: number,
    readonly stride: number,
    readonly offset: number,
    values?: Float32Array,
  ) {
    this.array = new Float32Array(new ArrayBuffer(4 * (offset + rows * stride + 4))).fill(SENTINEL);
    assert.equal(addressOf(this.array) % 16n, 0n);
    if (values !== undefined)
      for (let r = 0; r < rows; r++)
        this.array.set(values.subarray(r * cols, (r + 1) * cols), offset + r * stride);
  }

  get address(): bigint {
    return addressOf(this.array) + BigInt(4 * this.offset);
  }

  /** The values; what stands beside them must not have changed. */
  values(): Float32Array {
    const values = new Float32Array(this.rows * this.cols);
    this.array.forEach((x, i) => {
      const at = i - this.offset;
      const [row, col] = [Math.floor(at / this.stride), at - Math.floor(at / this.stride) * this.stride];
      if (at >= 0 && row < this.rows && col < this.cols) values[row * this.cols + col] = x;
      else assert.equal(x, SENTINEL, `element ${i}, beside the matrix, was written`);
    });
    return values;
  }
}

/** A matrix whose rows are aligned for `width`, and for no more. */
export function framed(width: PackWidth, rows: number, cols: number, values?: Float32Array): HostMatrix {
  const stride = width === 4 ? Math.ceil(cols / 4) * 4 + 4 : cols + 3;
  return new HostMatrix(rows, cols, stride, width === 4 ? 4 : 1, values);
}

export function launch(
  emulator: Emulator,
  kernel: string,
  { grid, block }: LaunchShape,
  params: BigInt64Array,
  reads: readonly HostArray[],
  writes: readonly HostArray[],
  backwards = false,
): void {
  if (grid[0] === 0) return;
  const shape = { grid: [grid[0], grid[1]], block: [block[0], block[1]] } as const;
  emulator.launch(kernel, { ...shape, params, reads, writes, backwards });
}

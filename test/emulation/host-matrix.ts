/** What the tests of the dense kernels share: matrices amid sentinels, launches of the emulated kernels. */
import assert from 'node:assert/strict';
import { denseSources, type PackWidth, widestPack } from '../../src/backend/cuda/dense/dense-source.ts';
import { type ElementFormat, UNSCALED_PRECISIONS } from '../../src/device.ts';
import type { LaunchShape } from '../../src/ffi/cuda-structs.ts';
import { decoded, type Elements, encoded, newElements } from '../support/elements.ts';
import { addressOf, type Emulator, emulate, type HostArray } from './emulator.ts';

/** Compiles the kernels of `family` in every precision. */
export function emulateDense(family: RegExp): Promise<Emulator> {
  const sources = UNSCALED_PRECISIONS.flatMap((precision) => denseSources(precision, true));
  const chosen = sources.filter(({ id }) => family.test(id));
  return emulate([...new Map(chosen.map((source) => [source.id, source])).values()]);
}

const SENTINEL = 12344;

/** A matrix that begins at an element `offset` of an array which is aligned to 16 bytes. */
export class HostMatrix {
  readonly array: Elements;

  constructor(
    readonly rows: number,
    readonly cols: number,
    readonly stride: number,
    readonly offset: number,
    values?: Float32Array,
    readonly format: ElementFormat = 'float32',
  ) {
    this.array = newElements(format, offset + rows * stride + 8).fill(encoded(format, SENTINEL));
    assert.equal(addressOf(this.array) % 16n, 0n);
    values?.forEach((x, i) => {
      this.array[offset + Math.floor(i / cols) * stride + (i % cols)] = encoded(format, x);
    });
  }

  get address(): bigint {
    return addressOf(this.array) + BigInt(this.array.BYTES_PER_ELEMENT * this.offset);
  }

  /** The values, rounded to the format; `padding` columns behind them must be zeros, and what else stands beside them as it was. */
  values(padding = 0): Float32Array {
    const values = new Float32Array(this.rows * this.cols);
    this.array.forEach((x, i) => {
      const at = i - this.offset;
      const [row, col] = [Math.floor(at / this.stride), at - Math.floor(at / this.stride) * this.stride];
      const inside = at >= 0 && row < this.rows;
      if (inside && col < this.cols) values[row * this.cols + col] = decoded(this.format, x);
      else if (inside && col < this.cols + padding) assert.equal(x, 0, `element ${i} of the padding`);
      else assert.equal(x, encoded(this.format, SENTINEL), `element ${i}, beside the matrix, was written`);
    });
    return values;
  }
}

/** A matrix whose rows are aligned for `width`, and for no more. */
export function framed(
  width: PackWidth,
  rows: number,
  cols: number,
  values?: Float32Array,
  format: ElementFormat = 'float32',
): HostMatrix {
  const stride = width === 1 ? cols + 3 : Math.ceil(cols / width) * width + width;
  return new HostMatrix(rows, cols, stride, width, values, format);
}

/** How many elements at a time kernels may take of rows of `cols` elements. */
export function widthsFor(cols: number, ...formats: readonly ElementFormat[]): PackWidth[] {
  const widest = widestPack(...formats);
  return cols % widest === 0 ? [1, widest] : [1];
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

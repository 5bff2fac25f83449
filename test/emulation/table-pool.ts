/** Bags of one table pooled by a kernel that is launched table by table, on the host, and what they must come to. */
import assert from 'node:assert/strict';
import type { StandardBagParams } from '../../src/backend/cuda/embedding/standard-params.ts';
import {
  coveringGrid,
  DEFAULT_BLOCK,
  type StandardBagVariant,
  type TableKernelFamily,
  tableBagSource,
  tableVariantId,
} from '../../src/backend/cuda/embedding/standard-source.ts';
import { TABLE_FAMILIES } from '../../src/backend/cuda/embedding/table-families.ts';
import { deviceRowBytes } from '../../src/backend/cuda/rows/row-layout.ts';
import type { Bags, EmbeddingTable } from '../../src/embedding/bag.ts';
import { assertSameValues } from '../support/compare.ts';
import { deviceRows, expectedOf } from '../support/cuda-bags.ts';
import { addressOf, type Emulator, type HostArray, type LaunchCounts } from './emulator.ts';

export const SENTINEL = 12345.5;
/** In notes: not written. */
export const UNWRITTEN = -77n;

export interface Shape {
  readonly block?: { readonly x: number; readonly y: number };
  readonly grid?: number;
  readonly stop?: BigInt64Array;
}

export interface Pooled {
  /** [B, dim]. */
  readonly values: Float32Array;
  readonly counts: LaunchCounts;
  /** What the artifact's kernel notes beside: [lookups], [B]. */
  readonly offsetToBag: BigInt64Array;
  readonly bagSize: BigInt64Array;
}

/** The kernels of a family, compiled for the host. */
export class TableKernelsOnHost {
  readonly #emulator: Emulator;
  readonly #family: TableKernelFamily;

  constructor(emulator: Emulator, family: TableKernelFamily) {
    this.#emulator = emulator;
    this.#family = family;
  }

  /** Launches a variant on one table; the output lies inside a frame of sentinels. */
  pool(
    variant: StandardBagVariant,
    table: EmbeddingTable,
    bags: Bags,
    batch: number,
    shape: Shape = {},
  ): Pooled {
    const { dim, rows, rowWeights } = table;
    const { block = DEFAULT_BLOCK, grid = coveringGrid({ dim, batch, block }), stop } = shape;
    const stride = dim + 3;
    const output = new Float32Array(batch * stride + 1).fill(SENTINEL);
    const offsetToBag = new BigInt64Array(bags.indices.length).fill(UNWRITTEN);
    const bagSize = new BigInt64Array(batch).fill(UNWRITTEN);
    const weight = deviceRows(table) as HostArray;
    const arrays = [weight, bags.indices, bags.offsets, bags.weights, rowWeights, stop];
    const address = (array: HostArray | undefined) => (array === undefined ? 0n : addressOf(array));
    const launch: StandardBagParams = {
      rows: addressOf(weight),
      rowStrideBytes: deviceRowBytes(table),
      rowCount: rows,
      dim,
      indices: addressOf(bags.indices),
      offsets: addressOf(bags.offsets),
      lookups: bags.indices.length,
      offsetCount: bags.offsets.length,
      weights: address(bags.weights),
      rowWeights: address(rowWeights),
      paddingIndex: table.paddingIdx ?? -1,
      output: addressOf(output) + 4n,
      outputStride: stride,
      batch,
      stop: address(stop),
    };
    const notes = { offsetToBag: addressOf(offsetToBag), bagSize: addressOf(bagSize) };
    const counts = this.#emulator.launch(tableBagSource(this.#family, variant).kernel, {
      grid: [grid],
      block: [block.x, block.y],
      params: TABLE_FAMILIES[this.#family].encode(launch, () => notes as never),
      reads: arrays.filter((array) => array !== undefined),
      writes: [output, offsetToBag, bagSize].filter(({ length }) => length > 0),
    });
    const values = new Float32Array(batch * dim);
    assert.equal(output[0], SENTINEL);
    for (let b = 0; b < batch; b++) {
      values.set(output.subarray(1 + b * stride, 1 + b * stride + dim), b * dim);
      const beside = output.subarray(1 + b * stride + dim, 1 + (b + 1) * stride);
      assert.ok(
        beside.every((x) => x === SENTINEL),
        `bag ${b}: something was written beside the output`,
      );
    }
    return { values, counts, offsetToBag, bagSize };
  }

  /** The same, and compares the pooled rows with the reference, bit for bit. */
  check(
    variant: StandardBagVariant,
    table: EmbeddingTable,
    bags: Bags,
    batch: number,
    shape?: Shape,
  ): Pooled {
    const pooled = this.pool(variant, table, bags, batch, shape);
    assertSameValues(pooled.values, expectedOf(table, bags, batch), tableVariantId(this.#family, variant));
    return pooled;
  }
}

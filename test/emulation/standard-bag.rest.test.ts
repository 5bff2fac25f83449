/** Every variant of the standard CUDA kernel on the host, against the reference, bit for bit. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import {
  PLAIN_VARIANT,
  standardBagSource,
  variantId,
} from '../../src/backend/cuda/embedding/standard-source.ts';
import type { EmbeddingTable } from '../../src/embedding/bag.ts';
import { bagsOf, integers } from '../support/cases.ts';
import { assertSameValues } from '../support/compare.ts';
import { bagsFor, everyLength, expectedOf, tableFor } from '../support/cuda-bags.ts';
import {
  ALL_VARIANTS,
  COMBINED_VARIANTS,
  PREFETCH_VARIANTS,
  prefetching,
  SEMANTIC_VARIANTS,
} from '../support/cuda-variants.ts';
import { Random } from '../support/random.ts';
import { emulate, refuseEmulation } from './emulator.ts';
import { SENTINEL, TableKernelsOnHost } from './table-pool.ts';

const skip = refuseEmulation();
let host: TableKernelsOnHost;

before(async () => {
  if (skip === undefined)
    host = new TableKernelsOnHost(await emulate(ALL_VARIANTS.map(standardBagSource)), 'standard');
});

const pool = (...given: Parameters<TableKernelsOnHost['pool']>) => host.pool(...given);
const check = (...given: Parameters<TableKernelsOnHost['check']>) => host.check(...given);

for (const variant of ALL_VARIANTS) {
  test(`${variantId(variant)}: bags of every length, odd dims`, { skip }, () => {
    const random = new Random(7);
    const lengths = everyLength(variant);
    const dims = COMBINED_VARIANTS.includes(variant) ? [1, 40] : [1, 3, 31, 32, 33, 130];
    for (const dim of dims) {
      const table = tableFor(random, variant, dim === 1 ? 1 : 37, dim);
      const bags = bagsFor(random, variant, table.rows, lengths, dim % 2 === 0);
      check(variant, table, bags, lengths.length);
    }
  });
}

test('wide rows of features: dims up to 1000', { skip }, () => {
  const random = new Random(8);
  for (const variant of [
    ...SEMANTIC_VARIANTS.slice(0, 7),
    ...PREFETCH_VARIANTS.filter((_, i) => i % 8 === 5),
  ]) {
    for (const dim of [127, 256, 257, 512, 1000]) {
      check(variant, tableFor(random, variant, 9, dim), bagsFor(random, variant, 9, [11, 0, 3]), 3);
    }
  }
});

test('no lookups, no bags, all bags empty, one bag with everything', { skip }, () => {
  const random = new Random(9);
  for (const variant of [PLAIN_VARIANT, ...PREFETCH_VARIANTS.filter((_, i) => i % 4 === 1)]) {
    const table = tableFor(random, variant, 20, 35);
    for (const lengths of [[], [0], [0, 0, 0], [150], [0, 150, 0]]) {
      for (const endOffset of [false, true]) {
        check(variant, table, bagsFor(random, variant, 20, lengths, endOffset), lengths.length);
      }
    }
  }
});

test('any grid and block give the same bits', { skip }, () => {
  const random = new Random(10);
  for (const variant of [PLAIN_VARIANT, ...PREFETCH_VARIANTS.filter((_, i) => i % 8 === 3)]) {
    const table = tableFor(random, variant, 50, 70);
    const bags = bagsFor(random, variant, 50, [3, 9, 0, 14, 1, 4, 4]);
    for (const block of [
      { x: 32, y: 8 },
      { x: 64, y: 4 },
      { x: 128, y: 2 },
      { x: 32, y: 1 },
      { x: 7, y: 3 },
      { x: 1, y: 1 },
    ]) {
      for (const grid of [1, 2, 5, 40]) check(variant, table, bags, 7, { block, grid });
    }
  }
});

test('lookups after the end offset are not read: bad ones do no harm', { skip }, () => {
  const random = new Random(11);
  for (const variant of [PLAIN_VARIANT, ...PREFETCH_VARIANTS]) {
    const table = tableFor(random, variant, 10, 33);
    const lists = everyLength(variant).map((length) => Array.from({ length }, () => random.integer(0, 9)));
    const { indices, offsets } = bagsOf(lists, { endOffset: true });
    const bad = Array.from({ length: 40 }, () => 2n ** 31n - 1n);
    const pooled = pool(
      variant,
      table,
      { indices: integers([...indices, ...bad] as bigint[]), offsets },
      lists.length,
    );
    assertSameValues(
      pooled.values,
      expectedOf(table, { indices, offsets }, lists.length),
      variantId(variant),
    );
  }
});

test('each index and each element is read once, whatever the prefetch: nothing past a bag', { skip }, () => {
  const random = new Random(12);
  for (const variant of PREFETCH_VARIANTS) {
    const dim = 40;
    const table = tableFor(random, variant, 30, dim);
    const lengths = everyLength(variant);
    const bags = bagsFor(random, variant, 30, lengths, true);
    const { counts } = check(variant, table, bags, lengths.length);
    const lookups = bags.indices.length;
    assert.equal(counts.writes, lengths.length * dim);
    const plain = 2 * lengths.length * dim + 2 * lookups * dim;
    if (variant.prefetch?.into === 'l1') {
      // Features 0, 8, …, 32 ask, each for every lookup; the others read indices ahead at most once more.
      assert.equal(counts.prefetches, lookups * 5, variantId(variant));
      assert.ok(counts.reads >= plain && counts.reads <= plain + lookups * dim, variantId(variant));
    } else {
      assert.equal(counts.reads, plain, variantId(variant));
      assert.equal(counts.prefetches, 0);
    }
  }
});

test('bad indices and offsets are repaired as the reference does', { skip }, () => {
  const random = new Random(13);
  const repairing = ALL_VARIANTS.filter(({ repair }) => repair);
  for (const variant of repairing) {
    const table = tableFor(random, variant, 6, 34);
    const is64 = variant.index === 'int64';
    const bad = is64
      ? [-1n, 6n, 2n ** 32n, 2n ** 32n + 1n, 2n ** 63n - 1n, -(2n ** 63n)]
      : [-1n, 6n, 2n ** 31n - 1n];
    const indices = integers([1n, ...bad, 2n, 3n, 5n, 0n], variant.index);
    const far = is64 ? 2n ** 40n : 2n ** 30n;
    for (const offsets of [
      [0n, 3n, 5n],
      [0n, 5n, 3n, 100n],
      [2n, 1n, -7n],
      [far, -far, far],
      [-far, far, 4n, 2n],
    ]) {
      check(variant, table, { indices, offsets: integers(offsets, variant.offset) }, 3);
    }
  }
});

test('NaN, infinities, signed zeros and subnormals', { skip }, () => {
  const special = [
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    -0,
    0,
    2 ** -149,
    -(2 ** -149),
    3e38,
  ];
  const lists = special.flatMap((_, i) => [[i], ...special.map((_, j) => [i, j]), [7, i, 7, 5]]);
  const table = (mode: 'sum' | 'mean' | 'max'): EmbeddingTable => ({
    name: 'special',
    weight: { dtype: 'float32', shape: [8, 1], data: Float32Array.from(special) },
    rows: 8,
    dim: 1,
    rowFormat: 'float32',
    mode,
  });
  const plain = SEMANTIC_VARIANTS.filter(
    ({ rowFormat, weights, padding, pruned, wideRows, repair, index, offset }) => {
      const is64 = index === 'int64' && offset === 'int64';
      return (
        rowFormat === 'float32' && weights === 'none' && is64 && !padding && !pruned && !wideRows && !repair
      );
    },
  );
  assert.equal(plain.length, 3);
  for (const variant of [...plain, prefetching('registers', 3), prefetching('pipelined', 2)]) {
    check(variant, table(variant.pooling), bagsOf(lists), lists.length);
  }
});

test('a stop word that is not 0 stops everything before it starts', { skip }, () => {
  const random = new Random(14);
  for (const variant of [PLAIN_VARIANT, prefetching('shared', 5)]) {
    const table = tableFor(random, variant, 6, 34);
    const bags = bagsFor(random, variant, 6, [3, 4]);
    check(variant, table, bags, 2, { stop: BigInt64Array.of(0n) });
    const { values } = pool(variant, table, { ...bags, indices: integers([99n, 99n]) }, 2, {
      stop: BigInt64Array.of(1n),
    });
    assert.ok(values.every((x) => x === SENTINEL));
  }
});

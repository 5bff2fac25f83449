/** The reference itself, against values worked out by hand and torch's documentation. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Bags, EmbeddingTable, PoolingMode } from '../../src/embedding/bag.ts';
import { referenceCheckBags, referenceEmbeddingBags } from '../../src/embedding/reference.ts';
import { bagsOf, integers, rowsTensor } from '../support/cases.ts';

/** Rows [1, 10], [2, −20], [4, 40], [8, −80]. */
function table(mode: PoolingMode, more: Partial<EmbeddingTable> = {}): EmbeddingTable {
  const values = new Float32Array([1, 10, 2, -20, 4, 40, 8, -80]);
  return {
    name: 'small',
    weight: rowsTensor(values, 4, 2, 'float32'),
    rows: 4,
    dim: 2,
    rowFormat: 'float32',
    mode,
    ...more,
  };
}

function pool(tables: EmbeddingTable | EmbeddingTable[], bags: Bags | Bags[], batchSize: number): number[] {
  const batch = { batchSize, bags: [bags].flat() };
  return Array.from(referenceEmbeddingBags([tables].flat(), batch).pooled);
}

const LISTS = [[0, 1, 3], [], [2, 2], [3]];

test('sum, mean and max', () => {
  const bags = bagsOf(LISTS);
  assert.deepEqual(pool(table('sum'), bags, 4), [11, -90, 0, 0, 8, 80, 8, -80]);
  assert.deepEqual(pool(table('mean'), bags, 4), [11 / 3, -30, 0, 0, 4, 40, 8, -80]);
  // The maximum of the last bag is negative: max does not start at 0.
  assert.deepEqual(pool(table('max'), bags, 4), [8, 10, 0, 0, 4, 40, 8, -80]);
});

test('the padding row is left out of the reduction and of the mean’s count', () => {
  const bags = bagsOf(LISTS);
  assert.deepEqual(pool(table('sum', { paddingIdx: 3 }), bags, 4), [3, -10, 0, 0, 8, 80, 0, 0]);
  assert.deepEqual(pool(table('mean', { paddingIdx: 3 }), bags, 4), [1.5, -5, 0, 0, 4, 40, 0, 0]);
  assert.deepEqual(pool(table('max', { paddingIdx: 0 }), bags, 4), [8, -20, 0, 0, 4, 40, 8, -80]);
});

test('a pruned row adds nothing, and counts for the mean', () => {
  const bags = bagsOf([[0, -1, 3], [-1], [-1, 2, 2], [3, -1]]);
  const pruned = { pruned: true };
  assert.deepEqual(pool(table('sum', pruned), bags, 4), [9, -70, 0, 0, 8, 80, 8, -80]);
  assert.deepEqual(pool(table('mean', pruned), bags, 4), [3, -70 / 3, 0, 0, 8 / 3, 80 / 3, 4, -40]);
  assert.deepEqual(pool(table('mean', { ...pruned, paddingIdx: 3 }), bags, 4), [
    ...[0.5, 5, 0, 0],
    ...[8 / 3, 80 / 3, 0, 0],
  ]);
  assert.deepEqual(pool(table('max', pruned), bags, 4), [8, 10, 0, 0, 4, 40, 8, -80]);
  assert.throws(() => pool(table('sum'), bags, 4), { code: 'INDEX_OUT_OF_RANGE', hint: /pruned/ });
  assert.throws(() => pool(table('sum', pruned), bagsOf([[-2]]), 1), { message: /indices\[0\] = -2/ });
});

test('per-sample weights and row weights', () => {
  const weights = new Float32Array([1, 10, 0.5, 2, 3, -1]);
  assert.deepEqual(pool(table('sum'), bagsOf(LISTS, { weights }), 4), [25, -230, 0, 0, 20, 200, -8, 80]);
  const rowWeights = new Float32Array([1, 2, 0, -1]);
  assert.deepEqual(pool(table('sum', { rowWeights }), bagsOf(LISTS), 4), [-3, 50, 0, 0, 0, 0, -8, 80]);
});

test('tables side by side, B and B + 1 offsets, int32 and int64', () => {
  const bags = [
    bagsOf([[0], [1]], { endOffset: true, index: 'int32' }),
    bagsOf([[], [3, 0]], { offset: 'int32' }),
  ];
  assert.deepEqual(pool([table('sum'), table('max')], bags, 2), [1, 10, 0, 0, 2, -20, 8, 10]);
});

test('torch’s example of EmbeddingBag: offsets [0, 4] cut eight indices into two bags', () => {
  // torch.nn.EmbeddingBag(10, 3, mode='sum') on input [1,2,4,5,4,3,2,9]: F.embedding_bag's documentation. Row r is r, 2r, 3r.
  const values = Float32Array.from({ length: 30 }, (_, i) => Math.floor(i / 3) * ((i % 3) + 1));
  const ten = {
    ...table('sum'),
    weight: rowsTensor(values, 10, 3, 'float32'),
    rows: 10,
    dim: 3,
  };
  const bags = { indices: integers([1, 2, 4, 5, 4, 3, 2, 9]), offsets: integers([0, 4]) };
  assert.deepEqual(pool(ten, bags, 2), [12, 24, 36, 18, 36, 54]);
  assert.deepEqual(pool({ ...ten, mode: 'mean' }, bags, 2), [3, 6, 9, 4.5, 9, 13.5]);
});

test('torch’s example with padding_idx=2: [2, 2, 2, 2, 4, 3, 2, 9] in bags [0, 4]', () => {
  // From torch.nn.EmbeddingBag's documentation; the first bag is padding alone and gives zeros.
  const values = Float32Array.from({ length: 30 }, (_, i) => Math.floor(i / 3) * ((i % 3) + 1));
  const padded: EmbeddingTable = {
    ...table('sum'),
    weight: rowsTensor(values, 10, 3, 'float32'),
    rows: 10,
    dim: 3,
    paddingIdx: 2,
  };
  const bags = { indices: integers([2, 2, 2, 2, 4, 3, 2, 9]), offsets: integers([0, 4]) };
  assert.deepEqual(pool(padded, bags, 2), [0, 0, 0, 16, 32, 48]);
});

test('max keeps `w > m ? w : m`: NaN first stays, NaN later does not count', () => {
  const values = new Float32Array([Number.NaN, 1, 2]);
  const nan = { ...table('max'), weight: rowsTensor(values, 3, 1, 'float32'), rows: 3, dim: 1 };
  assert.deepEqual(
    pool(
      nan,
      bagsOf([
        [0, 1],
        [1, 0],
        [1, 0, 2],
      ]),
      3,
    ),
    [Number.NaN, 1, 2],
  );
});

test('float32 rounds after every addition, in index order; float64 does not', () => {
  const values = new Float32Array([2 ** 24, 1]);
  const large = { ...table('sum'), weight: rowsTensor(values, 2, 1, 'float32'), rows: 2, dim: 1 };
  const batch = {
    batchSize: 2,
    bags: [
      bagsOf([
        [0, 1, 1],
        [1, 1, 0],
      ]),
    ],
  };
  const both = (['float64', 'float32'] as const).map((accumulate) =>
    Array.from(referenceEmbeddingBags([large], batch, 'error', accumulate).pooled),
  );
  assert.deepEqual(both, [
    [2 ** 24 + 2, 2 ** 24 + 2],
    [2 ** 24, 2 ** 24 + 2],
  ]);
});

test('repairs: a bad index reads row 0, bounds are clamped', () => {
  const bad = { indices: integers([1, -1, 9, 3]), offsets: integers([1, -5, 99, 2]) };
  const repaired = referenceEmbeddingBags([table('sum')], { batchSize: 4, bags: [bad] }, 'warn');
  // Bags: [1, max(−5, 1)) is empty; [0, 4) is everything; [4, max(2, 4)) is empty; [2, 4) is rows 0 and 3.
  assert.deepEqual(Array.from(repaired.pooled), [0, 0, 12, -80, 0, 0, 9, -70]);
  const { badIndices, badOffsets, first } = repaired.findings;
  assert.deepEqual({ badIndices, badOffsets }, { badIndices: 2, badOffsets: 4 });
  assert.equal(first?.message, 'table 0 (small): offsets[0] = 1, must be 0');
  const ignored = referenceEmbeddingBags([table('sum')], { batchSize: 4, bags: [bad] }, 'ignore');
  assert.deepEqual(ignored.pooled, repaired.pooled);
  assert.deepEqual(ignored.findings, { badIndices: 0, badOffsets: 0 });
});

test('what a check finds', () => {
  const check = (indices: (number | bigint)[], offsets: number[]) =>
    referenceCheckBags([table('sum')], {
      batchSize: offsets.length,
      bags: [{ indices: integers(indices), offsets: integers(offsets) }],
    });
  assert.deepEqual(check([0, 3], [0, 1]), { badIndices: 0, badOffsets: 0 });
  assert.equal(
    check([0, 4], [0, 1]).first?.message,
    'table 0 (small): indices[1] = 4 is not a row of [0, 4)',
  );
  assert.equal(
    check([0, 1], [0, 2, 1]).first?.message,
    'table 0 (small): offsets[2] = 1 is less than offsets[1] = 2',
  );
  assert.equal(
    check([0, 1], [0, 3]).first?.message,
    'table 0 (small): offsets[1] = 3 is past the end of 2 lookups',
  );
  const far = { indices: integers([2n ** 40n]), offsets: integers([0]) };
  assert.throws(() => pool(table('sum'), far, 1), {
    code: 'INDEX_OUT_OF_RANGE',
    message: 'table 0 (small): indices[0] = 1099511627776 is not a row of [0, 4)',
  });
});

test('tables outside host memory are refused', () => {
  const synthetic = { ...table('sum'), weight: { dtype: 'float32', shape: [4, 2], seed: 1 } as const };
  assert.throws(() => pool(synthetic, bagsOf([[0]]), 1), TypeError);
});

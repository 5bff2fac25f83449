/** What tables and batches are refused for, before any device sees them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BagBatch, bagFaultError, type EmbeddingTable, rowBytes } from '../../src/embedding/bag.ts';
import { checkBagShapes } from '../../src/embedding/check-bags.ts';
import { checkTable } from '../../src/embedding/check-tables.ts';
import { bagsOf, randomTable, rowsTensor } from '../support/cases.ts';
import { Random } from '../support/random.ts';

const random = new Random(1);
const table = randomTable(random, { name: 'users', rows: 4, dim: 3 });

test('checkTable accepts tables of every kind', () => {
  checkTable(table);
  checkTable({ ...table, paddingIdx: 0 });
  checkTable({ ...table, paddingIdx: 3, mode: 'max' });
  checkTable({ ...table, rowWeights: new Float32Array(4) });
  checkTable(randomTable(random, { rows: 1, dim: 1, rowFormat: 'bfloat16' }));
  checkTable({ ...table, weight: { dtype: 'float32', shape: [4, 3], seed: 1 } });
  checkTable({
    ...table,
    weight: { dtype: 'float32', shape: [4, 3], file: 'f', byteOffset: 1, byteLength: 48 },
  });
});

test('checkTable refuses what does not fit, and names the table', () => {
  const refused: [string, Partial<EmbeddingTable>, string, RegExp][] = [
    ['no rows', { rows: 0 }, 'TENSOR_SHAPE', /at least one row/],
    ['half a row', { rows: 1.5 }, 'TENSOR_SHAPE', /at least one row/],
    ['no dim', { dim: 0 }, 'TENSOR_SHAPE', /dim of at least 1/],
    ['a dim of NaN', { dim: Number.NaN }, 'TENSOR_SHAPE', /dim of at least 1/],
    ['another row format', { rowFormat: 'float16' }, 'TENSOR_DTYPE', /weight is float32/],
    ['more rows than the weight', { rows: 5 }, 'TENSOR_SHAPE', /\[4,3\], expected \[5, 3\]/],
    ['another dim than the weight', { dim: 4 }, 'TENSOR_SHAPE', /expected \[4, 4\]/],
    ['a padding row past the end', { paddingIdx: 4 }, 'TENSOR_SHAPE', /padding index 4/],
    ['a negative padding row', { paddingIdx: -1 }, 'TENSOR_SHAPE', /padding index -1/],
    ['half a padding row', { paddingIdx: 0.5 }, 'TENSOR_SHAPE', /padding index/],
    ['too few row weights', { rowWeights: new Float32Array(3) }, 'TENSOR_SHAPE', /3 learned pooling weights/],
    ['row weights with mean', { rowWeights: new Float32Array(4), mode: 'mean' }, 'TENSOR_SHAPE', /mode sum/],
    [
      'fewer elements than the shape says',
      { weight: { ...rowsTensor(new Float32Array(11), 4, 3, 'float32') } },
      'TENSOR_SHAPE',
      /11 elements, expected 12/,
    ],
    [
      'a weight of one axis',
      { weight: { dtype: 'float32', shape: [12], data: new Float32Array(12) } },
      'TENSOR_SHAPE',
      /shape \[12\]/,
    ],
  ];
  for (const [what, change, code, message] of refused) {
    assert.throws(
      () => checkTable({ ...table, ...change }),
      (error: Error & { code: string }) => {
        assert.equal(error.code, code, what);
        assert.match(error.message, message, what);
        assert.match(error.message, /table users/, what);
        return true;
      },
      what,
    );
  }
});

test('checkBagShapes accepts B and B + 1 offsets, int32 and int64', () => {
  for (const endOffset of [false, true]) {
    for (const type of ['int32', 'int64'] as const) {
      const bags = bagsOf([[0], [1, 2]], { endOffset, index: type, offset: type });
      checkBagShapes([table], { batchSize: 2, bags: [bags] });
    }
  }
  const weights = new Float32Array(3);
  checkBagShapes([table], { batchSize: 2, bags: [bagsOf([[0], [1, 2]], { weights })] });
  checkBagShapes([table], { batchSize: 0, bags: [bagsOf([])] });
  checkBagShapes([], { batchSize: 3, bags: [] });
});

test('checkBagShapes refuses what does not fit, and names table and tensor', () => {
  const good = bagsOf([[0], [1, 2]]);
  const weights = new Float32Array(3);
  const mean: EmbeddingTable = { ...table, mode: 'mean' };
  const weighted: EmbeddingTable = { ...table, rowWeights: new Float32Array(4) };
  const refuse = (tables: EmbeddingTable[], batch: unknown, code: string, details: object, what: string) =>
    assert.throws(
      () => checkBagShapes(tables, batch as BagBatch),
      (error: Error & { code: string; details: object }) => {
        assert.equal(error.code, code, `${what}: ${error}`);
        assert.deepEqual({ ...error.details, ...details }, error.details, what);
        return true;
      },
      what,
    );
  const two = [table, table];
  refuse(two, { batchSize: 2, bags: [good] }, 'TABLE_MISSING', { table: 1 }, 'one table too few');
  refuse([table], { batchSize: 2, bags: [good, good] }, 'TABLE_UNEXPECTED', { table: 1 }, 'one too many');
  const one = (bags: object, batchSize = 2) => ({ batchSize, bags: [good, { ...good, ...bags }] });
  const at = (tensor: string) => ({ table: 1, tensor });
  refuse(two, one({ indices: new Float32Array(3) }), 'TENSOR_DTYPE', at('indices.1'), 'float indices');
  refuse(two, one({ offsets: [0, 1] }), 'TENSOR_DTYPE', at('offsets.1'), 'an array of offsets');
  refuse(two, one({ indices: new Uint32Array(3) }), 'TENSOR_DTYPE', at('indices.1'), 'uint32 indices');
  refuse(two, one({ offsets: new Int32Array(4) }), 'TENSOR_SHAPE', at('offsets.1'), 'B + 2 offsets');
  refuse(two, one({ offsets: new Int32Array(1) }), 'TENSOR_SHAPE', at('offsets.1'), 'B − 1 offsets');
  refuse(two, one({ weights: new Float64Array(3) }), 'TENSOR_DTYPE', at('weights.1'), 'float64 weights');
  refuse(two, one({ weights: new Float32Array(2) }), 'TENSOR_SHAPE', at('weights.1'), 'too few weights');
  refuse([table, mean], one({ weights }), 'TENSOR_UNEXPECTED', at('weights.1'), 'weights with mean');
  refuse([table, weighted], one({ weights }), 'TENSOR_UNEXPECTED', at('weights.1'), 'weights twice');
});

test('bagFaultError names table, position, value and limit', () => {
  const fault = { table: 2, position: 5, value: -(2n ** 63n), limit: 10 };
  const message = (kind: Parameters<typeof bagFaultError>[0]['kind']) =>
    bagFaultError({ ...fault, kind }, 'ads').message;
  assert.equal(
    message('index-out-of-range'),
    'table 2 (ads): indices[5] = -9223372036854775808 is not a row of [0, 10)',
  );
  assert.match(message('first-offset-not-zero'), /table 2 \(ads\): offsets\[0\] = -9223372036854775808/);
  assert.match(message('offsets-decrease'), /offsets\[5\] = .* is less than offsets\[4\] = 10/);
  assert.match(message('offset-past-end'), /offsets\[5\] = .* is past the end of 10 lookups/);
});

test('rowBytes', () => {
  assert.equal(rowBytes({ dim: 3, rowFormat: 'float32' }), 12);
  assert.equal(rowBytes({ dim: 3, rowFormat: 'float16' }), 6);
  assert.equal(rowBytes({ dim: 3, rowFormat: 'bfloat16' }), 6);
});

test('checkBagShapes accepts users, with bags per user and without', () => {
  for (const endOffset of [false, true]) {
    const own = bagsOf([[0], [1, 2]], { endOffset });
    const perUser = { ...own, perUser: true };
    checkBagShapes([table], { batchSize: 5, users: Int32Array.of(0, 5, 5), bags: [perUser] });
    checkBagShapes([table, table], { batchSize: 2, users: Int32Array.of(0, 0, 2), bags: [own, perUser] });
    checkBagShapes([table], { batchSize: 2, users: Int32Array.of(0, 2), bags: [own] });
    checkBagShapes([table], { batchSize: 2, bags: [{ ...own, perUser: false }] });
  }
  const nobody = bagsOf([]);
  checkBagShapes([table], { batchSize: 0, users: Int32Array.of(0), bags: [{ ...nobody, perUser: true }] });
});

test('checkBagShapes refuses users that do not fit, and says where', () => {
  const own = bagsOf([[0], [1, 2]]);
  const perUser = { ...own, perUser: true };
  const refused: [string, BagBatch, string, RegExp][] = [
    ['no users', { batchSize: 2, bags: [perUser] }, 'USERS_INVALID', /table 0 \(users\): .* no users/],
    ['an empty array', { batchSize: 0, users: new Int32Array(), bags: [own] }, 'USERS_INVALID', /is empty/],
    [
      'a first one',
      { batchSize: 2, users: Int32Array.of(1, 2), bags: [own] },
      'USERS_INVALID',
      /users\[0\] = 1/,
    ],
    [
      'a last one',
      { batchSize: 2, users: Int32Array.of(0, 3), bags: [own] },
      'USERS_INVALID',
      /users\[1\] = 3.* 2$/,
    ],
    [
      'ones that decrease',
      { batchSize: 2, users: Int32Array.of(0, 2, 1, 2), bags: [own] },
      'USERS_INVALID',
      /users\[2\] = 1 is less than users\[1\] = 2/,
    ],
    [
      'another type',
      { batchSize: 2, users: [0, 2] as never, bags: [own] },
      'TENSOR_DTYPE',
      /users must be int32/,
    ],
    [
      'offsets for samples',
      { batchSize: 2, users: Int32Array.of(0, 1, 1, 1, 1, 2), bags: [perUser] },
      'TENSOR_SHAPE',
      /2 offsets for 5 users; expected 5 or 6/,
    ],
  ];
  for (const [what, batch, code, message] of refused)
    assert.throws(() => checkBagShapes([table], batch), { code, message }, what);
});

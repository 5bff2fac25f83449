import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { HotrowError } from '../../../src/errors.ts';
import type { DlrmRequest } from '../../../src/model/request/request.ts';
import { readRequest, writeRequest } from '../../../src/model/request/safetensors-request.ts';
import { numberToBfloat16, numberToFloat16 } from '../../../src/tensor.ts';
import { goldenPath } from '../../support/golden.ts';
import {
  f32,
  i32,
  i64,
  readTensors,
  refuses as refusal,
  type Tensors,
  without,
} from '../../support/request-tensors.ts';
import { readSafetensors } from '../../support/safetensors.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-request-'));
});
after(() => rm(folder, { recursive: true }));

const numbers = (values: Iterable<number | bigint> | undefined) => Array.from(values ?? [], Number);

const read = (tensors: Tensors): Promise<DlrmRequest> => readTensors(tensors);

/** A batch of two for two tables. */
const perTable: Tensors = {
  dense: f32([2, 3], [1, 2, 3, 4, 5, 6]),
  'indices.0': i64([3], [5, 6, 7]),
  'offsets.0': i64([2], [0, 1]),
  'indices.1': i32([1], [9]),
  'offsets.1': i32([3], [0, 0, 1]),
};
const stacked: Tensors = {
  dense: f32([2, 3]),
  indices: i64([2, 3], [1, 2, 3, 4, 5, 6]),
  offsets: i64([2, 2], [0, 1, 0, 2]),
};

/** Refused, with a message that names the file. */
async function refuses(tensors: Tensors, code: string, tensor: string): Promise<HotrowError> {
  const error = await refusal(readTensors(tensors), code, { tensor });
  assert.ok(error.details.file !== undefined && error.message.includes(error.details.file), error.message);
  return error;
}

describe('reading', () => {
  test('tensors per table', async () => {
    const request = await read(perTable);
    assert.equal(request.batchSize, 2);
    assert.equal(request.denseFeatures, 3);
    assert.deepEqual(Array.from(request.dense), [1, 2, 3, 4, 5, 6]);
    assert.deepEqual(request.bags, [
      { indices: BigInt64Array.of(5n, 6n, 7n), offsets: BigInt64Array.of(0n, 1n) },
      { indices: Int32Array.of(9), offsets: Int32Array.of(0, 0, 1) },
    ]);
  });

  test('tables in the order of their numbers, beyond nine', async () => {
    const tables = Array.from({ length: 12 }, (_, t) => 11 - t);
    const { bags } = await read({
      dense: f32([1, 1]),
      ...Object.fromEntries(
        tables.flatMap((t) => [
          [`indices.${t}`, i64([1], [t])],
          [`offsets.${t}`, i64([1])],
        ]),
      ),
    });
    assert.deepEqual(
      bags.map(({ indices }) => Number(indices[0])),
      Array.from({ length: 12 }, (_, t) => t),
    );
  });

  test('stacked tensors', async () => {
    const { bags } = await read({ ...stacked, weights: f32([2, 3], [1, 2, 3, 4, 5, 6]) });
    assert.deepEqual(bags, [
      {
        indices: BigInt64Array.of(1n, 2n, 3n),
        offsets: BigInt64Array.of(0n, 1n),
        weights: Float32Array.of(1, 2, 3),
      },
      {
        indices: BigInt64Array.of(4n, 5n, 6n),
        offsets: BigInt64Array.of(0n, 2n),
        weights: Float32Array.of(4, 5, 6),
      },
    ]);
  });

  test('stacked offsets with the end of the last bag', async () => {
    const { bags } = await read({ ...stacked, offsets: i32([2, 3], [0, 1, 3, 0, 2, 3]) });
    assert.deepEqual(numbers(bags[1]?.offsets), [0, 2, 3]);
  });

  test('weights of one table', async () => {
    const { bags } = await read({ ...perTable, 'weights.1': f32([1], [0.5]) });
    assert.equal(bags[0]?.weights, undefined);
    assert.deepEqual(bags[1]?.weights, Float32Array.of(0.5));
  });

  for (const [dtype, encode] of [
    ['float16', numberToFloat16],
    ['bfloat16', numberToBfloat16],
  ] as const) {
    test(`${dtype} dense features`, async () => {
      const values = [0, 1, -2, 0.5, Number.POSITIVE_INFINITY, Number.NaN];
      const dense = { dtype, shape: [2, 3], data: Uint16Array.from(values, encode) };
      assert.deepEqual(Array.from((await read({ ...perTable, dense })).dense), values);
    });
  }

  test('NaN and infinity pass', async () => {
    const values = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0, 1, 2];
    assert.deepEqual(Array.from((await read({ ...perTable, dense: f32([2, 3], values) })).dense), values);
  });

  test('an empty batch', async () => {
    const request = await read({ dense: f32([0, 13]), 'indices.0': i64([0]), 'offsets.0': i64([0]) });
    assert.equal(request.batchSize, 0);
    assert.equal(request.denseFeatures, 13);
    assert.deepEqual(request.bags, [{ indices: new BigInt64Array(), offsets: new BigInt64Array() }]);
  });

  test('an empty stacked batch', async () => {
    const request = await read({ dense: f32([0, 13]), indices: i64([2, 0]), offsets: i64([2, 0]) });
    assert.equal(request.bags.length, 2);
    assert.equal(request.bags[1]?.indices.length, 0);
  });
});

describe('bad requests', () => {
  const cases: [string, Tensors, string, string][] = [
    ['no dense', without(perTable, 'dense'), 'TENSOR_MISSING', 'dense'],
    ['no tensors', {}, 'TENSOR_MISSING', 'dense'],
    ['no indices', without(perTable, 'indices.1'), 'TENSOR_MISSING', 'indices.1'],
    ['no offsets', without(perTable, 'offsets.0'), 'TENSOR_MISSING', 'offsets.0'],
    ['weights alone', { ...perTable, 'weights.2': f32([1]) }, 'TENSOR_MISSING', 'indices.2'],
    ['no stacked indices', without(stacked, 'indices'), 'TENSOR_MISSING', 'indices'],
    ['no stacked offsets', without(stacked, 'offsets'), 'TENSOR_MISSING', 'offsets'],
    [
      'a gap in the tables',
      { ...perTable, 'indices.3': i64([1]), 'offsets.3': i64([2]) },
      'TABLE_MISSING',
      'indices.2',
    ],
    ['no table 0', without(perTable, 'indices.0', 'offsets.0'), 'TABLE_MISSING', 'indices.0'],
    [
      'a table of a huge number',
      { ...perTable, 'indices.99999999999999999999': i64([1]), 'offsets.99999999999999999999': i64([2]) },
      'TABLE_MISSING',
      'indices.2',
    ],
    ['an unknown name', { ...perTable, labels: f32([2]) }, 'TENSOR_UNEXPECTED', 'labels'],
    [
      'a table -1',
      { ...perTable, 'indices.-1': i64([1]), 'offsets.-1': i64([2]) },
      'TENSOR_UNEXPECTED',
      'indices.-1',
    ],
    [
      'a table 01',
      { ...perTable, 'indices.01': i64([1]), 'offsets.01': i64([2]) },
      'TENSOR_UNEXPECTED',
      'indices.01',
    ],
    ['a prototype name', { ...perTable, constructor: i64([1]) }, 'TENSOR_UNEXPECTED', 'constructor'],
    ['an unknown name beside stacks', { ...stacked, x: f32([2]) }, 'TENSOR_UNEXPECTED', 'x'],
    ['stacked and per table', { ...stacked, 'indices.0': i64([1]) }, 'TENSOR_UNEXPECTED', 'indices.0'],
    ['dense of int64', { ...perTable, dense: i64([2, 3]) }, 'TENSOR_DTYPE', 'dense'],
    ['indices of float32', { ...perTable, 'indices.0': f32([3]) }, 'TENSOR_DTYPE', 'indices.0'],
    ['offsets of float32', { ...perTable, 'offsets.1': f32([2]) }, 'TENSOR_DTYPE', 'offsets.1'],
    ['weights of int32', { ...perTable, 'weights.0': i32([3]) }, 'TENSOR_DTYPE', 'weights.0'],
    ['stacked indices of float32', { ...stacked, indices: f32([2, 3]) }, 'TENSOR_DTYPE', 'indices'],
    ['stacked weights of int64', { ...stacked, weights: i64([2, 3]) }, 'TENSOR_DTYPE', 'weights'],
    ['dense of one dimension', { ...perTable, dense: f32([6]) }, 'TENSOR_SHAPE', 'dense'],
    ['dense of three', { ...perTable, dense: f32([1, 2, 3]) }, 'TENSOR_SHAPE', 'dense'],
    ['a scalar dense', { ...perTable, dense: f32([]) }, 'TENSOR_SHAPE', 'dense'],
    ['indices of two dimensions', { ...perTable, 'indices.0': i64([3, 1]) }, 'TENSOR_SHAPE', 'indices.0'],
    ['scalar offsets', { ...perTable, 'offsets.0': i64([]) }, 'TENSOR_SHAPE', 'offsets.0'],
    ['stacked indices of one dimension', { ...stacked, indices: i64([6]) }, 'TENSOR_SHAPE', 'indices'],
    ['stacks of other tables', { ...stacked, offsets: i64([3, 2]) }, 'TENSOR_SHAPE', 'offsets'],
    ['too few offsets', { ...perTable, 'offsets.1': i64([1]) }, 'TENSOR_SHAPE', 'offsets.1'],
    ['too many offsets', { ...perTable, 'offsets.1': i64([4]) }, 'TENSOR_SHAPE', 'offsets.1'],
    ['too many stacked offsets', { ...stacked, offsets: i64([2, 5]) }, 'TENSOR_SHAPE', 'offsets'],
    ['too few weights', { ...perTable, 'weights.0': f32([2]) }, 'TENSOR_SHAPE', 'weights.0'],
    ['too many stacked weights', { ...stacked, weights: f32([2, 4]) }, 'TENSOR_SHAPE', 'weights'],
    ['stacked weights of other tables', { ...stacked, weights: f32([1, 3]) }, 'TENSOR_SHAPE', 'weights'],
  ];
  for (const [what, tensors, code, tensor] of cases) {
    test(`${what}: ${code}`, () => refuses(tensors, code, tensor).then(() => {}));
  }

  test('a gap names the table', async () => {
    const error = await refuses(without(perTable, 'indices.0', 'offsets.0'), 'TABLE_MISSING', 'indices.0');
    assert.equal(error.details.table, 0);
  });

  test('no such file', () =>
    assert.rejects(readRequest(join(folder, 'nowhere.safetensors')), { code: 'FILE_NOT_FOUND' }));

  test('no safetensors', async () => {
    const path = join(folder, 'text.safetensors');
    await writeFile(path, 'this is no request, it is a text of some length');
    await assert.rejects(readRequest(path), { code: 'SAFETENSORS_INVALID' });
  });
});

describe('writing', () => {
  test('what was written is read', async () => {
    const request: DlrmRequest = {
      batchSize: 2,
      denseFeatures: 2,
      dense: Float32Array.of(1, Number.NaN, -0, 4),
      bags: [
        { indices: BigInt64Array.of(1n, 2n ** 40n), offsets: BigInt64Array.of(0n, 2n) },
        { indices: Int32Array.of(3), offsets: Int32Array.of(0, 0, 1), weights: Float32Array.of(0.25) },
        { indices: new Int32Array(), offsets: Int32Array.of(0, 0) },
      ],
    };
    const path = join(folder, 'written.safetensors');
    await writeRequest(path, request);
    assert.deepEqual(await readRequest(path), request);
  });

  test('an empty batch', async () => {
    const request: DlrmRequest = { batchSize: 0, denseFeatures: 13, dense: new Float32Array(), bags: [] };
    const path = join(folder, 'empty.safetensors');
    await writeRequest(path, request);
    assert.deepEqual(await readRequest(path), request);
  });

  test('into a folder that is not there', () =>
    assert.rejects(
      writeRequest(join(folder, 'no', 'x.safetensors'), {
        batchSize: 0,
        denseFeatures: 1,
        dense: new Float32Array(),
        bags: [],
      }),
      { code: 'FILE_UNWRITABLE' },
    ));
});

describe('golden requests', () => {
  for (const [name, batchSize, denseFeatures, tables] of [
    ['criteo.request.safetensors', 200, 13, 26],
    ['dlrm_multihot.request.safetensors', 257, 20, 8],
    ['dlrm_dcnv2.request.safetensors', undefined, undefined, 4],
  ] as const) {
    const path = goldenPath(name);
    test(name, { skip: path === undefined ? `${name} is not on this machine` : false }, async () => {
      const request = await readRequest(path as string);
      const { tensors } = readSafetensors(path as string);
      if (batchSize !== undefined) assert.equal(request.batchSize, batchSize);
      if (denseFeatures !== undefined) assert.equal(request.denseFeatures, denseFeatures);
      assert.equal(request.bags.length, tables);
      assert.deepEqual(request.dense, tensors.get('dense')?.data);
      request.bags.forEach(({ indices, offsets }, t) => {
        const all = (part: string) => numbers((tensors.get(`${part}.${t}`) ?? tensors.get(part))?.data);
        const own = (part: string, length: number) =>
          tensors.has(part) ? all(part).slice(t * length, (t + 1) * length) : all(part);
        assert.deepEqual(numbers(indices), own('indices', indices.length));
        assert.deepEqual(numbers(offsets), own('offsets', offsets.length));
      });
    });
  }
});

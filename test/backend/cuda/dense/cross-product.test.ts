/** Which cross products fit a GPU, in which order, and how they are launched. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type CrossFactors,
  canMakeCrossProducts,
  crossColumns,
  crossLaunch,
  crossSharedBytes,
} from '../../../../src/backend/cuda/dense/cross-product.ts';

const H200 = { multiprocessors: 132, sharedBytesPerBlockOptIn: 227 * 1024 };

test('only GPUs of compute capability 9.0 have the instructions', () => {
  for (const [capability, can] of [
    [[8, 0], false],
    [[8, 9], false],
    [[9, 0], true],
    [[10, 0], false],
    [[12, 0], false],
  ] as const)
    assert.equal(canMakeCrossProducts({ computeCapability: capability }), can, `${capability}`);
});

test('the columns that keep the busiest multiprocessor least busy come first; what shared memory has no room for is left out', () => {
  const columns = (factors: CrossFactors, batch: number, inputs: number, outputs: number) =>
    crossColumns(factors, { batch, inputs, outputs }, H200);
  // 27 blocks of columns times 4, and 54 times 2, leave as many multiprocessors without work: the wider read less.
  assert.deepEqual(columns('float16', 32768, 512, 3456), [128, 64]);
  // One tile of rows: the narrowest blocks are done first.
  assert.deepEqual(columns('float16', 64, 64, 3456), [64, 128]);
  assert.deepEqual(columns('float16', 64, 576, 96), [64]);
  assert.deepEqual(columns('float16', 64, 1152, 96), [64]);
  assert.deepEqual(columns('float16', 64, 1153, 96), []);
  assert.deepEqual(columns('float8_e4m3', 64, 512, 96), [64, 128]);
  assert.deepEqual(columns('float8_e4m3', 64, 640, 96), [64]);
});

test('as many blocks share the rows as there are multiprocessors for, or tiles', () => {
  const launch = (batch: number, outputs: number) =>
    crossLaunch('float16', 128, { batch, inputs: 512, outputs }, H200.multiprocessors);
  assert.deepEqual(launch(8192, 3456).grid, [27, 4, 1]);
  assert.deepEqual(launch(100, 3456).grid, [27, 2, 1]);
  assert.deepEqual(launch(8192, 128 * 140).grid, [140, 1, 1]);
  assert.deepEqual(launch(8192, 8).block, [384, 1, 1]);
  assert.equal(launch(8192, 8).dynamicSharedBytes, crossSharedBytes('float16', 128, 512));
  const half = 512 * 128 * 2 + 8 * 64 * 128 + 2 * 64 * 128 * 2 + 22 * 8;
  assert.equal(crossSharedBytes('float16', 128, 512), half);
  const eightBits = 512 * 128 + 12 * 64 * 128 + 4 * 64 * 128 * 2 + 30 * 8;
  assert.equal(crossSharedBytes('float8_e4m3', 128, 512), eightBits);
});

/** Which cross products fit a GPU, in which order, and how they are launched. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
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
  const columns = (batch: number, inputs: number, outputs: number) =>
    crossColumns({ batch, inputs, outputs }, H200);
  // 22 blocks of columns times 6 are all 132 multiprocessors; 18 times 7 leave 6, 27 times 4 leave 24.
  assert.deepEqual(columns(32768, 512, 3456), [160, 192, 128, 96]);
  // One tile of rows: the narrowest blocks are done first.
  assert.deepEqual(columns(64, 64, 3456), [96, 128, 160, 192]);
  assert.deepEqual(columns(64, 576, 96), [96, 128]);
  assert.deepEqual(columns(64, 832, 96), [96]);
  assert.deepEqual(columns(64, 833, 96), []);
});

test('as many blocks share the rows as there are multiprocessors for, or tiles', () => {
  const launch = (batch: number, outputs: number) =>
    crossLaunch(128, { batch, inputs: 512, outputs }, H200.multiprocessors);
  assert.deepEqual(launch(8192, 3456).grid, [27, 4, 1]);
  assert.deepEqual(launch(100, 3456).grid, [27, 2, 1]);
  assert.deepEqual(launch(8192, 128 * 140).grid, [140, 1, 1]);
  assert.deepEqual(launch(8192, 8).block, [384, 1, 1]);
  assert.equal(launch(8192, 8).dynamicSharedBytes, crossSharedBytes(128, 512));
  assert.equal(crossSharedBytes(128, 512), 512 * 128 * 2 + 8 * 64 * 64 * 2 + 128 * 4 + 18 * 8);
});

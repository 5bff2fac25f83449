/** Blocks lent again: which, and what goes when too much lies idle. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BlockPool } from '../../src/cuda/block-pool.ts';
import { CudaDevice } from '../../src/cuda/device.ts';
import { CudaDriver } from '../../src/ffi/cuda-driver.ts';
import { buildFakeDriver } from '../fake-driver/fake-driver.ts';

const driver = new CudaDriver({ path: buildFakeDriver().path });
const MIB = 2 ** 20;

test('a block holds at most an eighth more than is asked for, and is lent to what is at least half its size', () => {
  using device = new CudaDevice(driver);
  const pool = BlockPool.ofDevice(device, 64 * MIB);
  assert.equal(pool.borrow(1).bytes, 4096);
  assert.equal(pool.borrow(9 * MIB).bytes, 9 * MIB);
  const block = pool.borrow(9 * MIB + 1);
  assert.equal(block.bytes, 10 * MIB);
  pool.giveBack(block);
  assert.notEqual(pool.borrow(4 * MIB), block);
  assert.notEqual(pool.borrow(10 * MIB + 1), block);
  assert.equal(pool.borrow(5 * MIB), block);
});

test('what lay idle longest goes when too much does', () => {
  using device = new CudaDevice(driver);
  const pool = BlockPool.ofPinned(device, 3 * MIB);
  const blocks = [1, 1, 1, 1].map((mib) => pool.borrow(mib * MIB));
  for (const block of blocks) pool.giveBack(block);
  assert.deepEqual(
    blocks.map(({ disposed }) => disposed),
    [true, false, false, false],
  );
  const large = pool.borrow(4 * MIB);
  pool.giveBack(large);
  assert.ok(large.disposed, 'what is larger than all that may lie idle goes itself');
  assert.equal(pool.borrow(MIB), blocks[3]);
});

/** Blocks lent again: which, and what goes when too much lies idle. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BlockPool } from '../../src/cuda/block-pool.ts';
import { CudaDevice } from '../../src/cuda/device.ts';
import { CudaDriver } from '../../src/ffi/cuda-driver.ts';
import { buildFakeDriver } from '../fake-driver/fake-driver.ts';

const fake = buildFakeDriver();
const driver = new CudaDriver({ path: fake.path });
const MIB = 2 ** 20;

test('a block holds a power of two, or at most an eighth more than is asked for, and is lent to what is at least half its size', () => {
  using device = new CudaDevice(driver);
  const pool = BlockPool.ofDevice(device, 256 * MIB);
  assert.equal(pool.borrow(1).bytes, 4096);
  assert.equal(pool.borrow(9 * MIB).bytes, 16 * MIB);
  assert.equal(pool.borrow(64 * MIB).bytes, 64 * MIB);
  assert.equal(pool.borrow(72 * MIB).bytes, 72 * MIB);
  const block = pool.borrow(72 * MIB + 1);
  assert.equal(block.bytes, 80 * MIB);
  pool.giveBack(block);
  assert.notEqual(pool.borrow(32 * MIB), block);
  assert.notEqual(pool.borrow(80 * MIB + 1), block);
  assert.equal(pool.borrow(40 * MIB), block);
});

test('batches that grow step by step take few blocks', () => {
  using device = new CudaDevice(driver);
  const pool = BlockPool.ofPinned(device, 64 * MIB);
  const blocks = new Set<unknown>();
  for (let bytes = MIB; bytes <= 8 * MIB; bytes += MIB / 8) {
    const block = pool.borrow(bytes);
    blocks.add(block);
    pool.giveBack(block);
  }
  assert.equal(blocks.size, 4);
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

test('what is lent is not counted as idle, and blocks of any size make room until there is enough', () => {
  using device = new CudaDevice(driver);
  const pool = BlockPool.ofPinned(device, 3 * MIB);
  const [first, second] = [pool.borrow(MIB), pool.borrow(MIB)];
  for (let turn = 0; turn < 10; turn++) {
    for (const block of [first, second]) pool.giveBack(block);
    assert.equal(pool.borrow(MIB), second, `turn ${turn}`);
    assert.equal(pool.borrow(MIB), first, `turn ${turn}`);
  }
  assert.deepEqual([first.disposed, second.disposed], [false, false]);
  const [third, large] = [pool.borrow(MIB), pool.borrow(2 * MIB)];
  for (const block of [first, second, third]) pool.giveBack(block);
  pool.giveBack(large);
  assert.deepEqual(
    [first, second, third, large].map(({ disposed }) => disposed),
    [true, true, false, false],
    'two go for one of twice their size',
  );
});

test('a pool takes its idle blocks along, and gives them up where memory is short', () => {
  using device = new CudaDevice(driver);
  const before = fake.live();
  const pool = BlockPool.ofDevice(device, 64 * MIB);
  const idle = pool.borrow(MIB);
  pool.giveBack(idle);
  fake.fail('cuMemAlloc', 1, 2);
  const other = pool.borrow(8 * MIB);
  assert.ok(idle.disposed, 'it made room');
  fake.fail('cuMemAlloc', 1, 2);
  assert.throws(() => pool.borrow(8 * MIB), { code: 'OUT_OF_MEMORY' });
  pool.giveBack(other);
  pool[Symbol.dispose]();
  assert.ok(other.disposed);
  assert.deepEqual(fake.live(), before);
  // It can be used on.
  pool.giveBack(pool.borrow(MIB));
  pool[Symbol.dispose]();
  assert.deepEqual(fake.live(), before);
});

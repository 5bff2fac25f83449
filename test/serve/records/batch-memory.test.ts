import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Backend, HostMemory } from '../../../src/backend/backend.ts';
import { HostArrays } from '../../../src/backend/host-arrays.ts';
import { DeviceError } from '../../../src/errors.ts';
import { addressOf } from '../../../src/ffi/host-memory.ts';
import { BatchMemory } from '../../../src/serve/records/batch-memory.ts';

/** Host memory that counts what of it is open, begins at any multiple of 4, and ends at `most` bytes. */
class Backing implements Pick<Backend, 'allocateHost'> {
  open = 0;
  made = 0;
  constructor(
    readonly skipped = 0,
    readonly most = Number.POSITIVE_INFINITY,
  ) {}

  allocateHost(bytes: number): HostMemory {
    if (bytes > this.most) throw new DeviceError('OUT_OF_MEMORY', 'no more');
    this.open += 1;
    this.made += 1;
    const memory = new HostArrays(new ArrayBuffer(bytes + this.skipped), this.skipped, bytes);
    const dispose = memory[Symbol.dispose].bind(memory);
    memory[Symbol.dispose] = () => {
      this.open -= 1;
      dispose();
    };
    return memory;
  }
}

test('a block is aligned wherever host memory begins, and all of it can be written', () => {
  for (const skipped of [0, 4, 8, 12, 16]) {
    using memory = new BatchMemory(new Backing(skipped), 100);
    const { buffer, start, address } = memory.block;
    assert.equal(address % 16n, 0n);
    const all = new Uint8Array(buffer, start, memory.bytes);
    assert.equal(addressOf(all), address);
    assert.equal(memory.bytes, 100);
  }
});

test('it grows by half at least, and gives back what it had', () => {
  const backing = new Backing();
  {
    using memory = new BatchMemory(backing, 1000);
    memory.reserve(1000);
    assert.equal(backing.made, 1);
    memory.reserve(1001);
    assert.equal(memory.bytes, 1500);
    memory.reserve(9000);
    assert.equal(memory.bytes, 9000);
    assert.deepEqual([backing.made, backing.open], [3, 1]);
  }
  assert.equal(backing.open, 0);
});

test('where there is no more memory, the block stays', () => {
  const backing = new Backing(0, 2000);
  using memory = new BatchMemory(backing, 1000);
  const { address } = memory.block;
  assert.throws(() => memory.reserve(5000), { code: 'OUT_OF_MEMORY' });
  assert.deepEqual([memory.bytes, memory.block.address, backing.open], [1000, address, 1]);
});

test('it is not used after it was disposed', () => {
  const memory = new BatchMemory(new Backing());
  memory[Symbol.dispose]();
  memory[Symbol.dispose]();
  assert.throws(() => memory.block, /disposed/);
  assert.equal(memory.bytes, 0);
});

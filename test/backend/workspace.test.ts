import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DeviceBuffer, elementBytes } from '../../src/backend/backend.ts';
import { overlap } from '../../src/backend/overlap.ts';
import { type TakeMatrices, Workspace } from '../../src/backend/workspace.ts';
import { ReferenceBackend } from '../support/reference-backend.ts';

class CountingBackend extends ReferenceBackend {
  readonly allocated: number[] = [];
  freed = 0;

  override allocate(length: number): DeviceBuffer {
    this.allocated.push(length);
    return { device: this.device, length, [Symbol.dispose]: () => (this.freed += 1) } as DeviceBuffer;
  }
}

const take = ((workspace) => [
  workspace.matrix(3, 5),
  workspace.packed(3, 5),
  workspace.packed(3, 5, 'float16'),
  workspace.matrix(3, 5, 'bfloat16'),
  workspace.matrix(2, 9, 'float16'),
  workspace.packed(2, 7),
  workspace.packed(0, 9),
  workspace.matrix(1, 1),
]) satisfies TakeMatrices<unknown>;

test('matrices lie apart in one block, each at a multiple of 256 bytes', () => {
  const backend = new CountingBackend();
  const { block, made } = Workspace.of(backend, take);
  assert.equal(backend.allocated.length, 1);
  assert.equal(block.length, Workspace.elementsOf(backend.device, take));
  assert.deepEqual(
    made.map(({ stride }) => stride),
    [8, 5, 5, 8, 16, 7, 9, 4],
    'rows of 16-byte loads, or without gaps',
  );
  for (const [i, one] of made.entries()) {
    const bytes = elementBytes(one);
    assert.equal((one.offset * bytes) % 256, 0);
    assert.equal(one.buffer, block);
    assert.ok((one.offset + one.rows * one.stride) * bytes <= block.length * 4);
    for (const other of made.slice(i + 1)) assert.equal(overlap(one, other), false);
  }
});

test('what cannot be made gives the block back', () => {
  const backend = new CountingBackend();
  let calls = 0;
  const failing: TakeMatrices<never> = () => {
    if (++calls === 2) throw new Error('no program');
    return undefined as never;
  };
  assert.throws(() => Workspace.of(backend, failing), /no program/);
  assert.equal(backend.freed, 1);
});

test('matrices that are asked for only the second time are refused', () => {
  const backend = new CountingBackend();
  let calls = 0;
  const growing = (workspace: Workspace) => workspace.matrix(8, 8 * ++calls);
  assert.throws(() => Workspace.of(backend, growing), TypeError);
  assert.equal(backend.freed, 1);
});

/** How the fused kernel's work is divided, of batches as data. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fusedLayout, SHORTEST_SPLIT } from '../../../../src/backend/cuda/embedding/fused-layout.ts';
import { fusedShape } from '../../../../src/backend/cuda/embedding/fused-source.ts';
import type { BagBatch } from '../../../../src/embedding/bag.ts';

const TABLES = 4;
const shapes = Array.from({ length: TABLES }, () => fusedShape({ rowFormat: 'float32', dim: 16 }));

/** Bags of so many lookups each, the same for all tables. */
function batchOf(lengths: readonly number[]): BagBatch {
  const offsets = new Int32Array(lengths.length + 1);
  lengths.forEach((length, b) => {
    offsets[b + 1] = (offsets[b] as number) + length;
  });
  const indices = new Int32Array(offsets[lengths.length] as number);
  return { batchSize: lengths.length, bags: Array.from({ length: TABLES }, () => ({ indices, offsets })) };
}

test('groups walk several short bags once the GPU is full, the sooner the smaller it is', () => {
  const several = (bags: number, length: number, multiprocessors: number) =>
    fusedLayout(batchOf(new Array(bags).fill(length)), shapes, multiprocessors).bagsPerGroup;
  // 4 lanes a group: 2^16 · 4 · 4 / 32 = 32,768 warps; 132 multiprocessors are full of 4,224.
  assert.equal(several(2 ** 16, 1, 132), 4);
  assert.equal(several(2 ** 16, 1, 66), 8);
  assert.equal(several(2 ** 16, 1, 264), 2);
  assert.equal(several(2 ** 10, 1, 132), 1, 'a batch that does not fill it');
  assert.equal(several(2 ** 10, 1, 1), 16);
  assert.equal(several(2 ** 16, 1, 1), 32, 'no more than so many lookups');
  assert.equal(several(2 ** 12, 16, 1), 2);
});

test('long bags are cut alike on every GPU', () => {
  const batch = batchOf([SHORTEST_SPLIT + 1, ...new Array(31).fill(1)]);
  const { bagsPerGroup: _, ...small } = fusedLayout(batch, shapes, 1);
  const { bagsPerGroup: __, ...large } = fusedLayout(batch, shapes, 132);
  assert.deepEqual(small, large);
  assert.equal(small.segments.length, TABLES);
  assert.equal(small.arrivals, TABLES);
});

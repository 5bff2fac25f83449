import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { copyAll, type HostCopy } from '../../src/ffi/host-memory.ts';
import { garbageCollector } from '../../src/garbage-collector.ts';

const collectGarbage = garbageCollector();

const KIB = 1024;
const counting = (length: number, first = 0) => Int32Array.from({ length }, (_, i) => first + i);
const copyOf = (source: Int32Array, target: Int32Array): HostCopy => ({
  source,
  target,
  bytes: source.byteLength,
});

test('copies of every size, at once and in the background', async () => {
  for (const lengths of [
    [],
    [0],
    [1],
    [3, 0, 7],
    [64 * KIB],
    [64 * KIB + 1, 5, 0, 200 * KIB],
    [1, 1 * KIB * KIB],
  ]) {
    const sources = lengths.map((length, i) => counting(length, i));
    const targets = lengths.map((length) => new Int32Array(length).fill(-1));
    const copies = sources.map((source, i) => copyOf(source, targets[i] as Int32Array));
    const pending = copyAll(copies);
    const bytes = 4 * lengths.reduce((sum, length) => sum + length, 0);
    assert.equal(pending === undefined, bytes <= 256 * KIB, `${lengths}`);
    await pending;
    assert.deepEqual(targets, sources);
  }
});

test('copies in the background from and to any byte, and nothing beside them', async () => {
  const length = 600 * KIB;
  const source = Uint8Array.from({ length: length + 64 }, (_, i) => i % 251);
  for (const [from, to] of [
    [0, 1],
    [3, 0],
    [17, 63],
  ] as const) {
    const target = new Uint8Array(length + 128).fill(255);
    await copyAll([{ source: source.subarray(from), target: target.subarray(to), bytes: length }]);
    assert.deepEqual(target.subarray(to, to + length), source.subarray(from, from + length));
    assert.ok([...target.subarray(0, to), ...target.subarray(to + length)].every((byte) => byte === 255));
  }
});

test('rows that lie apart, at once and in the background, and nothing between them', async () => {
  for (const [count, bytes, sourceStride, targetStride] of [
    [7, 5, 9, 5],
    [7, 5, 5, 12],
    [1, 6, 3, 2],
    [0, 4, 4, 4],
    [3, 0, 4, 4],
    [5000, 66, 70, 68],
    [3, 300 * KIB, 301 * KIB, 300 * KIB],
    [1, 600 * KIB, 1, 1],
  ] as const) {
    const rows = { count, sourceStride, targetStride };
    const source = Uint8Array.from({ length: count * sourceStride + bytes }, (_, i) => i % 251);
    const target = new Uint8Array(count * targetStride + bytes).fill(255);
    const expected = target.slice();
    for (let row = 0; row < count; row++) {
      const from = source.subarray(row * sourceStride, row * sourceStride + bytes);
      expected.set(from, row * targetStride);
    }
    // Beside another copy, whose pieces come first.
    const [one, other] = [counting(100 * KIB), new Int32Array(100 * KIB)];
    for (const before of [[], [copyOf(one, other)]]) {
      target.fill(255);
      await copyAll([...before, { source, target, bytes, rows }]);
      assert.equal(Buffer.compare(target, expected), 0, `${count} rows of ${bytes}`);
    }
    assert.deepEqual(other, one);
  }
});

test('arrays that only a copy under way knows are kept from the collector', async () => {
  const lengths = Array.from({ length: 32 }, (_, i) => 256 * KIB + i);
  const targets = lengths.map((length) => new Int32Array(length));
  const large = new Int32Array(16 * KIB * KIB);
  const largeTarget = new Int32Array(large.length);
  const made = [lengths.map((length, i) => copyOf(counting(length, i), targets[i] as Int32Array))];
  // Keeps the copying threads busy while the collector runs.
  const busy = copyAll(Array.from({ length: 16 }, () => copyOf(large, largeTarget)));
  await setTimeout(1);
  // In a frame of its own, which keeps nothing once it has returned.
  const pending = (() => copyAll(made.pop() as HostCopy[]))();
  collectGarbage();
  collectGarbage();
  const others = lengths.map((length) => new Int32Array(length).fill(-1));
  await Promise.all([busy, pending]);
  targets.forEach((target, i) => {
    assert.deepEqual(target, counting(target.length, i));
  });
  assert.equal(others.length, lengths.length);
});

test('more background calls than the foreign function interface takes at once', async () => {
  const source = counting(80 * KIB);
  const targets = Array.from({ length: 200 }, () => new Int32Array(source.length));
  await Promise.all(targets.map((target) => copyAll([copyOf(source, target)])));
  for (const target of targets) assert.deepEqual(target, source);
});

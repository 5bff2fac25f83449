/** The occupancy calculator against examples worked out by hand from NVIDIA's tables. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { multiprocessorLimits, occupancyOf } from '../../src/plan/occupancy.ts';

const on = (major: number, minor: number) => multiprocessorLimits([major, minor]);

test('registers: in units of 256 a warp, for four warps at a time', () => {
  // 33 registers: 1,056 a warp, rounded up to 1,280; 65,536 / 1,280 = 51 warps, rounded down to 48; six blocks of 8.
  assert.deepEqual(occupancyOf({ registers: 33, threads: 256 }, on(9, 0)), {
    blocks: 6,
    warps: 48,
    share: 0.75,
    limiter: 'registers',
  });
  // 32 registers leave room for all 64.
  assert.equal(occupancyOf({ registers: 32, threads: 256 }, on(9, 0)).warps, 64);
  // 68 registers: 2,304 a warp: 28 warps; three blocks of 8, seven of 4.
  assert.equal(occupancyOf({ registers: 68, threads: 256 }, on(8, 0)).warps, 24);
  assert.equal(occupancyOf({ registers: 68, threads: 128 }, on(8, 0)).warps, 28);
  // 255 registers: 8,192 a warp: eight warps.
  assert.equal(occupancyOf({ registers: 255, threads: 256 }, on(9, 0)).warps, 8);
  assert.equal(occupancyOf({ registers: 255, threads: 512 }, on(9, 0)).blocks, 0);
});

test('shared memory: from 8.0 on every block gives 1 KiB to the system', () => {
  // 227 KiB is the most of a block on 9.0, and then there is one.
  assert.deepEqual(occupancyOf({ registers: 16, threads: 128, sharedBytes: 227 * 1024 }, on(9, 0)), {
    blocks: 1,
    warps: 4,
    share: 4 / 64,
    limiter: 'shared memory',
  });
  assert.equal(occupancyOf({ registers: 16, threads: 128, sharedBytes: 227 * 1024 + 1 }, on(9, 0)).blocks, 0);
  // 40 KiB and 1 KiB: five in 228, four in 164, two in 100; two in 96 of 7.0, which takes nothing.
  const blocks = (major: number, minor: number) =>
    occupancyOf({ registers: 16, threads: 128, sharedBytes: 40 * 1024 }, on(major, minor)).blocks;
  assert.deepEqual([blocks(9, 0), blocks(8, 0), blocks(8, 6), blocks(7, 0)], [5, 4, 2, 2]);
});

test('blocks and warps', () => {
  const small = (major: number, minor: number) =>
    occupancyOf({ registers: 16, threads: 32 }, on(major, minor));
  assert.deepEqual(small(9, 0), { blocks: 32, warps: 32, share: 0.5, limiter: 'blocks' });
  assert.equal(small(8, 6).blocks, 16);
  assert.equal(small(8, 9).blocks, 24);
  assert.equal(small(12, 0).blocks, 24);
  assert.equal(small(7, 5).blocks, 16);
  const large = (major: number, minor: number) =>
    occupancyOf({ registers: 16, threads: 1024 }, on(major, minor));
  assert.deepEqual(large(8, 9), { blocks: 1, warps: 32, share: 32 / 48, limiter: 'warps' });
  assert.equal(large(10, 0).blocks, 2);
  assert.equal(large(7, 5).share, 1);
});

test('minor versions have what the one before them has; others are refused', () => {
  assert.deepEqual(on(10, 3), on(10, 0));
  assert.deepEqual(on(12, 1), on(12, 0));
  assert.deepEqual(on(7, 2), on(7, 0));
  for (const [major, minor] of [
    [6, 1],
    [11, 0],
    [13, 0],
  ] as const) {
    assert.throws(() => on(major, minor), RangeError);
  }
});

test('warps are whole, registers go to four of them at a time, a block has its own bound of shared memory', () => {
  // 80 registers: 2,560 a warp; 25 warps of 65,536 registers are 24.
  assert.equal(occupancyOf({ registers: 80, threads: 32 }, on(9, 0)).warps, 24);
  // 48 threads are two warps.
  for (const threads of [33, 48, 64])
    assert.equal(occupancyOf({ registers: 16, threads }, on(9, 0)).warps, 64);
  const most = 227 * 1024;
  assert.equal(occupancyOf({ registers: 16, threads: 32, sharedBytes: most }, on(9, 0)).blocks, 1);
  for (const sharedBytes of [most + 1, 228 * 1024])
    assert.equal(occupancyOf({ registers: 16, threads: 32, sharedBytes }, on(9, 0)).blocks, 0);
});

/** The rules of what bounds a kernel: each where it holds, and just short of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LIMITERS, type LimitFigures, limitOf } from '../../src/characterize/limiter.ts';

/** The plain kernel on random lookups: it waits for loads, with many warps, and nothing is full. */
const LATENCY: LimitFigures = {
  timeUs: 123,
  dramShare: 0.44,
  l2Share: 0.41,
  l1Share: 0.25,
  smShare: 0.2,
  activeShare: 0.95,
  achievedWarps: 55.5,
  theoreticalWarps: 64,
  occupancy: 0.87,
  longScoreboardPerIssue: 40,
  stalls: [
    { reason: 'long scoreboard', perIssue: 40 },
    { reason: 'wait', perIssue: 4 },
  ],
};

const limiterOf = (change: Partial<LimitFigures>) => limitOf({ ...LATENCY, ...change }).limiter;

test('waiting for loads, with many warps or few', () => {
  assert.deepEqual(limitOf(LATENCY), {
    limiter: LIMITERS.latency,
    because:
      '40.0 of 44.0 cycles an instruction waited for loads, 55.5 of 64.0 warps, memory busiest at 44 % of its peak',
  });
  assert.equal(limiterOf({ occupancy: 0.5 }), LIMITERS.latency);
  assert.equal(limiterOf({ occupancy: 0.49 }), LIMITERS.fewWarps);
});

test('warps that are ready, and wait longest for their turn', () => {
  // The fused kernel on one row of float16, as recorded.
  const stalls = [
    { reason: 'not selected', perIssue: 3.5 },
    { reason: 'wait', perIssue: 1.6 },
    { reason: 'long scoreboard', perIssue: 0.9 },
  ];
  const ready = { l1Share: 0.68, smShare: 0.699, longScoreboardPerIssue: 0.9, stalls };
  assert.equal(limiterOf(ready), LIMITERS.issue);
  assert.match(limitOf({ ...LATENCY, ...ready }).because, /3\.50 of 6\.00 cycles/);
  assert.equal(limiterOf({ ...ready, stalls: stalls.toReversed() }), LIMITERS.several);
});

test('a full unit comes before what warps wait for', () => {
  // The fused kernel on random lookups: L2 passes on all that the memory delivers.
  assert.deepEqual(limitOf({ ...LATENCY, dramShare: 0.757, l2Share: 0.816, occupancy: 0.416 }), {
    limiter: LIMITERS.dram,
    because: 'memory at 76 % of its peak',
  });
  assert.equal(limiterOf({ dramShare: 0.69, l2Share: 0.72 }), LIMITERS.l2);
  assert.equal(limiterOf({ l2Share: 0.72, l1Share: 0.9 }), LIMITERS.l1);
  assert.equal(limiterOf({ l1Share: 0.71, smShare: 0.72 }), LIMITERS.issue);
  assert.equal(limiterOf({ dramShare: 0.69, l2Share: 0.69, l1Share: 0.69, smShare: 0.69 }), LIMITERS.latency);
});

test('the fused kernel on an H200, as its recorded counters have it', () => {
  // Shares of memory, L2, L1, instructions: docs/results-h200.md, 8 rows in flight.
  for (const [lookups, dramShare, l2Share, l1Share, smShare, limiter] of [
    ['float32, one_item', 0.09, 0.13, 0.92, 0.41, LIMITERS.l1],
    ['float32, high_hot', 0.28, 0.82, 0.61, 0.27, LIMITERS.l2],
    ['float32, med_hot', 0.71, 0.91, 0.34, 0.15, LIMITERS.l2],
    ['float32, low_hot', 0.87, 0.95, 0.19, 0.09, LIMITERS.dram],
    ['float32, random', 0.88, 0.94, 0.18, 0.08, LIMITERS.dram],
    ['int8, one_item', 0.08, 0.12, 0.54, 0.76, LIMITERS.issue],
    ['int8, random', 0.64, 0.87, 0.27, 0.32, LIMITERS.l2],
  ] as const)
    assert.equal(limiterOf({ dramShare, l2Share, l1Share, smShare }), limiter, lookups);
});

test('the fabric between the halves of L2, when it is what is busiest there', () => {
  assert.deepEqual(limitOf({ ...LATENCY, dramShare: 0.51, l2Share: 0.83, fabricShare: 0.828 }), {
    limiter: LIMITERS.fabric,
    because: "the fabric between L2's halves at 83 % of its peak",
  });
  assert.equal(limiterOf({ l2Share: 0.83, fabricShare: 0.6 }), LIMITERS.l2);
  assert.deepEqual(limitOf({ ...LATENCY, dramShare: 0.87, l2Share: 0.94, fabricShare: 0.94 }), {
    limiter: LIMITERS.dram,
    because: "memory at 87 % of its peak, the fabric between L2's halves at 94 %",
  });
});

test('idle multiprocessors', () => {
  assert.deepEqual(limitOf({ ...LATENCY, activeShare: 0.4, timeUs: 5.3 }), {
    limiter: LIMITERS.tail,
    because: 'the multiprocessors had warps in 40 % of the 5.30 µs',
  });
  assert.equal(limiterOf({ activeShare: 0.6 }), LIMITERS.latency);
  assert.equal(limiterOf({ activeShare: 0.4, dramShare: 0.8 }), LIMITERS.dram);
});

test('the units before L1, and nothing by itself', () => {
  const queued = {
    longScoreboardPerIssue: 2,
    stalls: [
      { reason: 'lg throttle', perIssue: 5 },
      { reason: 'short scoreboard', perIssue: 2 },
      { reason: 'long scoreboard', perIssue: 2 },
      { reason: 'wait', perIssue: 2 },
    ],
  };
  assert.equal(limiterOf(queued), LIMITERS.queue);
  assert.match(
    limitOf({ ...LATENCY, ...queued }).because,
    /^7\.00 of 11\.0 cycles .* memory busiest at 44 %/,
  );
  // Register prefetch on one row, as recorded: loads that hit in L1, and the units on the way there.
  const both = {
    longScoreboardPerIssue: 10.45,
    stalls: [
      { reason: 'long scoreboard', perIssue: 10.45 },
      { reason: 'lg throttle', perIssue: 3.73 },
      { reason: 'not selected', perIssue: 7 },
      { reason: 'wait', perIssue: 3 },
    ],
  };
  assert.deepEqual(limitOf({ ...LATENCY, ...both, l1Share: 0.48 }), {
    limiter: LIMITERS.latency,
    because:
      '10.4 of 24.2 cycles an instruction waited for loads, 3.73 for the load/store units, 55.5 of 64.0 warps, L1 busiest at 48 % of its peak',
  });
  assert.equal(limiterOf({ ...both, longScoreboardPerIssue: 3.7 }), LIMITERS.several);
  const mixed = {
    longScoreboardPerIssue: 2,
    stalls: [
      { reason: 'wait', perIssue: 4 },
      { reason: 'long scoreboard', perIssue: 2 },
      { reason: 'mio throttle', perIssue: 1 },
    ],
  };
  assert.deepEqual(limitOf({ ...LATENCY, ...mixed }), {
    limiter: LIMITERS.several,
    because: 'memory busiest at 44 % of its peak, the longest wait 4.00 cycles an instruction (wait)',
  });
  // The fused kernel on high_hot rows of float16, as recorded: three units are about as busy.
  assert.match(
    limitOf({ ...LATENCY, ...mixed, l2Share: 0.69, smShare: 0.66, l1Share: 0.64 }).because,
    /^L2 at 69 %, instruction throughput at 66 % and L1 at 64 % of their peaks, the longest wait 4\.00/,
  );
  assert.equal(limiterOf({ longScoreboardPerIssue: 0, stalls: [] }), LIMITERS.several);
});

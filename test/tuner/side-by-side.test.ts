/** Two plans in turns: what is a difference, and what is noise. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RecordedDevice } from '../../src/device.ts';
import { heuristicPlan, type Plan, plainPlan, planLabel } from '../../src/plan/plan.ts';
import type { PlanTimer } from '../../src/tuner/search.ts';
import { compareTurns, sideBySide } from '../../src/tuner/side-by-side.ts';
import { tunePlan } from '../../src/tuner/tune.ts';
import { Random } from '../support/random.ts';

const device: RecordedDevice = {
  ...{ kind: 'cpu', id: 'cpu', name: 'test', architecture: 'none', threads: 4, memoryBytes: 2 ** 33 },
  versions: {},
};
const context = { device, tables: [{ rows: 1000, dim: 128, rowFormat: 'float32' as const }] };
const HEURISTIC = planLabel(heuristicPlan(context));

/** Rounds of three batches of `ms`, disturbed by up to a share `noise`. */
function turns(ms: number, noise: number, random: Random, rounds = 15): number[][] {
  return Array.from({ length: rounds }, () =>
    Array.from({ length: 3 }, () => ms * (1 + (noise * random.integer(0, 1000)) / 1000)),
  );
}

test('a gain within the noise is none, a gain beyond it is one', () => {
  const random = new Random(5);
  const found = (gain: number, noise: number) =>
    compareTurns(turns(gain, noise, random), turns(1, noise, random));
  assert.equal(found(1.1, 0.05).isFaster, true);
  assert.equal(found(1.02, 0.01).isFaster, true);
  assert.equal(found(0.9, 0.05).isFaster, false);
  assert.equal(found(1.004, 0).isFaster, false, 'too little');
  const equal = Array.from({ length: 200 }, () => found(1, 0.3));
  const mistaken = equal.filter(({ isFaster }) => isFaster).length;
  assert.ok(mistaken <= 12, `${mistaken} of 200 equal plans were taken for faster`);
  for (const { gain, gainLow, gainHigh } of equal) assert.ok(gainLow <= gain && gain <= gainHigh);
});

test('the median lies between the gains of two rounds, 95 times of 100 by the binomial distribution', () => {
  for (const [rounds, low, high] of [
    [9, 2, 8],
    [10, 2, 9],
    [15, 4, 12],
    [25, 8, 18],
  ] as const) {
    // Gains of 1 … rounds, in another order.
    const standing = Array.from({ length: rounds }, (_, i) => [((i * 7) % rounds) + 1]);
    const challenger = standing.map(() => [1]);
    const { gain, gainLow, gainHigh } = compareTurns(standing, challenger);
    assert.deepEqual([gain, gainLow, gainHigh], [(rounds + 1) / 2, low, high], `${rounds} rounds`);
  }
});

test('a few rounds decide nothing', () => {
  const random = new Random(5);
  const { isFaster, rounds } = compareTurns(turns(2, 0, random, 5), turns(1, 0, random, 5));
  assert.deepEqual([isFaster, rounds], [false, 5]);
});

/** A timer on which the heuristic plan takes 30 ms, and others `time`. */
function timerOf(time: (plan: Plan) => number) {
  const ran: string[] = [];
  const timer: PlanTimer = {
    context,
    run: async (plan) => {
      ran.push(planLabel(plan));
      return { batchMs: planLabel(plan) === HEURISTIC ? 30 : time(plan) };
    },
  };
  return { timer, ran };
}

test('plans take turns, each first as often as the other', async () => {
  const { timer, ran } = timerOf(() => 20);
  const { rounds, gain } = await sideBySide(
    timer,
    { standing: heuristicPlan(context), challenger: plainPlan('cpu') },
    0,
  );
  assert.deepEqual([rounds, gain], [9, 1.5]);
  const timed = ran.slice(4);
  assert.equal(timed.length, 18);
  assert.deepEqual(timed.slice(0, 4), [HEURISTIC, 'standard', 'standard', HEURISTIC]);
});

test('the plan found stands when it beats the heuristic one', async () => {
  const { timer } = timerOf((plan) => (planLabel(plan) === 'standard + threads 4' ? 20 : 40));
  const { plan, isBetter, batchMs, comparison } = await tunePlan(timer, { seconds: 60 });
  assert.deepEqual([planLabel(plan), isBetter, batchMs], ['standard + threads 4', true, 20]);
  assert.equal(comparison?.gain, 1.5);
});

test('a plan that won the race by luck does not stand', async () => {
  let runs = 0;
  // Fast for as long as the race takes, and then like the heuristic plan.
  const { timer } = timerOf((plan) => (planLabel(plan) === 'standard' ? (runs++ < 6 ? 25 : 30) : 40));
  const { plan, search, isBetter, batchMs } = await tunePlan(timer, { seconds: 60 });
  assert.equal(planLabel(search.plan), 'standard');
  assert.deepEqual([planLabel(plan), isBetter, batchMs], [HEURISTIC, false, 30]);
});

test('a race that the heuristic plan wins needs no comparison', async () => {
  const { timer } = timerOf(() => 40);
  const { plan, comparison } = await tunePlan(timer, { seconds: 60 });
  assert.deepEqual([planLabel(plan), comparison], [HEURISTIC, undefined]);
});

test('a plan that was saved before is measured whatever the budget', async () => {
  const saved = { ...plainPlan('cpu'), techniques: { threads: { count: 3 } } };
  const { timer, ran } = timerOf(() => 40);
  await tunePlan(timer, { seconds: 0, also: [saved] });
  assert.ok(ran.includes('standard + threads 3'));
});

/** Runs of a load, by a runner that knows its server's capacity. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isGeneratorLate } from '../../src/load/facts.ts';
import { type LoadPlan, runLoad, verdict } from '../../src/load/load.ts';
import type { Runner, RunRequest } from '../../src/load/processes.ts';
import { Tally } from '../../src/load/tally.ts';

const PLAN: LoadPlan = {
  rates: [],
  ofFound: [],
  warmupMs: 0,
  durationMs: 1000,
  patienceMs: 0,
  seed: 1,
};
const CAPACITY = 750;

/** Answers within 5 ms up to the capacity; beyond it, one in five is refused and the rest takes 50 ms. */
function tallyAt(rate: number): Tally {
  const tally = new Tally();
  for (let i = 0; i < 1000; i++) {
    tally.counts.scheduled += 1;
    tally.lag.record(0.01);
    if (rate > CAPACITY && i % 5 === 0) tally.settle({ kind: 'refused', what: '503 OVERLOADED' }, 1);
    else tally.settle({ kind: 'answered', samples: 3 }, rate > CAPACITY ? 50 : 5, 10);
  }
  tally.spanMs = 1000;
  return tally;
}

function load(plan: Partial<LoadPlan>, signal = new AbortController().signal, onRun = () => {}) {
  const orders: RunRequest[] = [];
  const runner: Runner = {
    run: async (order) => {
      orders.push(order);
      return { tally: tallyAt(order.rate), opened: 4 };
    },
  };
  const done = runLoad({ runner, plan: { ...PLAN, ...plan }, onProgress: () => {}, onRun, signal });
  return { done, orders };
}

test('a run at each rate, each with arrivals of its own', async () => {
  const { done, orders } = load({ rates: [100, 900], deadlineMs: 10, count: 1000 });
  const { runs, search, opened, partial } = await done;
  assert.deepEqual(
    orders.map(({ rate }) => rate),
    [100, 900],
  );
  assert.equal(new Set(orders.map(({ seed }) => seed)).size, 2);
  assert.ok(orders.every(({ deadlineMs, count }) => deadlineMs === 10 && count === 1000));
  assert.deepEqual([search, opened, partial], [undefined, 4, false]);
  const [good, bad] = runs;
  assert.deepEqual([good?.inTime, good?.late, good?.refused], [1000, 0, 0]);
  assert.deepEqual([bad?.inTime, bad?.late, bad?.refused], [0, 800, 200]);
  assert.deepEqual(bad?.why, [{ what: '503 OVERLOADED', count: 200 }]);
  assert.equal(bad?.latency.count, 800);
  assert.equal(good?.held, undefined);
});

test('a search finds the rate; shares of it are run after it', async () => {
  const { done, orders } = load({ rates: [100], search: { quantile: 0.99, boundMs: 10 }, ofFound: [1.3] });
  const { search, runs } = await done;
  const { rate = 0 } = search ?? {};
  assert.ok(rate <= CAPACITY && rate > 0.95 * CAPACITY, `${rate}`);
  assert.equal(orders[0]?.rate, 100);
  assert.equal(orders.at(-1)?.rate, rate * 1.3);
  assert.equal(runs.at(-1)?.step, 'rate');
  assert.ok(
    orders.every(({ deadlineMs }) => deadlineMs === 10),
    'the bound is the deadline',
  );
  assert.ok(runs.slice(0, -1).every(({ rate: own, held }) => held === own <= CAPACITY));
  assert.equal(runs.find(({ held }) => held === false)?.because, 'p99 50.0 ms');
});

test('an interrupt ends it with the runs so far', async () => {
  const controller = new AbortController();
  const { done, orders } = load({ rates: [100, 200, 300] }, controller.signal, () => controller.abort());
  const { runs, partial } = await done;
  assert.deepEqual([runs.length, orders.length, partial], [1, 1, true]);
});

test('what keeps a promise from being held', () => {
  const cases: [string | undefined, (tally: Tally) => void][] = [
    [undefined, () => {}],
    [
      'p99 12.0 ms',
      (tally) => {
        for (let i = 0; i < 20; i++) tally.settle({ kind: 'answered', samples: 1 }, 12);
      },
    ],
    [
      '98.0 % in time',
      (tally) => {
        tally.counts.inTime -= 20;
      },
    ],
    [
      '1 failed',
      (tally) => {
        tally.counts.failed = 1;
      },
    ],
    [
      '1 unanswered',
      (tally) => {
        tally.counts.unanswered = 1;
      },
    ],
    [
      'the generator was late itself: p99 8.00 ms',
      (tally) => {
        for (let i = 0; i < 20; i++) tally.lag.record(8);
      },
    ],
    [
      'nothing was sent',
      (tally) => {
        tally.counts.scheduled = 0;
      },
    ],
  ];
  for (const [because, change] of cases) {
    const tally = tallyAt(1);
    change(tally);
    assert.deepEqual(
      verdict({ tally, opened: 1 }, { quantile: 0.99, boundMs: 10 }),
      because === undefined ? { held: true } : { held: false, because },
    );
  }
});

test('a generator is late where its lag is a tenth of the latency, and more than timers are', async () => {
  const [run] = (await load({ rates: [100] }).done).runs;
  assert.ok(run !== undefined);
  const lag = (p99Ms: number) => isGeneratorLate({ ...run, lag: { ...run.lag, p99Ms } });
  assert.deepEqual([0.19, 0.4, 0.6].map(lag), [false, false, true]);
});

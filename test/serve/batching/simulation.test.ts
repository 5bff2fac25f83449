/** The policy as a whole, in seeded simulations; docs/batching.md has the same at length, beside other policies. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { POLICIES, product } from '../../../bench/batching/policies.ts';
import {
  batchTimes,
  type Engine,
  inTime,
  type Noise,
  poissonArrivals,
  simulate,
} from '../../../bench/batching/simulate.ts';
import { Batcher, type Waiting } from '../../../src/serve/batching/batcher.ts';
import { LatencyModel } from '../../../src/serve/batching/latency-model.ts';
import { createRandom } from '../../../src/workload/random.ts';
import { SEED } from '../../support/seed.ts';

const GPU: Engine = { name: 'GPU', a: 0.12, b: 0.00014, slaMs: 2, shrinks: false };
const CPU: Engine = { name: 'CPU', a: 0.3, b: 0.008, slaMs: 20, shrinks: true };
const NOISE: Noise = { spread: 0.1, slowShare: 0.002, slowBy: 3 };
const COUNT = 6000;

function share(engine: Engine, rate: number, noise?: Noise, make = product): number {
  const requests = poissonArrivals(engine, rate, COUNT, createRandom(SEED));
  return inTime(requests, simulate(requests, make(engine), batchTimes(engine, noise, SEED)));
}

const of = (name: string) => {
  const found = POLICIES.find((policy) => policy.name === name);
  assert.ok(found !== undefined, name);
  return found.make;
};

test('at loads that an engine can take, nearly all are in time, with noise too', () => {
  assert.ok(share(GPU, 0.75) > 0.99);
  assert.ok(share(GPU, 0.7, NOISE) > 0.98);
  assert.ok(share(CPU, 0.7) > 0.99);
  assert.ok(share(CPU, 0.6, NOISE) > 0.98);
});

test('at 130 % load it serves what the engine can, where greedy batches serve nothing', () => {
  assert.ok(share(GPU, 1.3) > 0.62);
  assert.ok(share(GPU, 1.3, NOISE) > 0.58);
  assert.ok(share(CPU, 1.3) > 0.65);
  assert.ok(share(CPU, 1.3, NOISE) > 0.62);
  assert.ok(share(GPU, 1.3, undefined, of('greedy: all that waits')) < 0.05);
});

test('shrinking helps CPUs, and costs GPUs most of what they serve under overload', () => {
  const other = (engine: Engine) => product({ ...engine, shrinks: !engine.shrinks });
  assert.ok(share(CPU, 0.85) > share(CPU, 0.85, undefined, other) + 0.005);
  assert.ok(share(GPU, 1.3) > share(GPU, 1.3, undefined, other) + 0.2);
});

/** Requests of 1 to 1500 samples, with deadlines and priorities of all kinds, some of them cancelled. */
function mixed(count: number, meanMs: number): Waiting[] {
  const random = createRandom(SEED);
  let arrivedMs = 0;
  return Array.from({ length: count }, () => {
    arrivedMs -= meanMs * Math.log(1 - random.float());
    const deadlineMs = random.float() < 0.05 ? Number.POSITIVE_INFINITY : arrivedMs + 1 + 20 * random.float();
    return { samples: 1 + random.integer(1500), arrivedMs, deadlineMs, priority: random.integer(3) };
  });
}

test('every request is refused, answered, given up or cancelled, once; what runs is in time by the prediction', () => {
  for (const shrinks of [false, true]) {
    const latency = new LatencyModel({
      capacityOf: (samples) => samples,
      warmUp: [{ samples: 1000, ms: 1 }],
    });
    const batcher = new Batcher<Waiting>({
      latency,
      slaMs: 10,
      mostSamples: 8000,
      queueSamples: 40_000,
      shrinks,
    });
    const random = createRandom(SEED);
    const ends = new Map<Waiting, string>();
    const end = (request: Waiting, how: string) => {
      assert.equal(ends.get(request), undefined, `${how} after ${ends.get(request)}`);
      ends.set(request, how);
    };
    const waiting = new Set<Waiting>();
    const policy = {
      offer(request: Waiting, nowMs: number): boolean {
        const refusal = batcher.offer(request, nowMs);
        if (refusal === undefined) waiting.add(request);
        else end(request, refusal.code);
        if (refusal !== undefined) assert.ok(refusal.retryAfterMs >= 0);
        const [first] = waiting;
        if (first !== undefined && random.float() < 0.05) {
          assert.ok(batcher.cancel(first));
          waiting.delete(first);
          end(first, 'cancelled');
        }
        return refusal === undefined;
      },
      take(nowMs: number): readonly Waiting[] {
        const { batch = [], late = [] } = batcher.take(nowMs) ?? {};
        const samples = batch.reduce((sum, request) => sum + request.samples, 0);
        if (batch.length > 1) assert.ok(samples <= batcher.capSamples);
        for (const request of batch) {
          assert.ok(nowMs + latency.predictMs(samples) <= request.deadlineMs);
          end(request, 'answered');
        }
        for (const request of late) end(request, 'late');
        for (const request of [...batch, ...late]) assert.ok(waiting.delete(request));
        assert.equal(batcher.queuedRequests, waiting.size);
        assert.equal(
          batcher.queuedSamples,
          [...waiting].reduce((sum, request) => sum + request.samples, 0),
        );
        return batch;
      },
      ran: (samples: number, ms: number, nowMs: number) => batcher.ran(samples, ms, nowMs),
    };
    const requests = mixed(COUNT, 0.6);
    simulate(requests, policy, batchTimes({ a: 0.3, b: 0.001 }, NOISE, SEED));
    assert.equal(ends.size, COUNT);
    const counts = new Map<string, number>();
    for (const how of ends.values()) counts.set(how, (counts.get(how) ?? 0) + 1);
    for (const how of ['answered', 'late', 'cancelled', 'DEADLINE_UNMEETABLE'])
      assert.ok((counts.get(how) ?? 0) > 10, `${how}: ${counts.get(how)}`);
  }
});

test('under overload the first priority is served, the last gives way', () => {
  const requests = poissonArrivals(GPU, 1.3, COUNT, createRandom(SEED)).map((request, i) => ({
    ...request,
    priority: i % 3,
  }));
  const answeredMs = simulate(requests, product(GPU), batchTimes(GPU, undefined, SEED));
  const [first, second, last] = [0, 1, 2].map((priority) => {
    const own = requests.flatMap((request, i) => (request.priority === priority ? [i] : []));
    const good = own.filter((i) => (answeredMs[i] as number) <= (requests[i] as Waiting).deadlineMs);
    return good.length / own.length;
  }) as [number, number, number];
  assert.ok(first > 0.99, `${first}`);
  assert.ok(second > 0.8, `${second}`);
  assert.ok(last < 0.5, `${last}`);
});

test('it goes on after the engine became slower, and faster again', () => {
  const requests = poissonArrivals(GPU, 0.5, COUNT, createRandom(SEED));
  const thirdMs = (requests.at(-1)?.arrivedMs ?? 0) / 3;
  const policy = product(GPU);
  let nowMs = 0;
  const timed = {
    ...policy,
    take(at: number) {
      nowMs = at;
      return policy.take(at);
    },
  };
  const timeOf = (n: number) => (0.12 + 0.00014 * n) * (nowMs > thirdMs && nowMs < 2 * thirdMs ? 30 : 1);
  const answeredMs = simulate(requests, timed, timeOf);
  const last = requests.slice(-COUNT / 6);
  assert.ok(inTime(last, answeredMs.slice(-COUNT / 6)) > 0.99);
});

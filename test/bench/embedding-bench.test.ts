/** What the embedding stage's benchmark makes of times, on a GPU that is the reference, with made-up times. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { BoundOperation, LaunchTime, RunReport } from '../../src/backend/backend.ts';
import { EmbeddingBench, turnOn } from '../../src/bench/embedding-bench.ts';
import type { EmbeddingPeer, PeerTimes } from '../../src/bench/embedding-peer.ts';
import type { Peers } from '../../src/bench/peers.ts';
import { syntheticModel, syntheticTables } from '../../src/bench/synthetic-model.ts';
import { patternWorkload } from '../../src/bench/workload.ts';
import { type Plan, plainPlan, planLabel, withTechniques } from '../../src/plan/plan.ts';
import { ReferenceGpu } from '../support/reference-gpu.ts';

const tables = syntheticTables({ tables: 2, rows: 20, dim: 4, rowFormat: 'float32' });
const shape = { architecture: syntheticModel(tables), batchSize: 3, bagLengths: '2', batches: 2, seed: 1 };
const workload = patternWorkload('random', shape).embedding;
const PLAIN = plainPlan('cuda');
const PREFETCHED = withTechniques(PLAIN, { prefetch: { into: 'registers', distance: 6 } });
const PLAIN_MS = 12;
const PREFETCHED_MS = 3;
const OTHERS_MS = 6;
const ROUNDS = 2;
const { timed, warmup } = turnOn(new ReferenceGpu().device);

/** Microseconds of launches of rows, and of one that pins, in this order. */
const BAGS_US = [100, 9, 20];
const PIN_US = 70;

class TimedGpu extends ReferenceGpu {
  /** Whose results are changed. */
  wrong: Plan | undefined;
  /** Batches that ran under the plain plan. */
  plainRuns = 0;

  constructor() {
    super(({ tables: { plan } }) => {
      if (planLabel(plan) === planLabel(PLAIN)) {
        this.plainRuns++;
        // What warms up takes longer.
        return this.plainRuns % (warmup + timed) === 1 ? 1000 * PLAIN_MS : PLAIN_MS;
      }
      return planLabel(plan) === planLabel(PREFETCHED) ? PREFETCHED_MS : OTHERS_MS;
    });
  }

  protected override async runBound(operations: readonly BoundOperation[]): Promise<RunReport> {
    const report = await super.runBound(operations);
    const [bags, download] = operations;
    if (
      this.wrong !== undefined &&
      bags?.op === 'embeddingBags' &&
      planLabel(bags.tables.plan) === planLabel(this.wrong) &&
      download?.op === 'download'
    )
      download.target[5] = 77;
    const launch = (kind: LaunchTime['kind'], us: number): LaunchTime => ({
      operation: 0,
      kind,
      seconds: us / 1e6,
    });
    return { ...report, launches: [...BAGS_US.map((us) => launch('bags', us)), launch('pin', PIN_US)] };
  }
}

/** A peer of 24 ms a batch, 1000 times as long while it warms up, with launches of 4 and 10 µs. */
function peersOf(asked: number[][]): Peers {
  const peer = {
    implementation: 'Peer 1.0',
    variant: 'bag',
    tablesPerLaunch: 2,
    load: async () => {},
    run: async (batches: readonly number[]): Promise<PeerTimes[]> => {
      asked.push([...batches]);
      return batches.map((_, i) => ({ seconds: i < warmup ? 24 : 0.024, launches: [4e-6, 10e-6] }));
    },
  } as unknown as EmbeddingPeer;
  return {
    running: [peer],
    each: async (_: string, use: (own: EmbeddingPeer) => Promise<void>) => use(peer),
  } as unknown as Peers;
}

const near = (a: number | undefined, b: number, what: string) =>
  assert.ok(a !== undefined && Math.abs(a - b) <= 1e-9 * Math.abs(b), `${what}: ${a}, not ${b}`);

describe('the embedding stage', () => {
  test('rows say times, rates and ratios of what was timed', async () => {
    using gpu = new TimedGpu();
    using bench = new EmbeddingBench(gpu, tables, () => {});
    const ceilings = { readBytesPerSecond: 1e3, cacheReadBytesPerSecond: 1e6, multiplyAddsPerSecond: 1 };
    const asked: number[][] = [];
    const variants = [{ plan: PLAIN }, { plan: PREFETCHED }];
    const rows = await bench.measure(workload, variants, ROUNDS, ceilings, peersOf(asked));
    const [plain, prefetched, best, peer] = rows;
    assert.equal(rows.length, 4);
    const { traffic } = workload;
    // Memory is what limits: its ceiling is a thousandth of the cache's.
    const limitMs = ((traffic.distinctRowBytes + traffic.otherBytes) / 1e3) * 1e3;
    for (const [row, ms] of [
      [plain, PLAIN_MS],
      [prefetched, PREFETCHED_MS],
      [best, PREFETCHED_MS],
      [peer, 24],
    ] as const) {
      near(row?.timing.medianMs, ms, 'median');
      near(row?.timing.maxMs, ms, 'warm-up is not timed');
      assert.equal(row?.timing.rounds, ROUNDS * timed, 'rounds to warm up are not counted');
      near(row?.speedup, PLAIN_MS / ms, 'speedup over the plain kernel');
      near(row?.gigabytesPerSecond, traffic.lookupRowBytes / (ms / 1e3) / 1e9, 'GB/s');
      near(row?.limitMs, limitMs, 'speed of light');
      near(row?.limitShare, limitMs / ms, 'share of it');
    }
    assert.deepEqual([plain?.best, best?.best], [false, true]);
    near(plain?.launch?.medianUs, 20, 'median of launches');
    near(plain?.launch?.p10Us, 9, 'p10 of launches');
    near(plain?.launch?.p90Us, 100, 'p90 of launches');
    assert.equal(plain?.launch?.samples, 3 * ROUNDS * timed);
    near(plain?.pin?.medianUs, PIN_US, 'pinning');
    assert.equal(plain?.pin?.samples, ROUNDS * timed);
    near(peer?.launch?.medianUs, 7, "the peer's launches");
    assert.equal(peer?.tablesPerLaunch, 2);
    assert.ok(asked.every((batches) => batches.length === warmup + timed && batches.every((b) => b < 2)));
  });

  test('where the cache is slower than memory, it is what limits', async () => {
    using gpu = new TimedGpu();
    using bench = new EmbeddingBench(gpu, tables, () => {});
    const ceilings = { readBytesPerSecond: 1e9, cacheReadBytesPerSecond: 1e3, multiplyAddsPerSecond: 1 };
    const [row] = await bench.measure(workload, [{ plan: PLAIN }], 1, ceilings);
    const { lookupRowBytes, otherBytes } = workload.traffic;
    near(row?.limitMs, lookupRowBytes + otherBytes, 'speed of light');
  });

  test('a plan that pools other values than the plain one is an error', async () => {
    using gpu = new TimedGpu();
    gpu.wrong = PREFETCHED;
    using bench = new EmbeddingBench(gpu, tables, () => {});
    const ceilings = { readBytesPerSecond: 1e9, multiplyAddsPerSecond: 1 };
    await assert.rejects(bench.measure(workload, [{ plan: PLAIN }, { plan: PREFETCHED }], 1, ceilings), {
      code: 'KERNEL_FAILED',
      message: /pools other values than the plain kernel, first at element 5: 77/,
    });
  });
});

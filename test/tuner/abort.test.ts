/** Searches and comparisons of plans that are given up: no measurement follows. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CpuBackend } from '../../src/backend/cpu/cpu-backend.ts';
import { syntheticTables } from '../../src/bench/synthetic-model.ts';
import { heuristicPlan, plainPlan } from '../../src/plan/plan.ts';
import { EmbeddingTimer } from '../../src/tuner/embedding-timer.ts';
import { type PlanTimer, searchPlan } from '../../src/tuner/search.ts';
import { sideBySide } from '../../src/tuner/side-by-side.ts';
import { tunePlan } from '../../src/tuner/tune.ts';
import { syntheticBags } from '../../src/workload/synthetic.ts';
import { abortedAfter, assertAbortedAt, assertAbortedBefore, type Watch } from '../support/abort.ts';

const device = {
  kind: 'cpu',
  id: 'cpu',
  name: 'test',
  architecture: 'none',
  threads: 4,
  memoryBytes: 2 ** 33,
  versions: {},
} as const;
const context = { device, tables: [{ rows: 1000, dim: 128, rowFormat: 'float32' as const }] };

/** A timer that counts its runs, and calls `onRun` at each. */
class CountingTimer implements PlanTimer {
  readonly context = context;
  readonly #onRun: (run: number) => void;
  runs = 0;

  constructor(onRun: (run: number) => void = () => {}) {
    this.#onRun = onRun;
  }

  async run() {
    this.runs += 1;
    this.#onRun(this.runs);
    return { batchMs: 1 };
  }
}

/** A call with a timer whose `at`th run aborts the signal. @returns runs that it made. */
async function runsUntilAborted(
  at: number,
  call: (timer: PlanTimer, signal: AbortSignal) => Promise<unknown>,
): Promise<number> {
  const controller = new AbortController();
  const timer = new CountingTimer((run) => {
    if (run === at) controller.abort('why');
  });
  await assert.rejects(call(timer, controller.signal), { code: 'ABORTED', cause: 'why' });
  return timer.runs;
}

describe('between measurements', () => {
  const search = (timer: PlanTimer, signal: AbortSignal) => searchPlan(timer, { seconds: 1e6, signal });
  const tune = (timer: PlanTimer, signal: AbortSignal) => tunePlan(timer, { seconds: 1e6, signal });
  const compare = (timer: PlanTimer, signal: AbortSignal) => {
    const plans = { standing: plainPlan('cpu'), challenger: heuristicPlan(context) };
    return sideBySide(timer, plans, 1e6, signal);
  };

  test('the search, the tuning and the comparison end with the batch that is under way', async () => {
    for (const call of [search, tune]) {
      // The first run of a plan readies it, the second is measured.
      assert.equal(await runsUntilAborted(2, call), 2);
      assert.equal(await runsUntilAborted(40, call), 40);
    }
    assert.equal(await runsUntilAborted(30, compare), 30);
  });

  test('none is made where the signal was aborted before; none is lost where it is aborted afterwards', async () => {
    const timer = new CountingTimer();
    for (const call of [search, tune]) {
      await assert.rejects(call(timer, AbortSignal.abort()), { code: 'ABORTED' });
      assert.equal(timer.runs, 0);
    }
    const { plan } = await abortedAfter(({ signal }) => search(timer, signal));
    assert.equal(plan.device, 'cpu');
  });
});

test('a timer places and runs nothing any more, and gives back what it has', async () => {
  using backend = new CpuBackend({ threads: 1 });
  const tables = syntheticTables({ tables: 3, rows: 50, dim: 8, rowFormat: 'float32' });
  const shape = { tables, batchSize: 4, pattern: 'random', bagLengths: '3', seed: 1, batches: 2 } as const;
  const batches = syntheticBags(shape);
  const measure = async (watch: Watch) => {
    using timer = new EmbeddingTimer(backend, tables, watch);
    await timer.load(batches);
    return await timer.run(plainPlan('cpu'), 0);
  };
  await assertAbortedBefore(measure);
  await assertAbortedAt(/^placing tables$/, 2, measure);
  assert.ok((await abortedAfter(measure)).batchMs > 0);
  const controller = new AbortController();
  using timer = new EmbeddingTimer(backend, tables, { signal: controller.signal });
  await timer.load(batches);
  await timer.run(plainPlan('cpu'), 0);
  controller.abort('why');
  for (const call of [
    () => timer.run(plainPlan('cpu'), 0),
    () => timer.pool(plainPlan('cpu')),
    () => timer.load(batches),
  ])
    await assert.rejects(call, { code: 'ABORTED' });
});

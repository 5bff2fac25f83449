/** The race for the fastest plan, over made-up times. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RecordedDevice } from '../../src/device.ts';
import {
  type CudaPlan,
  heuristicPlan,
  type Plan,
  plainPlan,
  planLabel,
  refusals,
  techniquesFor,
} from '../../src/plan/plan.ts';
import { legalPlans, type PlanTimer, searchPlan } from '../../src/tuner/search.ts';
import { Random } from '../support/random.ts';

const device: RecordedDevice = {
  kind: 'cpu',
  id: 'cpu',
  name: 'test',
  architecture: 'none',
  threads: 4,
  memoryBytes: 2 ** 33,
  versions: {},
};
const gpu: RecordedDevice = {
  ...device,
  kind: 'cuda',
  id: 'cuda:0',
  gpu: { multiprocessors: 132, l2Bytes: 60e6, persistingL2Bytes: 37e6 },
};
const tables = [{ rows: 1000, dim: 128, rowFormat: 'float32' as const }];

/** A timer whose plans take what `time` says, disturbed upwards now and then. */
function timerOf(on: RecordedDevice, time: (plan: Plan) => number, noise = 0) {
  const random = new Random(3);
  const runs = new Map<string, number>();
  const timer: PlanTimer = {
    context: { device: on, tables },
    run: async (plan) => {
      runs.set(planLabel(plan), (runs.get(planLabel(plan)) ?? 0) + 1);
      const disturbed = random.integer(0, 2) === 0 ? 1 + noise : 1;
      return { batchMs: time(plan) * disturbed };
    },
  };
  return { timer, runs };
}

/** Times that differ from plan to plan by 2 % and more. */
function spread(context: PlanTimer['context']): Map<string, number> {
  const labels = legalPlans(context).map(planLabel);
  return new Map(labels.map((label, i) => [label, 1 + 0.02 * ((i * 7) % labels.length)]));
}

test('the fastest plan wins, and plans that are clearly slow run little', async () => {
  const context = { device, tables };
  const times = spread(context);
  const { timer, runs } = timerOf(device, (plan) => times.get(planLabel(plan)) as number, 0.3);
  const found = await searchPlan(timer, { seconds: 60 });
  assert.equal(times.get(planLabel(found.plan)), 1);
  assert.equal(found.finished, true);
  assert.equal(found.measured.length, times.size);
  // The first run of a plan readies it, and is not measured.
  for (const { plan, batchMs } of found.measured)
    assert.equal(runs.get(planLabel(plan)), batchMs.length + 1, planLabel(plan));
  const slowest = [...times].reduce((a, b) => (b[1] > a[1] ? b : a))[0];
  assert.ok((runs.get(slowest) as number) <= 6, `${slowest} ran ${runs.get(slowest)} times`);
  assert.equal(found.plainMs, times.get('standard'));
});

test('of equal plans, the one with the fewest techniques is taken', async () => {
  const { timer } = timerOf(device, () => 2);
  const { plan } = await searchPlan(timer, { seconds: 60 });
  assert.deepEqual(plan, plainPlan('cpu'));
});

test('a budget that is used up still gives a plan that was measured', async () => {
  const { timer } = timerOf(device, (plan) => (planLabel(plan) === 'standard' ? 2 : 1));
  const found = await searchPlan(timer, { seconds: 0 });
  assert.equal(found.finished, false);
  const context = { device, tables };
  assert.deepEqual(
    found.measured.map(({ plan }) => planLabel(plan)),
    ['standard', planLabel(heuristicPlan(context))],
  );
  assert.equal(planLabel(found.plan), planLabel(heuristicPlan(context)));
});

test('on a GPU, plans that starve it are rejected before they are measured', async () => {
  const { timer, runs } = timerOf(gpu, () => 1);
  const found = await searchPlan(timer, { seconds: 60 });
  assert.ok(found.rejected > 0 && found.legal === legalPlans(timer.context).length);
  assert.ok(runs.has('standard'), 'the plain kernel is what gains are measured against');
  assert.ok(!runs.has('standard + L1DPF d2'), 'two rows in flight are too few');
  assert.ok(runs.has('standard + RPF d6'));
});

test("the artifact's kernel runs in a race when it is asked for, and else not", async () => {
  const context = { device: gpu, tables };
  assert.ok(legalPlans(context).every(({ kernel }) => kernel !== 'artifact'));
  const artifact = legalPlans(context, ['artifact']);
  assert.ok(artifact.length > 20 && artifact.every(({ kernel }) => kernel === 'artifact'));
  const { timer, runs } = timerOf(gpu, () => 1);
  await searchPlan(timer, { seconds: 0, also: artifact.slice(0, 1) });
  assert.deepEqual(
    [...runs.keys()].filter((label) => label.startsWith('artifact')),
    ['artifact'],
  );
});

test('every legal combination is a plan that is not refused', () => {
  for (const on of [device, gpu]) {
    const context = { device: on, tables };
    const plans = legalPlans(context);
    assert.ok(plans.length > 10);
    assert.equal(new Set(plans.map(planLabel)).size, plans.length);
    for (const plan of plans) assert.deepEqual(refusals(plan, context), []);
  }
});

test('tables of several kinds of rows: each kind gets the setting that makes the whole faster', async () => {
  const mixed = [
    { rows: 1000, dim: 16, rowFormat: 'float32' as const },
    { rows: 1000, dim: 128, rowFormat: 'float32' as const },
    { rows: 9, dim: 128, rowFormat: 'float32' as const },
  ];
  // Narrow rows want 4 in flight, wide ones 16; all else is equal, and the fused kernel is faster.
  const wanted = [4, 16, 16];
  const timer: PlanTimer = {
    context: { device: gpu, tables: mixed },
    run: async (plan) => {
      if (plan.device !== 'cuda') throw new TypeError('not for this device');
      const off = mixed.map((table, t) => {
        const distance = techniquesFor(plan, table).prefetch?.distance ?? 1;
        return Math.abs(Math.log2(distance / (wanted[t] as number)));
      });
      return { batchMs: (plan.kernel === 'fused' ? 1 : 3) + off.reduce((sum, x) => sum + x / 10, 0) };
    },
  };
  const found = await searchPlan(timer, { seconds: 60 });
  assert.equal(found.finished, true);
  assert.ok(Math.abs(found.batchMs - 1) < 1e-9, planLabel(found.plan));
  assert.deepEqual(refusals(found.plan, timer.context), []);
  assert.equal((found.plan as CudaPlan).groups?.length, 1);
});

test('a setting of one kind of rows that gains next to nothing is not kept', async () => {
  const mixed = [16, 128].map((dim) => ({ rows: 1000, dim, rowFormat: 'float32' as const }));
  const timed = async (gain: number) => {
    const timer: PlanTimer = {
      context: { device: gpu, tables: mixed },
      run: async (plan) => {
        const groups = (plan as CudaPlan).groups?.length ?? 0;
        return {
          batchMs:
            planLabel({ ...plan, groups: [] } as unknown as Plan) === 'standard' ? 1 - groups * gain : 2,
        };
      },
    };
    const { plan, finished } = await searchPlan(timer, { seconds: 60 });
    assert.equal(finished, true);
    return (plan as CudaPlan).groups?.length ?? 0;
  };
  assert.equal(await timed(0.004), 0);
  assert.ok((await timed(0.006)) > 0);
});

test('compiling takes nothing of the budget, of groups neither, and every plan is compiled before it runs', async (t) => {
  let now = 0;
  t.mock.method(performance, 'now', () => now);
  const dims = [16, 128].map((dim) => ({ rows: 1000, dim, rowFormat: 'float32' as const }));
  const compiled = new Set<string>();
  const timer: PlanTimer = {
    context: { device: gpu, tables: dims },
    prepare: async (plans) => {
      for (const plan of plans) compiled.add(planLabel(plan));
      now += 3_600_000;
    },
    run: async (plan) => {
      assert.ok(compiled.has(planLabel(plan)), `${planLabel(plan)} runs before it is compiled`);
      now += 0.1;
      return { batchMs: planLabel(plan).length / 100 };
    },
  };
  const found = await searchPlan(timer, { seconds: 20 });
  assert.equal(found.finished, true);
  assert.ok(found.seconds < 20, `${found.seconds} s`);
});

/** Saved plans: found again, and left aside with the reason when they do not stand. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import type { RecordedDevice } from '../../src/device.ts';
import {
  heuristicPlan,
  type Plan,
  type PlanProvenance,
  plainPlan,
  withTechniques,
} from '../../src/plan/plan.ts';
import {
  choosePlan,
  type PlanTraffic,
  plansFolder,
  savedPlanFile,
  savePlan,
  tunedVersions,
} from '../../src/plan/saved-plans.ts';
import type { PlanContext } from '../../src/plan/techniques/technique.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrow-plans-'));
after(() => rmSync(folder, { recursive: true }));

const device: RecordedDevice = {
  kind: 'cpu',
  id: 'cpu',
  name: 'a processor',
  architecture: 'avx2',
  threads: 4,
  memoryBytes: 2 ** 33,
  versions: { node: '20.0.0', kernel: '6.1' },
};
const context = { device, tables: [{ rows: 1000, dim: 8, rowFormat: 'float32' as const }] };
const traffic = { distinctShare: 0.25, batchSize: 100 };
const file = savedPlanFile(context, traffic, folder);

function tuned(change: Partial<PlanProvenance> = {}): Plan {
  const plan = withTechniques(plainPlan('cpu'), { prefetch: { distance: 5, level: 'L2' } });
  const provenance = {
    device: device.name,
    architecture: device.architecture,
    versions: tunedVersions(device),
    createdAt: '2026-01-01T00:00:00Z',
    workload: 'med_hot',
    distinctShare: 0.25,
    batchSize: 100,
    batchMs: 1,
    plainMs: 2,
  };
  return { ...plan, tunedOn: { ...provenance, ...change } };
}

test('a plan that was tuned here is what runs', async () => {
  await savePlan(tuned(), file);
  assert.deepEqual(await choosePlan(undefined, context, { folder }), {
    plan: tuned(),
    source: 'saved, tuned on med_hot',
  });
  assert.deepEqual(readdirSync(folder).length, 1, 'nothing unfinished is left');
  const other = { device, tables: [{ rows: 1001, dim: 8, rowFormat: 'float32' as const }] };
  const without = await choosePlan(undefined, other, { folder });
  assert.deepEqual(without.plan, heuristicPlan(other));
  assert.match(without.source, /hotrow tune/);
  assert.deepEqual((await choosePlan('plain', context, { folder })).plan, plainPlan('cpu'));
});

test('whatever a plan was tuned for is in the name of its file', () => {
  const [table] = context.tables as [(typeof context.tables)[number]];
  const others: readonly string[] = [
    ...[{ rows: 1001 }, { dim: 9 }, { rowFormat: 'float16' as const }].map((change) =>
      savedPlanFile({ device, tables: [{ ...table, ...change }] }, traffic, folder),
    ),
    savedPlanFile({ device, tables: [table, table] }, traffic, folder),
    ...[{ name: 'another' }, { architecture: 'avx512' }, { kind: 'cuda' as const }].map((change) =>
      savedPlanFile({ ...context, device: { ...device, ...change } }, traffic, folder),
    ),
    ...[{ batchSize: 101 }, { distinctShare: 0.26 }].map((change) =>
      savedPlanFile(context, { ...traffic, ...change }, folder),
    ),
  ];
  assert.equal(new Set([file, ...others]).size, others.length + 1);
  // Other versions make a plan stale, and no other one.
  assert.equal(savedPlanFile({ ...context, device: { ...device, versions: {} } }, traffic, folder), file);
});

test('a collection whose features share tables has a plan of its own', () => {
  const weight = { dtype: 'float32', shape: [1000, 8], seed: 1 } as const;
  const shape = { rows: 1000, dim: 8, rowFormat: 'float32' as const };
  const fileOf = (...tables: PlanContext['tables']) => savedPlanFile({ device, tables }, traffic, folder);
  const apart = fileOf(shape, shape, shape);
  assert.equal(fileOf({ ...shape, weight }, { ...shape, weight: { ...weight } }, shape), apart);
  const files = [
    fileOf({ ...shape, weight }, { ...shape, weight }, shape),
    fileOf({ ...shape, weight }, shape, { ...shape, weight }),
    apart,
  ];
  assert.equal(new Set(files).size, 3);
});

test('of several, the newest runs, or the one tuned on the nearest traffic', async () => {
  const own = mkdtempSync(join(folder, 'several-'));
  const hot = { distinctShare: 0.02, batchSize: 100 };
  const plans = [
    tuned({ createdAt: '2026-01-01T00:00:00Z', workload: 'cold' }),
    tuned({ ...hot, createdAt: '2026-02-01T00:00:00Z', workload: 'hot' }),
    tuned({ batchSize: 4000, createdAt: '2026-01-15T00:00:00Z', workload: 'large' }),
  ];
  for (const plan of plans) {
    const { distinctShare, batchSize } = plan.tunedOn as PlanProvenance;
    await savePlan(plan, savedPlanFile(context, { distinctShare, batchSize }, own));
  }
  assert.equal(readdirSync(own).length, 3);
  const sourceOn = async (on?: PlanTraffic) =>
    (await choosePlan(undefined, context, { folder: own, ...(on === undefined ? {} : { traffic: on }) }))
      .source;
  assert.equal(await sourceOn(), 'saved, tuned on hot, the newest of 3 that were saved');
  assert.match(await sourceOn({ distinctShare: 0.2, batchSize: 100 }), /tuned on cold, the nearest/);
  assert.match(await sourceOn({ distinctShare: 0.2, batchSize: 8000 }), /tuned on large, the nearest/);
  assert.match(await sourceOn({ distinctShare: 0, batchSize: 8000 }), /tuned on hot, the nearest/);
  // One that does not stand any more makes way for the others.
  const stale = tuned({ ...hot, createdAt: '2026-02-01T00:00:00Z', versions: {} });
  await savePlan(stale, savedPlanFile(context, hot, own));
  assert.equal(await sourceOn(), 'saved, tuned on large, the newest of 2 that were saved');
});

test('a plan for another device is not looked at', async () => {
  const own = mkdtempSync(join(folder, 'devices-'));
  await savePlan(tuned(), savedPlanFile(context, traffic, own));
  const elsewhere = { ...context, device: { ...device, name: 'another processor' } };
  assert.equal(
    (await choosePlan(undefined, elsewhere, { folder: own })).source,
    'heuristic; `hotrow tune` finds a better one',
  );
});

test('Node may change; device, architecture, Hotrow and drivers may not', async () => {
  const newer = { ...device, versions: { ...device.versions, node: '99.0.0' } };
  assert.match((await choosePlan(undefined, { ...context, device: newer }, { folder })).source, /^saved/);
  for (const [change, reason] of [
    [{ device: 'another processor' }, /tuned on another processor, this is a processor/],
    [{ architecture: 'avx512' }, /tuned for avx512, this is avx2/],
    [{ versions: { ...tunedVersions(device), kernel: '6.0' } }, /tuned with kernel 6.0, this is 6.1/],
    [{ versions: { ...tunedVersions(device), hotrow: '0.0.1' } }, /tuned with hotrow 0.0.1/],
    [{ versions: {} }, /absent/],
    [{ versions: { ...tunedVersions(device), driver: '570' } }, /tuned with driver 570, this is absent/],
  ] as const) {
    await savePlan(tuned(change), file);
    const chosen = await choosePlan(undefined, context, { folder });
    assert.deepEqual(chosen.plan, heuristicPlan(context));
    assert.match(chosen.source, reason);
    const asked = await choosePlan(tuned(change), context, { folder });
    assert.match(asked.source, /as asked for, but stale/);
    assert.deepEqual(asked.plan, tuned(change));
  }
});

test('a saved plan that is damaged or not legal any more is left aside, with the reason', async () => {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, '{"version": 1');
  assert.match((await choosePlan(undefined, context, { folder })).source, /left aside: .*JSON/);
  const illegal = withTechniques(tuned(), { threads: { count: 5 } });
  await savePlan(illegal, file);
  assert.match((await choosePlan(undefined, context, { folder })).source, /left aside: threads: 5 threads/);
});

test('a folder that cannot be written is an error that names the file', async () => {
  const blocked = join(file, 'below-a-file.json');
  await assert.rejects(savePlan(tuned(), blocked), { code: 'FILE_UNWRITABLE', message: /below-a-file/ });
});

test('plans lie in the data folder of the user', () => {
  assert.equal(plansFolder({ XDG_DATA_HOME: '/data' }), '/data/hotrow/plans');
  assert.match(plansFolder({ XDG_DATA_HOME: 'relative' }), /\.local\/share\/hotrow\/plans$/);
});

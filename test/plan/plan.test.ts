/** Plans: their form, what they are refused for, their labels, and how one is chosen. */

import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import Value from 'typebox/value';
import type { RecordedDevice } from '../../src/device.ts';
import { DEVICE_KINDS } from '../../src/device.ts';
import { warpsPerMultiprocessor } from '../../src/plan/occupancy.ts';
import {
  checkPlan,
  heuristicPlan,
  kernelSettings,
  PLAN_VERSION,
  type Plan,
  parsePlan,
  placementKey,
  plainPlan,
  planFor,
  planLabel,
  planSchema,
  readPlan,
  refusals,
  techniquesFor,
  withGroup,
  withKernel,
  withTechniques,
} from '../../src/plan/plan.ts';
import { TECHNIQUES, techniquesOn } from '../../src/plan/techniques/registry.ts';
import type { PlanContext } from '../../src/plan/techniques/technique.ts';

function device(threads: number, kind: RecordedDevice['kind'] = 'cpu'): RecordedDevice {
  return {
    kind,
    id: kind,
    name: 'test',
    architecture: 'none',
    threads,
    memoryBytes: 2 ** 33,
    versions: {},
    ...(kind === 'cuda' ? { gpu: { multiprocessors: 132, l2Bytes: 60e6, persistingL2Bytes: 37e6 } } : {}),
  };
}

const small = { rows: 3, dim: 1, rowFormat: 'bfloat16' } as const;
const large = { rows: 40_000_000, dim: 128, rowFormat: 'float32' } as const;
const contextsOn = (kind: RecordedDevice['kind']): PlanContext[] =>
  [1, 2, 64].flatMap((threads) =>
    [[small], [large], [small, large, small]].map((tables) => ({ device: device(threads, kind), tables })),
  );
const contexts = contextsOn('cpu');
const [context] = contexts as [PlanContext];
const plain = plainPlan('cpu');

test('the plain plan is legal everywhere and has no technique', () => {
  for (const where of contexts) assert.deepEqual(refusals(plain, where), []);
  assert.deepEqual(plain, { version: PLAN_VERSION, device: 'cpu', kernel: 'standard', techniques: {} });
  assert.equal(planLabel(plain), 'standard');
});

test('every technique shows in the schema, with its parameters', () => {
  const text = JSON.stringify(planSchema);
  for (const kind of DEVICE_KINDS) {
    for (const { technique, on } of techniquesOn(kind)) {
      assert.ok(text.includes(JSON.stringify(technique.name)), technique.name);
      for (const where of contextsOn(kind)) {
        for (const parameters of on.candidates(where)) {
          assert.ok(
            Value.Check(on.parameters, parameters),
            `${technique.name}: ${JSON.stringify(parameters)}`,
          );
          const plan = withTechniques(plainPlan(kind), { [technique.name]: parameters });
          assert.ok(Value.Check(planSchema, plan), technique.name);
          assert.deepEqual(parsePlan(JSON.parse(JSON.stringify(plan))), plan);
          assert.deepEqual(refusals(plan, where), [], technique.name);
          assert.equal(planLabel(plan), `standard + ${on.label(parameters)}`);
          assert.ok(on.cost(parameters, where).note.length > 0);
        }
      }
    }
  }
});

test('what a GPU cannot do is refused', () => {
  const [first] = contextsOn('cuda') as [PlanContext];
  const refused = (techniques: Record<string, unknown>, where = first) =>
    refusals(withTechniques(plainPlan('cuda'), techniques), where).join();
  const pinning = { bytes: 512, by: 'prefetch', when: 'before' };
  assert.equal(refused({ pinning }), '');
  assert.match(refused({ pinning: { ...pinning, bytes: 37e6 + 1 } }), /sets aside at most 37000000/);
  assert.match(refused({ pinning: { ...pinning, by: 'window', when: 'ahead' } }), /nothing to do ahead/);
  assert.match(refused({ pinning: { ...pinning, bytes: 1 } }), /hold no row of 2 bytes/);
  const old = { ...first, device: { ...first.device, gpu: { ...first.device.gpu, persistingL2Bytes: 0 } } };
  assert.match(refused({ pinning }, old as PlanContext), /cannot set a part of its L2 aside/);
  assert.equal(refused({ occupancy: { warps: 64 } }), '');
  for (const techniques of [
    { occupancy: { maxRegisters: 12 } },
    { occupancy: { warps: 65 } },
    { occupancy: {} },
    { prefetch: { into: 'l2', distance: 4 } },
    { prefetch: { into: 'shared', distance: 17 } },
    { hugePages: {} },
  ]) {
    assert.throws(() => parsePlan({ ...plainPlan('cuda'), techniques }), { code: 'PLAN_INVALID' });
  }
});

test('the fused kernel is for GPUs, and takes the techniques that it can', () => {
  const [first] = contextsOn('cuda') as [PlanContext];
  const fused = withKernel(plainPlan('cuda'), 'fused');
  assert.deepEqual(refusals(fused, first), []);
  assert.equal(planLabel(fused), 'fused');
  const refused = (techniques: Record<string, unknown>, plan = fused) =>
    refusals(withTechniques(plan, techniques), first).join();
  assert.equal(
    refused({
      prefetch: { into: 'registers', distance: 8 },
      occupancy: { warps: 24 },
      block: { threads: 256 },
    }),
    '',
  );
  // Blocks of 16 warps: 24 are one and a half.
  const coarse = { block: { threads: 512 } };
  assert.match(
    refused({ occupancy: { warps: 24 }, ...coarse }),
    /^occupancy: 24 warps are no whole number of blocks, which have 16 \(512 threads\)$/,
  );
  assert.equal(refused({ occupancy: { warps: 48 }, ...coarse }), '');
  assert.match(refused({ occupancy: { warps: 30 } }), /blocks, which have 4 \(128 threads\)/);
  assert.equal(refused({ occupancy: { warps: 30 }, block: { threads: 64 } }), '');
  assert.match(refused({ prefetch: { into: 'registers', distance: 6 } }), /power of two/);
  assert.match(refused({ prefetch: { into: 'shared', distance: 8 } }), /registers alone/);
  assert.match(refused({ pinning: { bytes: 1e6, by: 'prefetch', when: 'before' } }), /all tables at once/);
  assert.match(refused({ block: { threads: 256 } }, plainPlan('cuda')), /32 × 8/);
  assert.throws(() => parsePlan({ ...plain, kernel: 'fused' }), { code: 'PLAN_INVALID' });
  assert.equal(heuristicPlan(first).kernel, 'fused');
});

test("the artifact's kernel takes the paper's techniques, and is no plan that is chosen", () => {
  const [first] = contextsOn('cuda') as [PlanContext];
  const artifact = withKernel(plainPlan('cuda'), 'artifact');
  assert.deepEqual(refusals(artifact, first), []);
  assert.equal(planLabel(artifact), 'artifact');
  assert.deepEqual(parsePlan(JSON.parse(JSON.stringify(artifact))), artifact);
  const refused = (techniques: Record<string, unknown>) =>
    refusals(withTechniques(artifact, techniques), first).join();
  const pinning = { bytes: 512, by: 'prefetch', when: 'before' };
  for (const into of ['registers', 'shared', 'local', 'l1'])
    assert.equal(refused({ occupancy: { maxRegisters: 42 }, prefetch: { into, distance: 10 }, pinning }), '');
  assert.match(
    refused({ prefetch: { into: 'pipelined', distance: 2 } }),
    /the paper, which has no pipelined/,
  );
  assert.match(refused({ lanes: { bytes: 8 } }), /a lane of the artifact kernel has one feature/);
  assert.match(refused({ block: { threads: 256 } }), /the artifact kernel's block is 32 × 8/);
  assert.throws(() => parsePlan({ ...plain, kernel: 'artifact' }), { code: 'PLAN_INVALID' });
  for (const where of contextsOn('cuda')) assert.notEqual(heuristicPlan(where).kernel, 'artifact');
  for (const { technique, on } of techniquesOn('cuda')) {
    for (const parameters of on.candidates({ ...first, kernel: 'artifact' }))
      assert.equal(refused({ [technique.name]: parameters }), '', technique.name);
  }
});

test('what a plan asks of its kernel: the warps that it names live on a multiprocessor at once', () => {
  const [first] = contextsOn('cuda') as [PlanContext];
  for (const kernel of ['standard', 'fused', 'artifact'] as const) {
    const base = withKernel(plainPlan('cuda'), kernel);
    assert.deepEqual(kernelSettings(base), { threads: kernel === 'fused' ? 128 : 256 });
    for (const threads of [undefined, 64, 128, 256, 512]) {
      const block = threads === undefined ? undefined : { threads };
      for (let warps = 1; warps <= 64; warps++) {
        const plan = withTechniques(base, { occupancy: { warps }, block });
        if (refusals(plan, first).length > 0) continue;
        const settings = kernelSettings(plan);
        assert.equal(settings.threads, threads ?? (kernel === 'fused' ? 128 : 256));
        const { maxRegisters: registers = 0, mostWarps } = settings;
        const living = warpsPerMultiprocessor({ registers, threads: settings.threads });
        assert.ok(living >= warps, `${kernel}: ${living} of ${warps} warps, blocks of ${settings.threads}`);
        assert.equal(mostWarps, kernel === 'fused' ? warps : undefined);
        if (kernel === 'fused') assert.equal(warps % (settings.threads / 32), 0);
      }
    }
  }
  const grouped = withGroup(withTechniques(withKernel(plainPlan('cuda'), 'fused'), { lanes: { bytes: 8 } }), {
    dim: 128,
    rowFormat: 'float32',
    techniques: { lanes: { bytes: 4 }, prefetch: { into: 'registers', distance: 4 } },
  });
  assert.deepEqual(kernelSettings(grouped), { threads: 128, laneBytes: 8 });
  const prefetch = { into: 'registers', distance: 4 };
  assert.deepEqual(kernelSettings(grouped, large), { threads: 128, laneBytes: 4, prefetch });
});

test('techniques have distinct names, titles and labels', () => {
  assert.equal(new Set(TECHNIQUES.map(({ name }) => name)).size, TECHNIQUES.length);
  assert.equal(new Set(TECHNIQUES.map(({ title }) => title)).size, TECHNIQUES.length);
  for (const { technique, on } of techniquesOn('cpu')) {
    const candidates = on.candidates({ device: device(8), tables: [large] });
    assert.equal(new Set(candidates.map((one) => on.label(one))).size, candidates.length, technique.name);
  }
});

test('malformed plans are refused, and the message names the member', () => {
  const refused: [unknown, RegExp][] = [
    [null, /JSON object/],
    ['plan', /JSON object/],
    [[], /plan version undefined/],
    [{}, /plan version undefined/],
    [{ ...plain, version: 2 }, /plan version 2/],
    [{ ...plain, version: '1' }, /plan version "1"/],
    [{ ...plain, device: 'tpu' }, /device "tpu"/],
    [{ ...plain, device: undefined }, /device undefined/],
    [{ ...plain, kernel: 'fast' }, /kernel/],
    [{ ...plain, techniques: undefined }, /techniques/],
    [{ ...plain, techniques: { warp: {} } }, /techniques/],
    [{ ...plain, techniques: { prefetch: {} } }, /prefetch/],
    [{ ...plain, techniques: { prefetch: { distance: 0, level: 'L1' } } }, /prefetch\/distance/],
    [{ ...plain, techniques: { prefetch: { distance: 65, level: 'L1' } } }, /prefetch\/distance/],
    [{ ...plain, techniques: { prefetch: { distance: 1.5, level: 'L1' } } }, /prefetch\/distance/],
    [{ ...plain, techniques: { prefetch: { distance: 8, level: 'L4' } } }, /prefetch\/level/],
    [{ ...plain, techniques: { prefetch: { distance: 8, level: 'L1', more: 1 } } }, /prefetch/],
    [{ ...plain, techniques: { threads: { count: 0 } } }, /threads\/count/],
    [{ ...plain, techniques: { hugePages: true } }, /hugePages/],
    [{ ...plain, tunedOn: { device: 'x' } }, /tunedOn/],
    [{ ...plain, speed: 'high' }, /./],
  ];
  for (const [value, message] of refused) {
    assert.throws(() => parsePlan(value, 'my.json'), { name: 'PlanError', code: 'PLAN_INVALID', message });
    assert.throws(() => parsePlan(value, 'my.json'), { message: /^my\.json: / });
  }
  const tunedOn = {
    device: 'a processor',
    architecture: 'avx512',
    versions: { hotrow: '1.0.0' },
    createdAt: '2026-01-01T00:00:00Z',
    workload: 'random',
    distinctShare: 0.5,
    batchSize: 10,
    batchMs: 1,
    plainMs: 2,
  };
  const tuned = { ...plain, tunedOn };
  assert.deepEqual(parsePlan(tuned), tuned);
});

test('illegal plans are refused with every reason', () => {
  const plan = withTechniques(plain, { threads: { count: 65 } });
  for (const where of contexts) {
    assert.match(refusals(plan, where).join(), /^threads: 65 threads, but the device was opened with \d+$/);
    assert.throws(() => checkPlan(plan, where), { code: 'PLAN_ILLEGAL', message: /65 threads/ });
  }
  assert.match(refusals(plain, { device: device(1, 'cuda'), tables: [] }).join(), /plan is for cpu/);
  assert.throws(() => checkPlan(plain, { device: device(1, 'cuda'), tables: [] }), { code: 'PLAN_ILLEGAL' });
});

test('the heuristic plan is legal, well-formed, and takes no memory', () => {
  for (const where of contexts) {
    const plan = planFor('cpu', heuristicPlan(where));
    checkPlan(plan, where);
    assert.deepEqual(parsePlan(plan), plan);
    assert.equal(placementKey(plan), placementKey(plain));
    const { threads } = where.device;
    assert.deepEqual(plan.techniques.threads, threads > 1 ? { count: threads } : undefined);
  }
});

test("on a GPU, the heuristic plan follows the width of the tables' rows", () => {
  const labelOf = (...dims: number[]) => {
    const tables = dims.map((dim) => ({ rows: 1000, dim, rowFormat: 'float32' as const }));
    return planLabel(heuristicPlan({ device: device(1, 'cuda'), tables }));
  };
  const wide = 'fused + OptMT 32 warps + RPF d8 + 8 bytes a lane + blocks of 64';
  assert.equal(labelOf(128, 256), wide);
  assert.equal(labelOf(64), wide);
  assert.equal(labelOf(16, 128), 'fused + RPF d8');
  // Rows of 8 in flight would take two thirds of the warps.
  assert.equal(labelOf(16, 256), 'fused');
});

test('techniques are switched on and off', () => {
  const both = withTechniques(plain, { prefetch: { distance: 8, level: 'L2' }, threads: { count: 2 } });
  assert.equal(planLabel(both), 'standard + prefetch d8 L2 + threads 2');
  assert.equal(planLabel(withTechniques(both, { prefetch: undefined })), 'standard + threads 2');
  assert.deepEqual(withTechniques(both, { prefetch: undefined, threads: undefined }), plain);
  assert.deepEqual(plain.techniques, {}, 'the plan given stays as it was');
  assert.equal(
    planLabel(withTechniques(both, { hugePages: {} })),
    'standard + prefetch d8 L2 + huge pages + threads 2',
  );
});

test('plans with the same placement share it', () => {
  const prefetching = withTechniques(plain, { prefetch: { distance: 8, level: 'L1' } });
  const huge = withTechniques(plain, { hugePages: {} });
  assert.equal(placementKey(prefetching), placementKey(plain));
  assert.notEqual(placementKey(huge), placementKey(plain));
  assert.equal(placementKey(withTechniques(huge, { threads: { count: 2 } })), placementKey(huge));
});

test('plan files', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'hotrow-plan-'));
  t.after(() => rm(folder, { recursive: true }));
  const file = join(folder, 'plan.json');
  await assert.rejects(readPlan(file), { code: 'FILE_NOT_FOUND' });
  await assert.rejects(readPlan(folder), { code: 'FILE_UNREADABLE' });
  await writeFile(file, '{ "version": 1,');
  await assert.rejects(readPlan(file), { code: 'FILE_TRUNCATED' });
  await writeFile(file, '{ version: 1 }');
  await assert.rejects(readPlan(file), { code: 'JSON_INVALID' });
  await writeFile(file, '{ "kind": "bench", "version": 1 }');
  await assert.rejects(readPlan(file), { code: 'FORMAT_UNKNOWN', message: /is results .*not a plan/ });
  await writeFile(file, JSON.stringify({ ...plain, kernel: 1 }));
  await assert.rejects(readPlan(file), { code: 'PLAN_INVALID', message: /plan\.json: / });
  const plan = heuristicPlan(context);
  await writeFile(file, JSON.stringify(plan));
  assert.deepEqual(await readPlan(file), plan);
});

test('groups: what a plan does otherwise on some tables', () => {
  const gpu = device(1, 'cuda');
  const mixed: PlanContext = {
    device: gpu,
    tables: [
      { rows: 10, dim: 16, rowFormat: 'float32' },
      { rows: 10, dim: 128, rowFormat: 'int8' },
    ],
  };
  const fused = withTechniques(withKernel(plainPlan('cuda'), 'fused'), {
    prefetch: { into: 'registers', distance: 8 },
  });
  const prefetch = { into: 'registers', distance: 4 } as const;
  const grouped = withGroup(fused, { dim: 16, rowFormat: 'float32', techniques: { prefetch } });
  assert.deepEqual(refusals(grouped, mixed), []);
  assert.deepEqual(parsePlan(JSON.parse(JSON.stringify(grouped))), grouped);
  assert.equal(planLabel(grouped), 'fused + RPF d8 + RPF d4 on 16 float32');
  const distances = mixed.tables.map((table) => techniquesFor(grouped, table).prefetch?.distance);
  assert.deepEqual(distances, [4, 8]);
  assert.deepEqual(withGroup(grouped, { dim: 16, rowFormat: 'float32', techniques: {} }), fused);

  const refusal = (plan: Plan) => refusals(plan, mixed).join('; ');
  const odd = { into: 'registers', distance: 3 } as const;
  assert.match(
    refusal(withGroup(fused, { dim: 16, rowFormat: 'float32', techniques: { prefetch: odd } })),
    /tables of 16 float32: prefetch: .*power of two/,
  );
  assert.match(
    refusal(withGroup(fused, { dim: 17, rowFormat: 'float32', techniques: { prefetch } })),
    /there are no tables of 17 float32/,
  );
  const occupancy = { warps: 32 };
  const capped = withGroup(fused, { dim: 16, rowFormat: 'float32', techniques: { occupancy } });
  assert.match(refusal(capped), /the fused kernel has one occupancy for all tables/);
  assert.deepEqual(
    refusals(withKernel(withTechniques(capped, { prefetch: undefined }), 'standard'), mixed),
    [],
  );
  const twice = { ...grouped, groups: [...(grouped.groups ?? []), ...(grouped.groups ?? [])] };
  assert.match(refusal(twice), /stand in two groups/);
  assert.throws(() => parsePlan({ ...grouped, groups: [{ dim: 16, rowFormat: 'int9', techniques: {} }] }), {
    code: 'PLAN_INVALID',
  });
  assert.throws(() => parsePlan({ ...plainPlan('cpu'), groups: [] }), { code: 'PLAN_INVALID' });
});

test('turns are longer than narrow rows have lanes, for the fused kernel alone', () => {
  const [first] = contextsOn('cuda') as [PlanContext];
  const on = techniquesOn('cuda').find(({ technique }) => technique.name === 'turns')?.on;
  const [table] = first.tables;
  assert.ok(on !== undefined && table !== undefined);
  const lengths = (dim: number, kernel: 'fused' | 'standard' = 'fused') => {
    const tables = [{ ...table, rowFormat: 'float32', dim } as const];
    return (on.candidates({ ...first, kernel, tables }) as { lookups: number }[]).map(
      ({ lookups }) => lookups,
    );
  };
  assert.deepEqual(lengths(16), [16, 8, 32]);
  assert.deepEqual(lengths(64), [32]);
  assert.deepEqual(lengths(128), []);
  assert.deepEqual(lengths(16, 'standard'), []);
  const fused = withKernel(plainPlan('cuda'), 'fused');
  assert.equal(planLabel(withTechniques(fused, { turns: { lookups: 16 } })), 'fused + turns of 16');
  assert.match(
    refusals(withTechniques(plainPlan('cuda'), { turns: { lookups: 8 } }), first).join(),
    /standard kernel reads an index by itself/,
  );
  for (const where of contextsOn('cuda')) assert.equal('turns' in heuristicPlan(where).techniques, false);
});

/** Counters of the embedding kernels, over an emulated GPU and a stand-in for ncu. */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { Value } from 'typebox/value';
import { syntheticModel, syntheticTables } from '../../src/bench/synthetic-model.ts';
import { patternWorkload } from '../../src/bench/workload.ts';
import { BAG_KERNELS, counterRows, runLaunches } from '../../src/characterize/counters.ts';
import { gpuLike } from '../../src/characterize/gpus.ts';
import { limiterOf } from '../../src/characterize/limiter.ts';
import { METRICS, profile, readCounters, stallMetric } from '../../src/characterize/nsight-compute.ts';
import { characterizationSchema } from '../../src/characterize/results.ts';
import { planLabel } from '../../src/embedding/plan.ts';
import { refuseEmulation } from '../emulation/emulator.ts';
import { openFakeBackend } from '../fake-driver/open-backend.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrow-ncu-test-'));
after(() => rmSync(folder, { recursive: true }));

const REASONS = [
  ...['barrier', 'branch_resolving', 'dispatch_stall', 'drain', 'imc_miss', 'lg_throttle', 'long_scoreboard'],
  ...['math_pipe_throttle', 'membar', 'mio_throttle', 'misc', 'no_instruction', 'not_selected'],
  ...['short_scoreboard', 'sleeping', 'tex_throttle', 'wait'],
];

/** As ncu writes it: quoted, thousands set apart, a line of units, what it says of itself before. */
function csvOf(kernels: readonly (readonly [name: string, timeNs: number])[]): string {
  const names = [...Object.values(METRICS), ...REASONS.map(stallMetric)];
  const cells = (values: readonly string[]) => values.map((value) => `"${value}"`).join(',');
  const value = (name: string, timeNs: number) => {
    if (name === METRICS.timeNs) return timeNs.toLocaleString('en-US');
    if (name === METRICS.l2HitPercent) return '100.01';
    return name === stallMetric('long_scoreboard') ? '20.5' : '0.25';
  };
  return [
    '==PROF== Connected to process 7 (/usr/bin/node)',
    '==WARNING== Note: Running with uncontrolled GPU caches. Profiling results may be inconsistent.',
    cells(['ID', 'Kernel Name', ...names]),
    cells(['', '', ...names.map(() => '%')]),
    ...kernels.map(([kernel, timeNs], i) =>
      cells([`${i}`, kernel, ...names.map((name) => value(name, timeNs))]),
    ),
    '',
  ].join('\n');
}

/** A program in ncu's place: writes `log` where it is told to, runs what it is given, ends with `code`. */
function standIn(name: string, log: string, code = 0): string {
  const csv = join(folder, `${name}.csv`);
  writeFileSync(csv, log);
  const program = join(folder, name);
  writeFileSync(
    program,
    `#!/bin/bash
while [ "$1" != --log-file ]; do shift; done
cp '${csv}' "$2"
shift 2
"$@" || exit 1
exit ${code}
`,
  );
  chmodSync(program, 0o755);
  return program;
}

describe('Nsight Compute', () => {
  test('what it writes is read, what it runs has run', async () => {
    const marker = join(folder, 'ran');
    const ncu = standIn('ncu', csvOf([['hotrow_fused_bags_a', 81_984]]));
    const [kernel, ...others] = await profile(ncu, ['/bin/sh', '-c', `echo yes >'${marker}'`], BAG_KERNELS);
    assert.equal(readFileSync(marker, 'utf8'), 'yes\n');
    assert.equal(others.length, 0);
    assert.equal(kernel?.name, 'hotrow_fused_bags_a');
    assert.equal(kernel?.values.timeNs, 81_984);
    assert.equal(kernel?.stalls.long_scoreboard, 20.5);
  });

  test('no permission, and other failures', async () => {
    const refused = '==ERROR== ERR_NVGPUCTRPERM - The user does not have permission';
    await assert.rejects(profile(standIn('refused', refused, 1), ['true'], BAG_KERNELS), {
      code: 'DEVICE_UNAVAILABLE',
      hint: /root/,
    });
    await assert.rejects(profile(standIn('broken', '==ERROR== No kernels', 9), ['true'], BAG_KERNELS), {
      code: 'KERNEL_FAILED',
      message: /No kernels/,
    });
    await assert.rejects(profile(standIn('fine', csvOf([])), ['false'], BAG_KERNELS), {
      code: 'KERNEL_FAILED',
    });
  });

  test('output that is cut off or of something else is refused', () => {
    const whole = csvOf([['hotrow_fused_bags_a', 5]]);
    for (const text of [
      '',
      'hello',
      whole.slice(0, -40),
      whole.replace(METRICS.dramBytes, 'dram'),
      whole.replace('"20.5"', '""'),
    ]) {
      assert.throws(() => readCounters(text), { code: 'KERNEL_FAILED' });
    }
    assert.equal(readCounters(whole).length, 1);
  });
});

test('every variant runs on every pattern, and its launches get their counters', {
  skip: refuseEmulation(),
}, async () => {
  const tables = syntheticTables({ tables: 2, rows: 40, dim: 16, rowFormat: 'float32' });
  const architecture = syntheticModel(tables);
  const shape = { architecture, batchSize: 4, bagLengths: '3', batches: 2, seed: 1 };
  const workloads = (['one_item', 'random'] as const).map((name) => patternWorkload(name, shape).embedding);
  using backend = openFakeBackend();
  const ran = await runLaunches(backend, tables, workloads);
  const variants = [...new Set(ran.map(({ plan }) => planLabel(plan)))];
  assert.equal(ran.length, 2 * 2 * variants.length);
  for (const part of [/^standard$/, /^standard \+ OptMT \S+ \S+$/, /RPF d\d+$/, /RPF .* L2P/, /^fused/])
    assert.ok(
      variants.some((label) => part.test(label)),
      `${part} among ${variants}`,
    );
  const kernels = ran.flatMap(({ kernel, launchUs }) =>
    launchUs.map((): [string, number] => [`hotrow_${kernel.replaceAll('.', '_')}`, 2000]),
  );
  for (const [name] of kernels) assert.match(name, new RegExp(BAG_KERNELS));
  const of = { tables: 2, computeCapability: [9, 0] } as const;
  const rows = counterRows(ran, readCounters(csvOf(kernels)), of);
  assert.equal(rows.length, 2 * variants.length);
  for (const row of rows) {
    assert.ok(Value.Check(characterizationSchema.properties.counters.items, row));
    assert.equal(row.timeUs, 2);
    assert.equal(row.tablesPerLaunch, row.variant.startsWith('fused') ? 2 : 1);
    assert.equal(row.stalls[0]?.reason, 'long scoreboard');
    assert.equal(row.l2HitRate, 1);
  }
  assert.throws(() => counterRows(ran, readCounters(csvOf(kernels.slice(1))), of), {
    code: 'KERNEL_FAILED',
    message: /counted/,
  });
});

describe('limiters', () => {
  // Of the fused kernel on an H200, as bench/results/h200-fused-counters.csv has them; the last two are the standard kernel's way.
  const idle = { dramShare: 0.1, l2Share: 0.15, l1Share: 0.2, smShare: 0.1, issueSlotUse: 0.1 };
  const warps = { achievedWarps: 26, mostWarps: 64, longScoreboardPerIssue: 77, stallsPerIssue: 80 };
  for (const [limiter, figures] of [
    ['memory bandwidth', { dramShare: 0.88, l2Share: 0.94 }],
    ['L2 bandwidth', { dramShare: 0.71, l2Share: 0.91 }],
    ['L1 bandwidth', { l1Share: 0.92, smShare: 0.41 }],
    ['instruction issue', { l1Share: 0.54, smShare: 0.76, issueSlotUse: 0.78 }],
    ['memory latency at low occupancy', {}],
    ['memory latency', { achievedWarps: 60 }],
    ['nothing by itself', { longScoreboardPerIssue: 10 }],
  ] as const) {
    test(limiter, () => {
      const found = limiterOf({ ...idle, ...warps, ...figures });
      assert.equal(found.limiter, limiter);
      assert.match(found.because, /\d+ %/);
    });
  }
});

test('GPUs are known by what drivers call them', () => {
  for (const [name, known] of [
    ['NVIDIA H200', 'H200'],
    ['NVIDIA A100-SXM4-80GB', 'A100'],
    ['NVIDIA GeForce RTX 4090', 'RTX 4090'],
    ['Voodoo 2', undefined],
  ] as const)
    assert.equal(gpuLike(name), known);
});

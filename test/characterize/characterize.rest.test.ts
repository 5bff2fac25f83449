/** The characterization of a GPU: a profiler that repeats recorded counters, over the emulated device. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { afterEach, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import Value from 'typebox/value';
import type { CudaBackend } from '../../src/backend/cuda/cuda-backend.ts';
import { patternWorkload } from '../../src/bench/workload.ts';
import { Budget } from '../../src/characterize/budget.ts';
import {
  launchesPerBatch,
  plannedCells,
  readProgress,
  readRuns,
  requestCells,
  runCells,
} from '../../src/characterize/cells.ts';
import { type CharacterizeOptions, characterize } from '../../src/characterize/characterize.ts';
import { keepLookups, keptLookups } from '../../src/characterize/kept-lookups.ts';
import { findNcu, type Ncu } from '../../src/characterize/ncu.ts';
import { characterizationSchema } from '../../src/characterize/results.ts';
import { tableGroups } from '../../src/characterize/table-groups.ts';
import { parseVariants, VARIANTS } from '../../src/characterize/variants.ts';
import { characterizeText } from '../../src/cli/characterize-text.ts';
import { HotrowError } from '../../src/errors.ts';
import { refuseEmulation } from '../emulation/emulator.ts';
import { fake, openFakeBackend } from '../fake-driver/open-backend.ts';
import { bundledProgram } from '../support/bundled-program.ts';
import { smallModel } from '../support/models.ts';
import { Random } from '../support/random.ts';
import { ReferenceGpu } from '../support/reference-gpu.ts';
import { SHAPE, WORKLOADS } from './workload.ts';

const FAKE_NCU = fileURLToPath(new URL('fake-ncu.mjs', import.meta.url));
const PROGRAM = await bundledProgram(new URL('cells-program.ts', import.meta.url));
const NCU: Ncu = { program: FAKE_NCU, version: '2025.3.0.0' };

/** Emulation takes its time. */
const ENDLESS = new Budget({ seconds: 1e6 });

function run(change: Partial<CharacterizeOptions> = {}) {
  using backend = openFakeBackend();
  return characterize({
    device: backend.device,
    open: openFakeBackend,
    ncu: NCU,
    cellsCommand: (file) => [process.execPath, PROGRAM, file],
    architecture: SHAPE.architecture,
    workloads: WORKLOADS,
    variants: VARIANTS,
    preset: 'paper',
    bagLengths: SHAPE.bagLengths,
    seed: SHAPE.seed,
    indexType: SHAPE.indexType,
    command: 'hotrow characterize',
    embedding: true,
    modelRounds: 0,
    budget: ENDLESS,
    onProgress: () => {},
    ...change,
  });
}

const LABELS = [
  'standard',
  'standard + OptMT 64 warps',
  'standard + OptMT 64 warps + RPF d6',
  /^standard \+ OptMT 64 warps \+ RPF d6 \+ L2P /,
  'fused + OptMT 32 warps + RPF d8 + 8 bytes a lane + blocks of 64',
];

/** The tables that each variant has rows for: of two kinds one each, or all with one launch. */
const GROUPS = LABELS.map((_, i) => (i === LABELS.length - 1 ? [undefined] : ['table_0', 'table_2']));

interface Row {
  readonly pattern: string;
  readonly variant: string;
  readonly group?: { readonly measured: string; readonly tables: number };
}

function assertCells(rows: readonly Row[], patterns = ['random', 'one_item']): void {
  assert.deepEqual(
    rows.map(({ pattern, group }) => [pattern, group?.measured]),
    patterns.flatMap((pattern) => GROUPS.flatMap((own) => own.map((measured) => [pattern, measured]))),
  );
  const labels = patterns.flatMap(() =>
    GROUPS.flatMap((own, i) => own.map(() => LABELS[i] as string | RegExp)),
  );
  for (const [i, { variant, group }] of rows.entries()) {
    const expected = labels[i] as string | RegExp;
    if (typeof expected === 'string') assert.equal(variant, expected);
    else assert.match(variant, expected);
    if (group !== undefined) assert.equal(group.tables, group.measured === 'table_0' ? 2 : 1);
  }
}

describe('on an emulated GPU', { skip: refuseEmulation() }, () => {
  afterEach(() => {
    delete process.env.FAKE_NCU;
    assert.deepEqual(fake.live(), {}, 'all was given back');
  });

  test('counters of every cell', async () => {
    const results = await run();
    assert.deepEqual([...Value.Errors(characterizationSchema, results)], []);
    assertCells(results.counters);
    assert.equal(results.launches, undefined);
    assert.equal(results.partial, undefined);
    // A launch serves one table or all; cells have three launches at least, in whole batches.
    const [plain, plainWide] = results.counters;
    const fused = results.counters[8];
    assert.deepEqual([plain?.launches, plain?.tablesPerLaunch], [2, 1]);
    assert.deepEqual([fused?.launches, fused?.tablesPerLaunch], [3, 3]);
    assert.match(plain?.kernel ?? '', /^hotrow_standard_bag_f32/);
    assert.equal(plainWide?.group?.dim, 64);
    // As recorded.
    assert.equal(plain?.timeUs, 81.984);
    // Not by the profiler, but by events of this very run.
    for (const { pairUs } of results.counters) assert.ok((pairUs as number) > 0 && pairUs !== 81.984);
    assert.equal(plain?.registers, 68);
    assert.equal(plain?.theoreticalWarps, 28);
    assert.equal(plain?.dramBytes, 295885824 + 2848512);
    assert.equal(plain?.limiter, 'DRAM bandwidth');
    assert.equal(plain?.stalls[0]?.reason, 'long scoreboard');
    assert.equal(results.tools.ncu, '2025.3.0.0');
    assert.match(results.notes.join('\n'), /^counters: 38 launches, .* in 2 runs/);

    const text = characterizeText(results);
    assert.match(text, /^2 like table_0 +32 +3\.00 +\d+ % +float32 +sum$/m);
    assert.match(text, /^standard +1 like table_2 +82\.0 +[\d.]+ +1\.00× /m);
    // The fused launch does the work of three.
    assert.match(text, /^fused \+ .* +all 3 +27\.3 +[\d.]+ +0\.33× /m);
    assert.match(text, /memory at 76 % of its peak/);
  });

  test('every measured launch is bracketed for the profiler, and no other', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'hotrow-cells-'));
    const workloads = WORKLOADS.map(({ embedding }) => embedding);
    const { tables } = SHAPE.architecture;
    try {
      for (const call of ['cuProfilerStart', 'cuProfilerStop']) {
        using backend = openFakeBackend();
        const groups = tableGroups(tables, workloads);
        const cells = plannedCells({ device: backend.device, tables }, ['random'], groups, VARIANTS);
        const launches = cells.reduce((sum, cell) => sum + cell.batches * launchesPerBatch(cell), 0);
        assert.equal(launches, 19);
        const file = join(folder, call);
        await requestCells(file, cells);
        fake.fail(call, launches, 1);
        const failing = runCells({ backend, tables, workloads }, file);
        await assert.rejects(failing, { message: new RegExp(`^${call} failed`) });
        assert.ok(!existsSync(file), 'nothing is listed of a run that failed');
        fake.fail(call, launches + 1, 1);
        await runCells({ backend, tables, workloads }, file);
        assert.equal((await readRuns(file)).runs, 1);
        const told = await readProgress(file);
        assert.deepEqual(
          told.slice(-cells.length - 1).map(({ cell }) => cell),
          [0, 1, 2, 3, 4, 5],
        );
        fake.fail(call, 0, 0);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('out of time: what costs least was measured before, and what was left out is told', async () => {
    const budget = new Budget({ seconds: 1, now: () => 2000 });
    const results = await run({ budget });
    assert.deepEqual([...Value.Errors(characterizationSchema, results)], []);
    assert.equal(results.partial, 'out of time');
    assert.deepEqual(results.counters, []);
    assertCells(results.launches ?? [], ['random']);
    assert.match(
      results.notes[0] ?? '',
      /^out of time; left out: launches on one_item, counters of 10 of 10 kernels.*--budget.*, the compiler's report$/,
    );
    assert.match(characterizeText(results), /note: out of time/);
  });

  test('an interrupt while counters are read: the times are there, and the profiler has ended', async () => {
    const interrupt = new AbortController();
    const budget = new Budget({ seconds: 1e6, signal: interrupt.signal });
    const folder = mkdtempSync(join(tmpdir(), 'hotrow-pids-'));
    const pids = join(folder, 'pids');
    try {
      process.env.FAKE_NCU_PIDS = pids;
      const onProgress = (what: string) => {
        if (what.startsWith('reading counters, pass 1') && existsSync(pids)) interrupt.abort();
      };
      const results = await run({ budget, onProgress });
      assert.deepEqual([...Value.Errors(characterizationSchema, results)], []);
      assert.equal(results.partial, 'interrupted');
      assert.deepEqual(results.counters, []);
      assertCells(results.launches ?? []);
      const [pid] = readFileSync(pids, 'utf8').trim().split('\n').map(Number);
      assert.throws(() => process.kill(pid as number, 0), { code: 'ESRCH' });
    } finally {
      delete process.env.FAKE_NCU_PIDS;
      rmSync(folder, { recursive: true });
    }
  });

  test('no profiler, or no leave to read counters: times by events, and how to get counters', async () => {
    const without = await run({ ncu: undefined });
    assert.deepEqual(parseVariants('fused, standard'), ['standard', 'fused']);
    const alone = await run({ ncu: undefined, variants: ['fused'] });
    assert.deepEqual(
      alone.launches?.map(({ variant }) => variant),
      [LABELS[4], LABELS[4]],
    );
    assert.match(characterizeText(alone), /^fused .* all 3 +\S+ +–$/m);
    assert.match(without.notes.join('\n'), /nsight-compute/);
    process.env.FAKE_NCU = 'refused';
    const refused = await run();
    assert.match(refused.notes.join('\n'), /NVreg_RestrictProfilingToAdminUsers.*/);
    for (const results of [without, refused]) {
      assert.deepEqual([...Value.Errors(characterizationSchema, results)], []);
      assert.deepEqual(results.counters, []);
      assertCells(results.launches ?? []);
      assert.match(characterizeText(results), /^standard +2 like table_0 +\S+ +1\.00×$/m);
    }
  });

  const failsWith = (message: RegExp) => (error: unknown) => {
    assert.ok(error instanceof HotrowError);
    assert.equal(error.code, 'PROFILER_FAILED');
    assert.match(error.message, message);
    return true;
  };

  test('what is not as expected is an error, never half a result', async () => {
    process.env.FAKE_NCU = 'cut';
    await assert.rejects(run(), failsWith(/was cut/));
    process.env.FAKE_NCU = 'too few';
    await assert.rejects(run(), failsWith(/37 launches were profiled, the program made 38/));
    delete process.env.FAKE_NCU;
    const broken = [process.execPath, '-e', 'console.error("error[TRACE_INVALID]: no"); process.exit(1)'];
    await assert.rejects(run({ cellsCommand: () => broken }), failsWith(/TRACE_INVALID/));
  });

  test('where the time of the whole model goes', async () => {
    // Emulation would be at it for minutes.
    const open = () => new ReferenceGpu() as unknown as CudaBackend;
    const architecture = smallModel(new Random(1), 'dot-lower');
    const workloads = (['random', 'one_item'] as const).map((pattern) =>
      patternWorkload(pattern, { ...SHAPE, architecture }),
    );
    const results = await run({ open, architecture, workloads, embedding: false, modelRounds: 2 });
    assert.deepEqual([...Value.Errors(characterizationSchema, results)], []);
    assert.deepEqual([results.counters, results.static], [[], []]);
    assert.deepEqual(new Set(results.model?.map(({ pattern }) => pattern)), new Set(['random', 'one_item']));
    assert.match(
      characterizeText(results),
      /^pattern +ms +embedding +bottom +interaction +top +copies +host/m,
    );
    assert.match(characterizeText(results), /takes \d\S+× as long as/);
  });
});

test('kept lookups are read back, and arrays that tables share are shared again', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'hotrow-kept-'));
  try {
    const own = (value: number) => ({
      indices: BigInt64Array.of(BigInt(value), -1n, 2n ** 40n),
      offsets: Int32Array.of(0, 2),
      weights: Float32Array.of(0.5, Number.NaN, value),
    });
    const shared = own(7);
    const lookups = [
      { pattern: 'random', batches: [{ batchSize: 2, bags: [shared, own(3), shared] }] },
      {
        pattern: 'a/b c',
        batches: [
          { batchSize: 0, bags: [] },
          { batchSize: 2, bags: [own(1)] },
        ],
      },
    ];
    await keepLookups(folder, lookups);
    const read = await keptLookups(folder);
    assert.deepEqual(read, lookups);
    const bags = read[0]?.batches[0]?.bags ?? [];
    assert.equal(bags[0]?.indices, bags[2]?.indices);
    await assert.rejects(keptLookups(join(folder, 'none')), { code: 'FILE_NOT_FOUND' });
    await assert.rejects(keepLookups(join(folder, 'none'), lookups), HotrowError);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('ncu is found on the PATH', () => {
  const folder = mkdtempSync(join(tmpdir(), 'hotrow-path-'));
  try {
    symlinkSync(FAKE_NCU, join(folder, 'ncu'));
    const PATH = [folder, dirname(process.execPath), '/usr/bin', '/bin'].join(delimiter);
    assert.deepEqual(findNcu({ PATH }), { program: 'ncu', version: '2025.3.0.0' });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

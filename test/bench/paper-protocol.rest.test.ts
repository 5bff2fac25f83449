/** A run by the paper's protocol, on a GPU that is the reference, with made-up times. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import Value from 'typebox/value';
import type { Backend } from '../../src/backend/backend.ts';
import { CpuBackend } from '../../src/backend/cpu/cpu-backend.ts';
import { artifactPlans } from '../../src/bench/artifact-plans.ts';
import { bench } from '../../src/bench/bench.ts';
import { paperClaims } from '../../src/bench/claims.ts';
import { compared, isArtifact } from '../../src/bench/comparison.ts';
import { type BenchResults, resultsSchema } from '../../src/bench/results.ts';
import { syntheticModel, syntheticTables } from '../../src/bench/synthetic-model.ts';
import { patternWorkload } from '../../src/bench/workload.ts';
import { benchText } from '../../src/cli/bench-text.ts';
import { type Plan, planLabel } from '../../src/plan/plan.ts';
import { renderReport } from '../../src/report/page.ts';
import { ReferenceGpu } from '../support/reference-gpu.ts';

const model = (tables: number) =>
  syntheticModel(syntheticTables({ tables, rows: 20, dim: 128, rowFormat: 'float32' }));
const lookups = (tables: number, batches: number) => {
  const shape = { architecture: model(tables), batchSize: 2, bagLengths: '2', batches, seed: 1 };
  return (['one_item', 'random'] as const).map((name) => patternWorkload(name, shape));
};

const WHOLE_TABLES = 5;
/** ms of a batch: the paper's kernel bare, with techniques, with one that is the fastest of them; all others. */
const [BARE, TECHNIQUES, BEST_TECHNIQUES, OTHERS] = [8, 6, 4, 2];
const BEST = 'artifact + OptMT cap 64 + RPF d8';

function msOf(plan: Plan): number {
  if (plan.kernel !== 'artifact') return OTHERS;
  if (Object.keys(plan.techniques).length === 0) return BARE;
  return planLabel(plan) === BEST ? BEST_TECHNIQUES : TECHNIQUES;
}

const run = (backend: Backend, tables: number) =>
  bench({
    backend,
    architecture: model(tables),
    preset: 'artifact',
    command: 'hotrow bench --preset artifact',
    workloads: lookups(tables, 3),
    bagLengths: '2',
    seed: 1,
    indexType: 'int64',
    embeddingRounds: 1,
    modelRounds: 2,
    paper: true,
    whole: { architecture: model(WHOLE_TABLES), workloads: lookups(WHOLE_TABLES, 2) },
    sweeps: [],
    peers: false,
  });

describe('a run by the paper’s protocol', () => {
  const gpu = new ReferenceGpu(({ tables }) => msOf(tables.plan));
  let results: BenchResults;
  before(async () => {
    results = await run(gpu, 3);
  });
  after(() => gpu[Symbol.dispose]());

  test('compares all with the bare kernel of the paper, and ends with Hotrow’s own plans', () => {
    assert.deepEqual([...Value.Errors(resultsSchema, results)], []);
    for (const pattern of ['one_item', 'random']) {
      const rows = compared(results).filter((row) => row.pattern === pattern);
      const artifact = rows.filter(isArtifact);
      assert.equal(artifact.length, artifactPlans({ device: gpu.device, tables: model(3).tables }).length);
      assert.deepEqual(rows.slice(0, artifact.length), artifact);
      assert.equal(rows[0]?.variant, 'artifact');
      assert.deepEqual(
        rows.slice(artifact.length).map(({ variant, best }) => (best ? 'best' : variant.split(' ')[0])),
        ['standard', 'fused', 'fused', 'best'],
      );
      assert.ok(!isArtifact(rows.at(-1) as (typeof rows)[number]), 'no search tries the paper’s kernel');
      for (const row of rows) assert.equal(row.speedup, BARE / msOf(row.plan as Plan), row.variant);
    }
    assert.match(results.protocol, /compared with the kernel that the paper measured/);
  });

  test('the whole model has tables of its own, inputs on the device, and three plans on each pattern', () => {
    assert.deepEqual(
      results.model.map(({ role, pattern, variant, inputs, tables }) => [
        role,
        pattern,
        variant,
        inputs,
        tables,
      ]),
      [
        ['artifact', 'artifact'],
        ['artifact-tuned', BEST],
        ['tuned', undefined],
      ].flatMap(([role, variant]) =>
        ['one_item', 'random'].map((pattern) => {
          const best = results.embedding.find((row) => row.best && row.pattern === pattern);
          return [role, pattern, variant ?? best?.variant, 'device', WHOLE_TABLES];
        }),
      ),
    );
    assert.equal(results.collection.length, 3);
  });

  test('tells the claims, on the terminal and on a page', () => {
    const text = benchText(results);
    assert.match(text, /the paper's claims, on an A100, and what cuda:0 gives/);
    assert.match(text, /^OptMT +1\.53× +\d/m);
    assert.ok(paperClaims(results).every(({ what, here }) => here !== undefined || what.includes('pinning')));
    const page = renderReport([results]);
    for (const words of ['The paper', 'techniques on the kernel that needs them'])
      assert.ok(page.includes(words));
  });
});

test('a CPU runs the protocol with what it has, and a note says so', async () => {
  using cpu = new CpuBackend({ threads: 1 });
  const results = await run(cpu, 2);
  assert.deepEqual([...Value.Errors(resultsSchema, results)], []);
  assert.ok(results.embedding.every((row) => !isArtifact(row)));
  assert.deepEqual(new Set(results.model.map(({ role }) => role)), new Set(['plain', 'tuned']));
  assert.match(results.notes.join('\n'), /the paper's claims are about GPUs: on cpu .* on 2 tables/);
  assert.match(benchText(results), /^OptMT +1\.53× +– *$/m);
});

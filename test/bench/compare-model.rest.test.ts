/** Under which plans the whole model is measured, and how that is told: on a GPU that is the reference, with made-up times. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import Value from 'typebox/value';
import type { EmbeddingBagsOperation } from '../../src/backend/backend.ts';
import { type BenchOptions, bench } from '../../src/bench/bench.ts';
import { MOST_RACED } from '../../src/bench/race.ts';
import { benchTables } from '../../src/bench/render.ts';
import { type BenchResults, resultsSchema } from '../../src/bench/results.ts';
import { syntheticModel, syntheticTables } from '../../src/bench/synthetic-model.ts';
import { patternWorkload } from '../../src/bench/workload.ts';
import { characterizeText } from '../../src/cli/characterize-text.ts';
import type { EmbeddingTable } from '../../src/embedding/bag.ts';
import { type Plan, plainPlan, planLabel, withKernel, withTechniques } from '../../src/plan/plan.ts';
import { benchFigures } from '../../src/report/bench-figures.ts';
import { benchFindings } from '../../src/report/bench-findings.ts';
import { recordedBench, smallCharacterization } from '../report/results.ts';
import { ReferenceGpu } from '../support/reference-gpu.ts';

const TABLES = MOST_RACED + 2;
const architecture = syntheticModel(
  syntheticTables({ tables: TABLES, rows: 20, dim: 4, rowFormat: 'float32' }),
);
const SHAPE = { architecture, batchSize: 2, bagLengths: '2', batches: 2, seed: 1 };
const PLAIN = plainPlan('cuda');
const PREFETCHED = withTechniques(PLAIN, { prefetch: { into: 'registers', distance: 6 } });
const FUSED = withTechniques(withKernel(PLAIN, 'fused'), { prefetch: { into: 'registers', distance: 8 } });

/** A device that keeps count of placements, and on which a plan of one's choice is fastest on each pattern. */
class CountedGpu extends ReferenceGpu {
  /** Tables and plan of each placement. */
  readonly placements: [tables: number, plan: string][] = [];

  constructor(fastest: { readonly hot: Plan; readonly cold: Plan }) {
    super(({ tables, bags }) => {
      const wanted = isHot(bags) ? fastest.hot : fastest.cold;
      return planLabel(tables.plan) === planLabel(wanted) ? 1 : 2;
    });
  }

  override async placeTables(tables: readonly EmbeddingTable[], plan: Plan) {
    this.placements.push([tables.length, planLabel(plan)]);
    return super.placeTables(tables, plan);
  }
}

/** Whether all lookups of the first table go to one row, as those of `one_item` do. */
function isHot(bags: EmbeddingBagsOperation['bags']): boolean {
  const { value } = bags as unknown as { readonly value: { bags: { indices: ArrayLike<number> }[] } };
  return new Set(Array.from(value.bags[0]?.indices ?? [])).size === 1;
}

async function run(gpu: CountedGpu, change: Partial<BenchOptions> = {}) {
  const progress: string[] = [];
  const results = await bench({
    ...{ backend: gpu, architecture, peers: false, bagLengths: '2', seed: 1, indexType: 'int64' as const },
    preset: 'model',
    command: 'hotrow bench',
    workloads: (['one_item', 'random', 'med_hot'] as const).map((name) => patternWorkload(name, SHAPE)),
    embeddingRounds: 0,
    modelRounds: 1,
    sweeps: [],
    onProgress: (text) => progress.push(text),
    ...change,
  });
  assert.deepEqual([...Value.Errors(resultsSchema, results)], []);
  return { results, progress };
}

/** Role, pattern and plan of the rows with inputs on the device. */
const rowsOf = ({ model }: BenchResults) =>
  model
    .filter(({ inputs }) => inputs === 'device')
    .map(({ role, pattern, variant }) => [role, pattern, variant]);

const modelTable = (results: BenchResults) => {
  const table = benchTables(results).find(({ title }) => title.includes('inputs in device memory'));
  assert.ok(table);
  return table;
};

describe('the whole model, each pattern tuned for by a race', () => {
  const gpu = new CountedGpu({ hot: FUSED, cold: PREFETCHED });
  let results: BenchResults;
  let progress: string[];
  before(async () => {
    ({ results, progress } = await run(gpu));
  });
  after(() => gpu[Symbol.dispose]());

  test('the race runs on a sample; the model is placed once a plan', () => {
    assert.deepEqual(rowsOf(results), [
      ['plain', 'one_item', 'standard'],
      ['plain', 'random', 'standard'],
      ['plain', 'med_hot', 'standard'],
      ['tuned', 'one_item', 'fused + RPF d8'],
      ['tuned', 'random', 'standard + RPF d6'],
      ['tuned', 'med_hot', 'standard + RPF d6'],
    ]);
    assert.deepEqual(gpu.placements, [
      [MOST_RACED, 'standard'],
      [TABLES, 'standard'],
      [TABLES, 'fused + RPF d8'],
      [TABLES, 'standard + RPF d6'],
    ]);
    assert.match(
      results.protocol,
      /tuned: on each pattern's own lookups on 16 of 18 tables, .* at most 2 s, .*: one_item \d+ plans in \d\.\d s/,
    );
    assert.doesNotMatch(results.protocol, /embedding:|best found/);
    for (const pattern of ['one_item', 'random', 'med_hot'])
      assert.ok(progress.some((text) => text.startsWith(`racing plans, ${pattern}: `)));
  });

  test('a row tells its plan, where nothing else does', () => {
    const table = modelTable(results);
    assert.doesNotMatch(table.title, /tuned/);
    assert.deepEqual(table.columns.at(-1), { title: 'techniques', left: true });
    assert.deepEqual(
      table.rows.map((row) => [row[1], row.at(-1)]),
      [
        ...Array.from({ length: 3 }, () => ['plain', 'none']),
        ['tuned', 'fused, RPF d8'],
        ...Array.from({ length: 2 }, () => ['tuned', 'RPF d6']),
      ],
    );
  });

  test('figures and findings go by role', () => {
    const chart = benchFigures(results).find(({ id }) => id === 'model')?.chart;
    assert.ok(chart?.kind === 'bars');
    assert.deepEqual(
      chart.panels.map(({ title, bars }) => [title, bars.length]),
      [
        ['under the plain kernel', 9],
        ['under the plans tuned for each pattern', 9],
      ],
    );
    assert.equal(chart.panels[1]?.bars[0]?.label, 'one_item, inputs in device memory: fused, RPF d8');
    const timed = structuredClone(results);
    for (const row of timed.model) row.timing.medianMs = row.pattern === 'random' ? 3 : 1;
    assert.deepEqual(
      benchFindings(timed)
        .filter(({ rule }) => rule === 'model-hotness')
        .map(({ text }) => text),
      [
        'With the plain kernel, the whole model takes 3.00× as long on random as on one_item.',
        'With the plans tuned for each pattern, the whole model takes 3.00× as long on random (RPF d6) as on one_item (fused, RPF d8).',
      ],
    );
    const stages = characterizeText({ ...smallCharacterization(), model: results.model });
    assert.match(stages, /^whole model under the plans tuned for each pattern, inputs in host memory$/m);
    assert.match(stages, /^pattern .* share +techniques$/m);
  });
});

describe('the whole model', () => {
  test('one plan for all patterns stands under the title; a plain one is not measured again', async () => {
    const workloads = [patternWorkload('random', SHAPE)];
    using fused = new CountedGpu({ hot: FUSED, cold: FUSED });
    const { title, columns } = modelTable((await run(fused, { workloads })).results);
    assert.match(title, /\ntuned: fused, RPF d8$/);
    assert.equal(columns.at(-1)?.title, 'speed');

    using plain = new CountedGpu({ hot: PLAIN, cold: PLAIN });
    const { results } = await run(plain, { workloads });
    assert.deepEqual(plain.placements.slice(1), [[TABLES, 'standard']]);
    assert.equal(rowsOf(results).length, 2);
    for (const { speedup } of results.model) assert.equal(speedup, 1);
  });

  test('takes the best plans of the embedding stage, which their own table tells', async () => {
    using gpu = new CountedGpu({ hot: FUSED, cold: PREFETCHED });
    const { results } = await run(gpu, { embeddingRounds: 1 });
    assert.deepEqual(
      rowsOf(results).slice(3),
      results.embedding.filter(({ best }) => best).map(({ pattern, variant }) => ['tuned', pattern, variant]),
    );
    assert.ok(gpu.placements.every(([tables]) => tables === TABLES));
    const { title, columns } = modelTable(results);
    assert.match(title, /\ntuned: the best plan found on each pattern$/);
    assert.equal(columns.at(-1)?.title, 'speed');
    assert.match(results.protocol, /tuned: the plan found best for the embedding stage on the same pattern/);
  });

  test('a plan that is given stands in place of tuned ones', async () => {
    using gpu = new CountedGpu({ hot: FUSED, cold: FUSED });
    const workloads = (['one_item', 'random'] as const).map((name) => patternWorkload(name, SHAPE));
    const { results, progress } = await run(gpu, { plan: PREFETCHED, workloads });
    assert.deepEqual(
      rowsOf(results).slice(2),
      ['one_item', 'random'].map((pattern) => ['given', pattern, 'standard + RPF d6']),
    );
    assert.match(modelTable(results).title, /\ngiven: RPF d6$/);
    assert.ok(!progress.some((text) => text.startsWith('racing')));
    assert.doesNotMatch(results.protocol, /tuned/);
    const { results: plain } = await run(gpu, { plan: 'plain', workloads: workloads.slice(1) });
    assert.ok(plain.model.every(({ role }) => role === 'plain'));
    const illegal = { version: 1, device: 'cpu', kernel: 'standard', techniques: {} } as const;
    await assert.rejects(run(gpu, { plan: illegal }), { code: 'PLAN_ILLEGAL' });
  });
});

test('results of before there were roles: the plain kernel, and one tuned plan', () => {
  const results = recordedBench('cpu-zen5-quick.json');
  const table = benchTables(results).at(-1);
  assert.match(table?.title ?? '', /\ntuned: prefetch d48 L1, huge pages, threads 2$/);
  assert.deepEqual(
    table?.rows.map(([, role]) => role),
    [...Array(5).fill('plain'), ...Array(5).fill('tuned')],
  );
  const chart = benchFigures(results).find(({ id }) => id === 'model')?.chart;
  assert.ok(chart?.kind === 'bars');
  assert.deepEqual(
    chart.panels.map(({ title }) => title),
    ['under the plain kernel', 'under the tuned plan (prefetch d48 L1, huge pages, threads 2)'],
  );
});

/** The paper's claims beside a run's figures, on made-up times. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ARTIFACT_PLAN, artifactPlans } from '../../src/bench/artifact-plans.ts';
import { artifactCombinations, paperClaims } from '../../src/bench/claims.ts';
import { baselineName } from '../../src/bench/comparison.ts';
import { PRESETS, paperTables } from '../../src/bench/presets.ts';
import { benchTables } from '../../src/bench/render.ts';
import { type Plan, planLabel, withTechniques } from '../../src/plan/plan.ts';
import { benchFigures } from '../../src/report/bench-figures.ts';
import { benchFindings } from '../../src/report/bench-findings.ts';
import { artifactResults, PIN_US } from '../report/artifact-results.ts';
import { recordedBench } from '../report/results.ts';
import { GPU_CAPABILITIES } from '../support/devices.ts';

const { device } = artifactResults();
const tables = PRESETS.artifact.architecture({}).tables;
const context = { device, tables };
const near = (value: number | undefined, expected: number, what: string) =>
  assert.ok(value !== undefined && Math.abs(value - expected) < 1e-9 * expected, `${what}: ${value}`);

describe('the plans of the paper', () => {
  const plans = artifactPlans(context);
  test('are all of its kernel, the bare one first, each once, and legal', () => {
    assert.deepEqual(plans[0], ARTIFACT_PLAN);
    assert.ok(plans.every(({ kernel }) => kernel === 'artifact'));
    assert.equal(new Set(plans.map(planLabel)).size, plans.length);
  });

  test('have every combination that the artifact has', () => {
    const has = (techniques: Record<string, unknown>) =>
      plans.map(planLabel).includes(planLabel(withTechniques(ARTIFACT_PLAN, techniques)));
    const occupancy = { maxRegisters: 42 };
    const pinning = { bytes: 30_720_000, by: 'prefetch', when: 'before' };
    const prefetch = { into: 'registers', distance: 2 };
    assert.ok(has({ occupancy }));
    assert.ok(has({ occupancy, prefetch }));
    assert.ok(has({ pinning }));
    assert.ok(has({ occupancy, prefetch, pinning }));
    assert.ok(has({ prefetch: { into: 'l1', distance: 2 } }));
    for (const into of ['shared', 'local', 'l1'])
      assert.ok(
        plans.some(({ techniques }) => {
          const own = techniques as { prefetch?: { into: string }; occupancy?: unknown };
          return own.prefetch?.into === into && own.occupancy !== undefined;
        }),
        into,
      );
    // With and without pinning, so that what it brings is seen.
    for (const plan of plans.filter(({ techniques }) => 'pinning' in techniques))
      assert.ok(plans.map(planLabel).includes(planLabel(withTechniques(plan, { pinning: undefined }))));
  });

  test('leave out what a device cannot do; a CPU has none', () => {
    const gpu = { multiprocessors: 108, l2Bytes: 40e6, persistingL2Bytes: 0 };
    const unpinned = artifactPlans({ tables, device: { ...device, gpu } });
    assert.ok(unpinned.length > 10 && unpinned.every(({ techniques }) => !('pinning' in techniques)));
    assert.deepEqual(artifactPlans({ tables, device: { ...device, kind: 'cpu' } }), []);
  });
});

describe('the claims', () => {
  const results = artifactResults();
  const claims = new Map(paperClaims(results).map((claim) => [claim.what, claim]));
  const of = (what: string) => {
    const claim = claims.get(what);
    assert.ok(claim, what);
    return claim;
  };

  test('stand beside the largest ratio over the patterns, by launches', () => {
    const expected: [string, number | undefined, number, RegExp][] = [
      ['coldest over hottest lookups, no technique', 3.2, 160 / 100, /^cold over hot$/],
      // The faster of two caps.
      ['OptMT', 1.53, 160 / 100, /^cold: artifact, OptMT 64 warps$/],
      ['RPF + L2P + OptMT, pinning left out', 2.03, 160 / 70, /^cold: /],
      ['RPF + L2P + OptMT, pinning counted', undefined, 160 / (70 + PIN_US), /^cold: /],
      ['whole model, the fastest techniques', 1.77, 24 / 15, /^cold: artifact, OptMT cap 64, RPF d8$/],
      ["Hotrow's best plan", undefined, 100 / 10, /^hot: fused, RPF d8$/],
      ["whole model, Hotrow's best plan", undefined, 24 / 8, /^cold: fused, RPF d8$/],
    ];
    assert.deepEqual(
      [...claims.keys()],
      expected.map(([what]) => what),
    );
    for (const [what, paper, here, where] of expected) {
      near(of(what).here, here, what);
      assert.equal(of(what).paper, paper);
      const { where: pattern, plan } = of(what);
      assert.match(plan === undefined ? (pattern as string) : `${pattern}: ${plan}`, where);
    }
  });

  test('the fastest setting of each combination is told for each pattern, pinning left out and counted', () => {
    const combinations = artifactCombinations(results);
    assert.deepEqual(
      combinations.map(({ name }) => name),
      [
        'no technique',
        'OptMT',
        'RPF + OptMT',
        'L2P, pinning left out',
        'L2P, pinning counted',
        'RPF + L2P + OptMT, pinning left out',
        'RPF + L2P + OptMT, pinning counted',
      ],
    );
    const capped = combinations[1]?.byPattern;
    assert.equal(capped?.get('hot')?.row.variant, 'artifact + OptMT cap 42');
    assert.equal(capped?.get('cold')?.row.variant, 'artifact + OptMT 64 warps');
  });

  test('are told by tables, figures and a finding, which name the kernel that all is compared with', () => {
    assert.equal(baselineName(results), "paper's kernel");
    const [first, second] = benchTables(results);
    assert.match(first?.title as string, /the paper's claims, on an A100/);
    assert.deepEqual(
      first?.rows.find(([what]) => what === 'OptMT'),
      ['OptMT', '1.53×', '1.60×', 'cold'],
    );
    assert.deepEqual(
      second?.rows.find(([name]) => name === 'RPF + L2P + OptMT, pinning counted'),
      ['RPF + L2P + OptMT, pinning counted', '82.0 1.22×', '90.0 1.78×'],
    );
    const titles = benchTables(results).map(({ title }) => title);
    assert.ok(titles.every((title) => !title.includes('plain kernel')));
    const figures = benchFigures(results);
    const techniques = figures.find(({ id }) => id === 'paper-techniques');
    assert.equal(techniques?.chart?.kind, 'bars');
    assert.ok(figures.some(({ id }) => id === 'paper-claims'));
    const findings = benchFindings(results).filter(({ rule }) => rule === 'paper-claims');
    assert.deepEqual(
      findings.map(({ text }) => text.split(':')[0]),
      ["Of the paper's claims this device reaches", "Of the paper's claims this device stays below"],
    );
    assert.match(findings[0]?.text as string, /OptMT 1\.60× \(paper: 1\.53×\)/);
    assert.match(findings[1]?.text as string, /coldest over hottest .* 1\.60× \(paper: 3\.20×\)/);
    const cap = benchFindings(results).find(({ rule }) => rule === 'register-cap');
    assert.match(cap?.text as string, /the paper's kernel has 46 registers/);
  });

  test('are not made of other runs', () => {
    const other = recordedBench('h200-paper.json');
    assert.deepEqual(paperClaims(other), []);
    assert.equal(baselineName(other), 'plain kernel');
    assert.ok(benchFigures(other).every(({ id }) => !id.startsWith('paper')));
  });

  test('a device without the kernel has what it can have, and no finding', () => {
    const cpu = recordedBench('cpu-zen5-quick.json');
    cpu.preset = 'artifact';
    const here = new Map(paperClaims(cpu).map((claim) => [claim.what, claim.here]));
    assert.ok((here.get('coldest over hottest lookups, no technique') as number) > 1);
    assert.ok((here.get("Hotrow's best plan") as number) > 1);
    assert.equal(here.get('OptMT'), undefined);
    assert.equal(here.get('RPF + L2P + OptMT, pinning counted'), undefined);
    assert.ok(benchFindings(cpu).every(({ rule }) => rule !== 'paper-claims'));
    const [table] = benchTables(cpu);
    assert.deepEqual(
      table?.rows.find(([what]) => what === 'OptMT'),
      ['OptMT', '1.53×', '–', ''],
    );
  });
});

test('the whole model has as many tables as the memory holds, on a CPU few', () => {
  const { paper } = PRESETS.artifact;
  const on = (memoryBytes: number, hasOwnMemory = true) =>
    paperTables(paper, tables, { memoryBytes, capabilities: { ...GPU_CAPABILITIES, hasOwnMemory } });
  assert.deepEqual(on(141e9), { embedding: 12, model: 250 });
  assert.deepEqual(on(40e9), { embedding: 12, model: 125 });
  assert.deepEqual(on(1e6), { embedding: 12, model: 1 });
  assert.deepEqual(on(1e12, false), { embedding: 2, model: 2 });
});

test('made-up rows have the plans that they are named for', () => {
  for (const { variant, plan } of artifactResults().embedding) assert.equal(planLabel(plan as Plan), variant);
});

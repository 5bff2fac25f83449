/** Every technique of the registry, alone and combined: the bits of the plain plan. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { IndexChecking } from '../../src/embedding/bag.ts';
import {
  checkPlan,
  heuristicPlan,
  type Plan,
  placementKey,
  planLabel,
  refusals,
} from '../../src/embedding/plan.ts';
import {
  bagsOf,
  integers,
  mixedProblem,
  type Problem,
  problemOf,
  randomBags,
  randomTable,
  shared,
} from '../support/cases.ts';
import { assertSameBits } from '../support/compare.ts';
import { Random } from '../support/random.ts';
import { poolOn, poolPlaced } from '../support/run-operators.ts';
import { assertPooled, type Subject } from './subject.ts';

function problems(): [string, Problem][] {
  const random = new Random(51);
  const table = randomTable(random, { rows: 5000, dim: 130 });
  const lists = [[], [1, 2, 3, 4999], [], [], Array.from({ length: 100 }, (_, i) => i * 7), []];
  const many = randomBags(random, { batch: 256, rows: 5000, lengths: [0, 30] });
  return [
    ['mixed tables', mixedProblem(random, 60)],
    ['one table, many lookups', problemOf(table, 256, many)],
    ['uneven bags', problemOf(table, lists.length, bagsOf(lists))],
    ['no lookups', problemOf(table, 4, bagsOf([[], [], [], []]))],
    ['one lookup', problemOf(table, 1, bagsOf([[4999]]))],
  ];
}

/** Bad indices and offsets all over. */
function brokenProblem(): Problem {
  const { tables, batch } = mixedProblem(new Random(52), 30);
  const bags = batch.bags.map((good, t) => {
    const wide = good.indices instanceof BigInt64Array;
    const indices = Array.from(good.indices, BigInt).map((index, i) =>
      i % 5 === t % 5 ? (wide ? 2n ** 40n : -7n) : index,
    );
    const wideOffsets = good.offsets instanceof BigInt64Array;
    const offsets = Array.from(good.offsets, BigInt);
    offsets[t % offsets.length] = wideOffsets ? -(2n ** 63n) : 2n ** 31n - 1n;
    return {
      ...good,
      indices: integers(indices, wide ? 'int64' : 'int32'),
      offsets: integers(offsets, wideOffsets ? 'int64' : 'int32'),
    };
  });
  return { tables, batch: { ...batch, bags } };
}

export function techniqueCases(subject: Subject): void {
  /** Compares the plain plan with the reference and every other plan with the plain one. */
  const assertEveryPlan = async ({ tables, batch }: Problem, checking: IndexChecking) => {
    const { backend } = subject;
    const context = { device: backend.device, tables };
    const plain = await poolOn(backend, tables, batch, { checking });
    assertPooled(subject, plain.pooled, { tables, batch }, 'plain plan', checking);
    const plans = subject.plansOf(context);
    for (const key of new Set(plans.map(placementKey))) {
      const alike = plans.filter((plan) => placementKey(plan) === key);
      using placed = await backend.placeTables(tables, alike[0] as Plan);
      for (const plan of alike) {
        checkPlan(plan, context);
        const { pooled } = await poolPlaced(backend, placed.withPlan(plan), batch, checking);
        assertSameBits(pooled, plain.pooled, planLabel(plan));
      }
    }
  };

  for (const [what, problem] of shared('technique problems', problems)) {
    test(`every combination of techniques gives the plain plan’s bits: ${what}`, () =>
      assertEveryPlan(problem, 'error'));
  }

  test('repairs are the same under every plan', () =>
    assertEveryPlan(shared('broken problem', brokenProblem), 'ignore'));

  test('a plan that needs another placement is refused by placed tables', async () => {
    const { backend } = subject;
    const { tables } = shared('broken problem', brokenProblem);
    const plans = subject.plansOf({ device: backend.device, tables });
    const [first] = plans as [Plan];
    const other = plans.find((plan) => placementKey(plan) !== placementKey(first));
    if (other === undefined) return;
    using placed = await backend.placeTables(tables, first);
    assert.throws(() => placed.withPlan(other), { code: 'PLAN_ILLEGAL' });
  });

  test('the heuristic plan is legal and is what runs when none is given', () => {
    const { tables } = shared('broken problem', brokenProblem);
    const context = { device: subject.backend.device, tables };
    assert.deepEqual(refusals(heuristicPlan(context), context), []);
  });
}

/** Every technique of the registry, alone and combined: the bits of the plain plan. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { IndexChecking } from '../../src/embedding/bag.ts';
import { placeCollection } from '../../src/model/collection.ts';
import {
  checkPlan,
  heuristicPlan,
  type Plan,
  placementKey,
  planLabel,
  refusals,
} from '../../src/plan/plan.ts';
import { bfloat16ToNumber, float16ToNumber, numberToBfloat16, numberToFloat16 } from '../../src/tensor.ts';
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
import { assertSameBits, assertSameValues } from '../support/compare.ts';
import { Random } from '../support/random.ts';
import { poolNarrow, poolOn, poolPlaced } from '../support/run-operators.ts';
import { assertPooled, keepsOrder, type Subject } from './subject.ts';

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

/** Values at the edges of float16 and bfloat16: ties, subnormals, the largest, past them, NaN. */
function edgeTable(): Problem {
  const edges = [
    0,
    -0,
    1,
    -1,
    65504,
    65519.99,
    65520,
    -65520,
    1e9,
    -1e9,
    3.3895313e38,
    3.4e38,
    -3.4e38,
    2 ** -14,
    2 ** -24,
    2 ** -25,
    1.5 * 2 ** -24,
    2.5 * 2 ** -24,
    2 ** -26,
    -(2 ** -25),
    6.0975e-5,
    1 + 2 ** -11,
    1 + 3 * 2 ** -11,
    1 + 2 ** -11 + 2 ** -20,
    1 + 2 ** -8,
    1 + 3 * 2 ** -8,
    1 + 2 ** -8 + 2 ** -20,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    Number.NaN,
    1e-40,
    -1e-40,
  ];
  const dim = 8;
  const rows = edges.length / dim;
  const weight = { dtype: 'float32', shape: [rows, dim], data: Float32Array.from(edges) } as const;
  const table = { name: 'edges', weight, rows, dim, rowFormat: 'float32', mode: 'sum' } as const;
  return problemOf(table, rows, bagsOf(Array.from({ length: rows }, (_, row) => [row])));
}

const WIDEN = { float16: float16ToNumber, bfloat16: bfloat16ToNumber } as const;
const NARROW = { float16: numberToFloat16, bfloat16: numberToBfloat16 } as const;

export function techniqueCases(subject: Subject): void {
  for (const format of ['float16', 'bfloat16'] as const) {
    test(`pooled rows in ${format} are the float32 ones, rounded once, under every plan`, async () => {
      const { backend } = subject;
      for (const [name, { tables, batch }] of [
        ['mixed tables', mixedProblem(new Random(53), 40)],
        [
          'aligned rows',
          problemOf(
            randomTable(new Random(54), { rows: 50, dim: 64 }),
            9,
            randomBags(new Random(55), { batch: 9, rows: 50, lengths: [0, 700] }),
          ),
        ],
        ['values at the edges', edgeTable()],
        ['no samples', problemOf(randomTable(new Random(56), { rows: 5, dim: 8 }), 0, bagsOf([]))],
      ] as const) {
        const plans = subject.plansOf({ device: backend.device, tables });
        using placed = await placeCollection(backend, tables, 'plain');
        for (const plan of [plans[0] as Plan, heuristicPlan({ device: backend.device, tables })]) {
          if (placementKey(plan) !== placementKey(placed.plan)) continue;
          const view = placed.withPlan(plan);
          const { pooled } = await poolPlaced(backend, view, batch);
          for (const left of [0, 3, 4]) {
            const narrow = await poolNarrow(backend, view, batch, format, left);
            assertSameValues(
              Array.from(narrow, WIDEN[format]),
              Array.from(pooled, (x) => WIDEN[format](NARROW[format](x))),
              `${name}, ${planLabel(plan)}, ${left} columns before`,
            );
          }
        }
      }
    });
  }

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
        if (keepsOrder(subject, { tables, batch })) assertSameBits(pooled, plain.pooled, planLabel(plan));
        else assertPooled(subject, pooled, { tables, batch }, planLabel(plan), checking);
      }
    }
  };

  for (const [what, problem] of shared('technique problems', problems)) {
    test(`every combination of techniques gives the plain plan’s bits: ${what}`, () =>
      assertEveryPlan(problem, 'error'));
  }

  test('repairs are the same under every plan', () =>
    assertEveryPlan(shared('broken problem', brokenProblem), 'ignore'));

  test('a plan that needs another placement is refused by placed tables', async (t) => {
    const { backend } = subject;
    const { tables } = shared('broken problem', brokenProblem);
    const plans = subject.plansOf({ device: backend.device, tables });
    const [first] = plans as [Plan];
    const other = plans.find((plan) => placementKey(plan) !== placementKey(first));
    if (other === undefined) return t.skip('all plans place tables alike');
    using placed = await backend.placeTables(tables, first);
    assert.throws(() => placed.withPlan(other), { code: 'PLAN_ILLEGAL' });
  });

  test('the heuristic plan is legal and is what runs when none is given', () => {
    const { tables } = shared('broken problem', brokenProblem);
    const context = { device: subject.backend.device, tables };
    assert.deepEqual(refusals(heuristicPlan(context), context), []);
  });
}

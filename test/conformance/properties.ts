/** Random tables, batches and modes against the reference. */
import { test } from 'node:test';
import { activationFormat } from '../../src/device.ts';
import type { Bags, EmbeddingTable } from '../../src/embedding/bag.ts';
import { ROW_FORMATS } from '../../src/embedding/bag.ts';
import { referenceCheckBags } from '../../src/embedding/reference.ts';
import { type Plan, placementKey, planLabel } from '../../src/plan/plan.ts';
import {
  INTEGER_TYPES,
  type IntegerType,
  integers,
  MODES,
  type Problem,
  randomBags,
  randomTable,
} from '../support/cases.ts';
import fc from '../support/properties.ts';
import { Random } from '../support/random.ts';
import { dotInteractionOn, linearOn, poolOn } from '../support/run-operators.ts';
import { assertDot, assertLinear } from './dense.ts';
import { assertPooled, type Subject } from './subject.ts';

const tableShape = fc.record({
  seed: fc.nat(),
  rows: fc.integer({ min: 1, max: 30 }),
  dim: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 41, max: 300 })),
  rowFormat: fc.constantFrom(...ROW_FORMATS),
  mode: fc.constantFrom(...MODES),
  padded: fc.boolean(),
  pruned: fc.boolean(),
  weights: fc.constantFrom('none', 'lookup', 'row'),
  longest: fc.constantFrom(0, 1, 4, 20),
  index: fc.constantFrom(...INTEGER_TYPES),
  offset: fc.constantFrom(...INTEGER_TYPES),
  endOffset: fc.boolean(),
});
type TableShape = typeof tableShape extends fc.Arbitrary<infer T> ? T : never;

export function problemFrom(shapes: readonly TableShape[], batchSize: number): Problem {
  const tables: EmbeddingTable[] = [];
  const bags: Bags[] = [];
  for (const { seed, padded, weights, longest, ...spec } of shapes) {
    const random = new Random(seed);
    const mode = weights === 'none' ? spec.mode : 'sum';
    const padding = padded ? { paddingIdx: random.integer(0, spec.rows - 1) } : {};
    tables.push(randomTable(random, { ...spec, ...padding, mode, rowWeights: weights === 'row' }));
    bags.push(
      randomBags(random, {
        ...spec,
        batch: batchSize,
        lengths: [0, longest],
        weighted: weights === 'lookup',
      }),
    );
  }
  return { tables, batch: { batchSize, bags } };
}

export const problemShape = fc.record({
  shapes: fc.array(tableShape, { minLength: 1, maxLength: 4 }),
  batchSize: fc.integer({ min: 0, max: 24 }),
  plan: fc.nat(),
});

export type ProblemShape = typeof problemShape extends fc.Arbitrary<infer T> ? T : never;

/** Values in place of good ones; some are good themselves. */
const damage = fc.array(
  fc.record({
    table: fc.nat(),
    where: fc.constantFrom('indices' as const, 'offsets' as const),
    position: fc.nat(),
    value: fc.oneof(
      fc.bigInt({ min: -3n, max: 80n }),
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      fc.constantFrom(2n ** 32n, -(2n ** 63n), 2n ** 63n - 1n, -1n),
    ),
  }),
  { minLength: 1, maxLength: 6 },
);

function damaged(
  { tables, batch }: Problem,
  wounds: typeof damage extends fc.Arbitrary<infer T> ? T : never,
) {
  const bags = batch.bags.map((original) => ({ ...original }));
  for (const { table, where, position, value } of wounds) {
    const target = bags[table % bags.length] as Bags & Record<'indices' | 'offsets', Bags['indices']>;
    const values = Array.from(target[where], BigInt);
    if (values.length === 0) continue;
    const type: IntegerType = target[where] instanceof Int32Array ? 'int32' : 'int64';
    values[position % values.length] = type === 'int32' ? BigInt.asIntN(32, value) : value;
    Object.assign(target, { [where]: integers(values, type) });
  }
  return { tables, batch: { ...batch, bags } };
}

export function propertyCases(subject: Subject): void {
  const { propertyRuns, propertySeed } = subject;
  /** A failure names its seed, its path and the smallest counterexample found. */
  const check = <T>(arbitrary: fc.Arbitrary<T>, property: (value: T) => Promise<void>) =>
    fc.assert(fc.asyncProperty(arbitrary, property), {
      numRuns: propertyRuns,
      ...(propertySeed === undefined ? {} : { seed: propertySeed }),
    });

  /** One of the plans that leave tables where they are: other placements take long, and have cases of their own. */
  const choosePlan = (tables: readonly EmbeddingTable[], pick: number) => {
    const all = subject.plansOf({ device: subject.backend.device, tables });
    const [plain] = all as [Plan];
    const plans = all.filter((plan) => placementKey(plan) === placementKey(plain));
    return plans[pick % plans.length] as Plan;
  };

  test(`${propertyRuns} random problems equal the reference`, async () => {
    await check(problemShape, async ({ shapes, batchSize, plan: pick }) => {
      const problem = problemFrom(shapes, batchSize);
      const plan = choosePlan(problem.tables, pick);
      const { pooled } = await poolOn(subject.backend, problem.tables, problem.batch, { plan });
      assertPooled(subject, pooled, problem, planLabel(plan));
    });
  });

  test(`${propertyRuns} random faults are found and repaired as in the reference`, async () => {
    await check(fc.record({ problem: problemShape, wounds: damage }), async ({ problem: shape, wounds }) => {
      const problem = damaged(problemFrom(shape.shapes, shape.batchSize), wounds);
      const { tables, batch } = problem;
      const plan = choosePlan(tables, shape.plan);
      const expected = referenceCheckBags(tables, batch);
      const { pooled, findings } = await poolOn(subject.backend, tables, batch, { plan, checking: 'warn' });
      assertPooled(subject, pooled, problem, planLabel(plan), 'warn');
      const tell = ({ badIndices, badOffsets, first }: typeof expected) =>
        `${badIndices} indices, ${badOffsets} offsets, first: ${first?.message}`;
      if (tell(findings) !== tell(expected))
        throw new Error(`found ${tell(findings)}; expected ${tell(expected)}`);
    });
  });

  test(`${propertyRuns} random linear layers and interactions are exact on integers`, async () => {
    const shape = fc.record({
      seed: fc.nat(),
      batch: fc.integer({ min: 0, max: 40 }),
      inputs: fc.integer({ min: 1, max: 90 }),
      outputs: fc.integer({ min: 1, max: 90 }),
      activation: fc.constantFrom('none' as const, 'relu' as const),
      biased: fc.boolean(),
      crossed: fc.boolean(),
      inPlace: fc.boolean(),
      features: fc.integer({ min: 1, max: 12 }),
      dim: fc.integer({ min: 1, max: 70 }),
      order: fc.constantFrom('lower' as const, 'upper' as const),
      diagonal: fc.boolean(),
    });
    await check(
      shape,
      async ({ seed, biased, crossed, inPlace, features, dim, order, diagonal, ...layer }) => {
        const random = new Random(seed);
        const { batch, inputs, outputs } = layer;
        const draw = (count: number) => random.integers(count, 8);
        const linear = {
          ...layer,
          activation: crossed ? ('none' as const) : layer.activation,
          input: draw(batch * inputs),
          weight: draw(outputs * inputs),
          bias: biased ? draw(outputs) : undefined,
          cross: crossed ? { x0: draw(batch * outputs), x: draw(batch * outputs) } : undefined,
        };
        assertLinear(
          await linearOn(subject.backend, linear, { inPlace, precision: subject.precision }),
          linear,
          0,
          'linear',
        );
        const dot = {
          batch,
          features,
          dim,
          order,
          diagonal,
          input: draw(batch * features * dim),
        };
        const out = await dotInteractionOn(subject.backend, dot, subject.precision);
        assertDot(out, dot, 0, 'dot interaction', activationFormat(subject.precision));
      },
    );
  });
}

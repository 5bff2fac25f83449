/** Bags per user: pooled once for all candidates of the user, with the bits of the request that repeats them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BagBatch, Bags, EmbeddingTable } from '../../src/embedding/bag.ts';
import { EmbeddingCollection, placeCollection } from '../../src/model/collection.ts';
import { DlrmModel } from '../../src/model/dlrm.ts';
import type { DlrmRequest } from '../../src/model/request/request.ts';
import {
  heuristicPlan,
  KERNEL_FAMILIES,
  type Plan,
  plainPlan,
  planLabel,
  withKernel,
} from '../../src/plan/plan.ts';
import { bagsOf, integers, type Problem, randomTable, shared } from '../support/cases.ts';
import { assertSameBits, assertWithin } from '../support/compare.ts';
import { smallModel, smallRequest } from '../support/models.ts';
import fc from '../support/properties.ts';
import { Random } from '../support/random.ts';
import { ReferenceBackend } from '../support/reference-backend.ts';
import { inHostMemory, poolNarrow, poolOn, poolPlaced } from '../support/run-operators.ts';
import { expandUsers, type UsersSpec, usersProblem } from '../support/users.ts';
import { assertRefusedAndRepaired, withBags, withValue } from './index-checking.ts';
import { assertPooled, type Subject } from './subject.ts';

/** Tables of several formats, modes, weights and widths, some of them not of whole vectors. */
function someTables(): EmbeddingTable[] {
  return shared('tables of users', () => {
    const random = new Random(201);
    return [
      randomTable(random, { name: 'first', rows: 40, dim: 16 }),
      randomTable(random, {
        name: 'mean',
        rows: 30,
        dim: 33,
        mode: 'mean',
        rowFormat: 'int8',
        paddingIdx: 3,
      }),
      randomTable(random, { name: 'max', rows: 9, dim: 5, mode: 'max', rowFormat: 'float16' }),
      randomTable(random, { name: 'weighted', rows: 50, dim: 64 }),
      randomTable(random, { name: 'learned', rows: 20, dim: 8, rowFormat: 'bfloat16', rowWeights: true }),
      randomTable(random, { name: 'last', rows: 60, dim: 16 }),
    ];
  });
}

/** Tables with a bag per user: side by side, apart, all of them, none. */
const CHOICES: readonly [string, UsersSpec['perUser']][] = [
  ['the first tables', (t) => t < 3],
  ['every other table', (t) => t % 2 === 1],
  ['all tables', () => true],
  ['no table', () => false],
];

/** One user, several, of one candidate, of none at the start, in between and at the end; no candidates, no users. */
const STARTS: readonly (readonly number[])[] = [
  [0, 13],
  [0, 1],
  [0, 3, 4, 12],
  [0, 0, 0, 5, 5, 6, 6],
  [0, 0, 0],
  [0],
];

const weighted = (table: number) => table === 3;

export function userCases(subject: Subject): void {
  const plansOf = (tables: readonly EmbeddingTable[]): Plan[] => {
    const { device } = subject.backend;
    const best = heuristicPlan({ device, tables });
    const others = KERNEL_FAMILIES[device.kind].filter((kernel) => kernel !== best.kernel);
    return [...others.map((kernel) => withKernel<Plan>(plainPlan(device.kind), kernel)), best];
  };

  /** Pools a problem as it is and with every bag repeated: the same bits. */
  const check = async ({ tables, batch }: Problem, what: string, plans = plansOf(tables)) => {
    for (const plan of plans) {
      const label = `${what}, ${planLabel(plan)}`;
      const { pooled } = await poolOn(subject.backend, tables, batch, { plan });
      const expanded = await poolOn(subject.backend, tables, expandUsers(batch), { plan });
      assertSameBits(pooled, expanded.pooled, `${label}: as repeated`);
      assertPooled(subject, pooled, { tables, batch }, label);
    }
  };

  for (const [choice, perUser] of CHOICES) {
    test(`a bag per user in ${choice}`, async () => {
      for (const starts of STARTS) {
        const random = new Random(starts.length);
        await check(
          usersProblem(random, someTables(), { starts, perUser, weighted }),
          `users at ${JSON.stringify(starts)}`,
        );
      }
    });
  }

  test('one user with many candidates', async () => {
    const perUser = (t: number) => t < 3;
    await check(
      usersProblem(new Random(202), someTables(), { starts: [0, 500], perUser, weighted, longest: 20 }),
      'one user',
    );
  });

  test('a user’s bag that is so long that devices cut it', async () => {
    const random = new Random(203);
    const tables = someTables();
    const spec = { starts: [0, 2, 5], perUser: (t: number) => t % 2 === 0 };
    const { batch } = usersProblem(random, tables, spec);
    for (const lengths of [
      [1500, 3],
      [0, 2100],
    ]) {
      const lists = lengths.map((length) => Array.from({ length }, () => random.integer(0, 39)));
      const long: Bags = { ...bagsOf(lists), perUser: true };
      await check({ tables, batch: withBags(batch, 0, long) }, `bags of ${lengths}`);
    }
  });

  test('pooled rows of 16 bits', async () => {
    const { backend } = subject;
    const tables = someTables();
    using placed = await placeCollection(backend, tables, plainPlan(backend.device.kind));
    const spec = { starts: [0, 2, 2, 7, 8], perUser: (t: number) => t % 2 === 1, weighted };
    const { batch } = usersProblem(new Random(204), tables, spec);
    for (const format of ['float16', 'bfloat16'] as const) {
      for (const left of [0, 1, 2]) {
        const narrow = await poolNarrow(backend, placed, batch, format, left);
        const expanded = await poolNarrow(backend, placed, expandUsers(batch), format, left);
        assert.deepEqual(narrow, expanded, `${format}, ${left} columns to the left`);
      }
    }
  });

  test('users’ arrays in host memory of the backend', async () => {
    const { backend } = subject;
    const tables = someTables();
    const spec = { starts: [0, 4, 9], perUser: (t: number) => t % 2 === 0, weighted };
    const { batch } = usersProblem(new Random(205), tables, spec);
    using placed = await placeCollection(backend, tables, plainPlan(backend.device.kind));
    const { pooled } = await poolPlaced(backend, placed, batch);
    using moved = inHostMemory(backend, batch);
    for (let run = 0; run < 2; run++) {
      const own = await poolPlaced(backend, placed, moved.batch);
      assertSameBits(own.pooled, pooled, `run ${run}`);
    }
  });

  test('a collection pools users, however often, in between batches without', async () => {
    const tables = someTables();
    const plan = heuristicPlan({ device: subject.backend.device, tables });
    await using collection = await EmbeddingCollection.create(subject.backend, tables, { plan });
    const random = new Random(206);
    for (const starts of [
      [0, 6],
      [0, 6],
      [0, 2, 6],
      [0, 6, 6],
      [0, 0, 5],
      [0, 3, 5, 6],
    ]) {
      const spec = { starts, perUser: (t: number) => t % 2 === 1, weighted };
      const { batch } = usersProblem(random, tables, spec);
      const own = await collection.forward(batch);
      const expanded = await collection.forward(expandUsers(batch));
      assertSameBits(own.pooled, expanded.pooled, `users at ${starts}`);
    }
  });

  test('bad indices and offsets of users, of those without candidates too', async () => {
    const tables = someTables().slice(0, 3);
    const plan = heuristicPlan({ device: subject.backend.device, tables });
    using placed = await placeCollection(subject.backend, tables, plan);
    const users = Int32Array.of(0, 2, 2, 3);
    const lists = [[1, 2], [4], [0, 5]];
    for (const type of ['int32', 'int64'] as const) {
      for (const endOffset of [false, true]) {
        const own = bagsOf(lists, { index: type, offset: type, endOffset });
        const good: BagBatch = { batchSize: 3, users, bags: [own, { ...own, perUser: true }, own] };
        await poolPlaced(subject.backend, placed, good);
        const { indices, offsets } = own;
        for (let position = 0; position < indices.length; position++) {
          const batch = withBags(good, 1, { indices: withValue(indices, position, 30n) });
          const what = `${type}, indices[${position}] of a user`;
          const { details, message } = await assertRefusedAndRepaired(subject, placed, batch, what);
          assert.deepEqual({ ...details, tensor: '' }, { table: 1, position, value: 30n, tensor: '' }, what);
          assert.match(message, /table 1 \(mean\)/);
        }
        for (let position = 0; position < offsets.length; position++) {
          for (const value of [-1n, 9n, ...(position === 0 ? [1n] : [])]) {
            const batch = withBags(good, 1, { offsets: withValue(offsets, position, value) });
            const what = `${type}, offsets[${position}] = ${value} of a user`;
            const { details } = await assertRefusedAndRepaired(subject, placed, batch, what);
            assert.deepEqual([details.table, details.position, details.value], [1, position, value], what);
          }
        }
      }
    }
  });

  test('the first fault is that of the lowest table, whether its bags are per user or not', async () => {
    const tables = someTables().slice(0, 3);
    const plan = heuristicPlan({ device: subject.backend.device, tables });
    using placed = await placeCollection(subject.backend, tables, plan);
    const own = bagsOf([[1, 99], [2]]);
    for (const perUser of [
      [true, false, false],
      [false, true, true],
    ]) {
      const bags = perUser.map((of) => (of ? { ...own, perUser: true } : own));
      const batch: BagBatch = { batchSize: 2, users: Int32Array.of(0, 1, 2), bags };
      const { message } = await assertRefusedAndRepaired(subject, placed, batch, String(perUser));
      assert.match(message, /table 0 \(first\): indices\[1\] = 99/);
    }
  });

  test('faults of users when there are no candidates, or when no bag holds the lookup', async () => {
    const tables = someTables().slice(0, 2);
    const plan = heuristicPlan({ device: subject.backend.device, tables });
    using placed = await placeCollection(subject.backend, tables, plan);
    const none: Bags = { indices: integers([]), offsets: integers([]) };
    const bad: Bags = { indices: integers([5, 30]), offsets: integers([0, 1]), perUser: true };
    const noCandidates = { batchSize: 0, users: Int32Array.of(0, 0, 0), bags: [none, bad] };
    await assertRefusedAndRepaired(subject, placed, noCandidates, 'no candidates');
    const noUsers: Bags = { indices: integers([30]), offsets: integers([]), perUser: true };
    const nobody = { batchSize: 0, users: Int32Array.of(0), bags: [none, noUsers] };
    await assertRefusedAndRepaired(subject, placed, nobody, 'no users');
    const behind: Bags = { indices: integers([5, 30]), offsets: integers([0, 1]), perUser: true };
    const unheld = { batchSize: 2, users: Int32Array.of(0, 2), bags: [bagsOf([[1], [2]]), behind] };
    await assertRefusedAndRepaired(subject, placed, unheld, 'a lookup that no bag holds');
  });

  test('good input of users gives the same bits in all four modes', async () => {
    const tables = someTables();
    const plan = heuristicPlan({ device: subject.backend.device, tables });
    using placed = await placeCollection(subject.backend, tables, plan);
    const spec = { starts: [0, 3, 3, 5], perUser: (t: number) => t % 2 === 1, weighted };
    const { batch } = usersProblem(new Random(207), tables, spec);
    const { pooled } = await poolPlaced(subject.backend, placed, batch);
    for (const checking of ['warn', 'ignore', 'none'] as const) {
      const other = await poolPlaced(subject.backend, placed, batch, checking);
      assertSameBits(other.pooled, pooled, checking);
      assert.deepEqual(other.findings, { badIndices: 0, badOffsets: 0 }, checking);
    }
  });

  test('users that do not fit the batch are refused', async () => {
    const { backend } = subject;
    const tables = someTables().slice(0, 1);
    using placed = await placeCollection(backend, tables, plainPlan(backend.device.kind));
    const own: Bags = { ...bagsOf([[1], [2]]), perUser: true };
    const batch: BagBatch = { batchSize: 3, users: Int32Array.of(0, 1, 4), bags: [own] };
    assert.throws(() => backend.placeBags(placed, batch), { code: 'USERS_INVALID' });
    assert.throws(() => backend.placeBags(placed, { batchSize: 3, bags: [own] }), { code: 'USERS_INVALID' });
  });

  // Few choices of tables: devices compile kernels for each.
  const shape = fc.record({
    seed: fc.nat(),
    candidates: fc.array(fc.integer({ min: 0, max: 6 }), { maxLength: 6 }),
    choice: fc.constantFrom(...CHOICES),
    longest: fc.constantFrom(0, 1, 4, 20),
  });

  test(`${subject.propertyRuns} random batches of users have the bits of the repeated ones`, async () => {
    const tables = someTables();
    const plan = heuristicPlan({ device: subject.backend.device, tables });
    using placed = await placeCollection(subject.backend, tables, plan);
    const { propertyRuns: numRuns, propertySeed } = subject;
    await fc.assert(
      fc.asyncProperty(shape, async ({ seed, candidates, choice: [what, perUser], longest }) => {
        const starts = [0];
        for (const count of candidates) starts.push((starts.at(-1) as number) + count);
        const spec = { starts, perUser, longest, weighted };
        const { batch } = usersProblem(new Random(seed), tables, spec);
        const { pooled } = await poolPlaced(subject.backend, placed, batch);
        const expanded = await poolPlaced(subject.backend, placed, expandUsers(batch));
        assertSameBits(pooled, expanded.pooled, `${what}, as repeated`);
      }),
      { numRuns, ...(propertySeed === undefined ? {} : { seed: propertySeed }) },
    );
  });
}

/** A request of users for a small model: its second table's bags are per candidate. */
function usersRequest(
  random: Random,
  architecture: Parameters<typeof smallRequest>[1],
  starts: readonly number[],
): DlrmRequest {
  const perUser = (t: number) => t !== 1;
  const { batch } = usersProblem(random, architecture.tables, { starts, perUser, weighted: (t) => t === 0 });
  const { dense, denseFeatures } = smallRequest(random, architecture, batch.batchSize);
  return { ...batch, dense, denseFeatures };
}

const expandedRequest = (request: DlrmRequest): DlrmRequest => {
  const { dense, denseFeatures } = request;
  return { ...expandUsers(request), dense, denseFeatures };
};

export function userModelCases(subject: Subject): void {
  test('one user with 500 candidates is scored as each candidate with the user’s features', async () => {
    const architecture = smallModel(new Random(211), 'dot-lower');
    await using model = await DlrmModel.create(subject.backend, architecture, {
      precision: subject.precision,
    });
    const request = usersRequest(new Random(212), architecture, [0, 500]);
    const { probabilities } = await model.predict(request);
    const expanded = await model.predict(expandedRequest(request));
    assertSameBits(probabilities, expanded.probabilities, 'as repeated');
  });

  test('requests of users and others, one after the other, each as on its own', async () => {
    const architecture = smallModel(new Random(213), 'cross');
    using reference = new ReferenceBackend();
    await using expected = await DlrmModel.create(reference, architecture);
    await using model = await DlrmModel.create(subject.backend, architecture, {
      precision: subject.precision,
    });
    const all = [
      [0, 4],
      [0, 4],
      [0, 1, 4],
      [0, 3],
      [0, 0, 4, 4],
      [0, 4],
    ];
    for (const [turn, starts] of all.entries()) {
      const request = usersRequest(new Random(turn), architecture, starts);
      const expanded = expandedRequest(request);
      const right = await expected.predict(expanded);
      for (const own of [request, expanded, request, request]) {
        const { probabilities } = await model.predict(own);
        const bound = () => 64 * subject.denseRounding;
        assertWithin(probabilities, right.probabilities, bound, `turn ${turn}, users at ${starts}`);
      }
      const { probabilities } = await model.predict(request, { stages: true });
      assertWithin(probabilities, right.probabilities, () => 64 * subject.denseRounding, 'timed');
    }
  });

  test('a user and candidates are scored as the request that repeats the user', async () => {
    const architecture = smallModel(new Random(216), 'dot-diagonal');
    await using model = await DlrmModel.create(subject.backend, architecture, {
      precision: subject.precision,
    });
    const request = usersRequest(new Random(217), architecture, [0, 6]);
    const { batchSize, denseFeatures, dense, bags } = request;
    const ownFeatures = denseFeatures - 2;
    const own = new Float32Array(batchSize * ownFeatures);
    for (let b = 0; b < batchSize; b++) {
      dense.copyWithin(b * denseFeatures, 0, 2);
      own.set(dense.subarray(b * denseFeatures + 2, (b + 1) * denseFeatures), b * ownFeatures);
    }
    const { probabilities } = await model.score(
      {
        dense: dense.slice(0, 2),
        bags: new Map<number | string, Bags>([
          [0, bags[0] as Bags],
          ['t2', bags[2] as Bags],
        ]),
      },
      { batchSize, dense: own, denseFeatures: ownFeatures, bags: [undefined, bags[1]] },
    );
    const expanded = await model.predict(expandedRequest(request));
    assertSameBits(probabilities, expanded.probabilities, 'as repeated');
    await assert.rejects(
      model.score({ bags: [] }, { batchSize: 0, dense: new Float32Array(), denseFeatures, bags: [] }),
      { code: 'TABLE_MISSING', message: /table 0 \(t0\) is given neither/ },
    );
  });

  test('a placed request of users is scored as often as one likes', async () => {
    const architecture = smallModel(new Random(214), 'dot-upper');
    await using model = await DlrmModel.create(subject.backend, architecture, {
      precision: subject.precision,
    });
    const request = usersRequest(new Random(215), architecture, [0, 2, 2, 7]);
    const { probabilities: alone } = await model.predict(request);
    using placed = await model.place(request);
    for (let run = 0; run < 3; run++) {
      const { probabilities } = await model.predict(placed);
      assertSameBits(probabilities, alone, `run ${run}`);
    }
  });
}

/** Batches larger than a program may take: run in parts, with the bits of the parts alone and errors of the whole. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { at } from '../../src/at.ts';
import type { Backend } from '../../src/backend/backend.ts';
import { openDevice } from '../../src/backend/open-backend.ts';
import type { BagBatch, Bags, IndexArray } from '../../src/embedding/bag.ts';
import { batchParts } from '../../src/embedding/batch-parts.ts';
import { EmbeddingCollection } from '../../src/model/collection.ts';
import { DlrmModel, type DlrmOptions } from '../../src/model/dlrm.ts';
import type { DlrmRequest } from '../../src/model/request/request.ts';
import { refuseEmulation } from '../emulation/emulator.ts';
import { fake, openFakeBackend } from '../fake-driver/open-backend.ts';
import { smallModel, smallRequest } from '../support/models.ts';
import { Random } from '../support/random.ts';
import { SEED } from '../support/seed.ts';

const random = new Random(SEED);
const architecture = smallModel(random, 'dot-lower');
const PART = 2048;
const BATCH = 2 * PART + 1001;

/** Limits that a batch of BATCH samples is beyond. */
const limits = { bytes: 1 };

const numbers = (values: IndexArray) => Array.from(values as ArrayLike<number | bigint>, Number);

/** Bags by int32, or by int64. */
const converted = (convert: (values: number[]) => IndexArray) => (bags: Bags) => ({
  ...bags,
  indices: convert(numbers(bags.indices)),
  offsets: convert(numbers(bags.offsets)),
});
const int32 = converted((values) => Int32Array.from(values));
const int64 = converted((values) => BigInt64Array.from(values, BigInt));

/** The samples of a part as a request of their own, cut sample by sample. */
function alone(request: DlrmRequest, from: number, end: number): DlrmRequest {
  const { denseFeatures } = request;
  const bags = request.bags.map(({ indices, offsets, weights }): Bags => {
    const starts = numbers(offsets);
    const [begin, stop] = [at(starts, from), starts[end] ?? indices.length];
    return {
      indices: indices.slice(begin, stop),
      offsets: Int32Array.from(starts.slice(from, end), (start) => start - begin),
      ...(weights === undefined ? {} : { weights: weights.slice(begin, stop) }),
    };
  });
  const dense = request.dense.slice(from * denseFeatures, end * denseFeatures);
  return { batchSize: end - from, dense, denseFeatures, bags };
}

const ENDS = [0, PART, 2 * PART, BATCH];

async function withModel(
  backend: Backend,
  options: DlrmOptions,
  use: (model: DlrmModel) => Promise<void>,
): Promise<void> {
  await using model = await DlrmModel.create(backend, architecture, options);
  await use(model);
}

const cpu = (own = limits) => openDevice({ device: 'cpu', threads: 2, limits: own }).backend;

describe('a batch in parts', () => {
  const drawn = smallRequest(random, architecture, BATCH);
  const request = { ...drawn, bags: drawn.bags.map(int32) };

  for (const [name, given] of [
    ['int32', request],
    ['int64', { ...request, bags: request.bags.map(int64) }],
  ] as const) {
    test(`gives what its parts give alone: ${name}`, async () => {
      using backend = cpu();
      await withModel(backend, {}, async (model) => {
        const { probabilities } = await model.predict(given);
        assert.equal(probabilities.length, BATCH);
        for (let part = 0; part + 1 < ENDS.length; part++) {
          const [from, end] = [at(ENDS, part), at(ENDS, part + 1)];
          const own = await model.predict(alone(request, from, end));
          assert.deepEqual(probabilities.subarray(from, end), own.probabilities);
        }
        assert.deepEqual(backend.admission.state, { programs: 0, bytes: 0, waiting: 0 });
      });
    });
  }

  test('has the bits of the whole batch on a CPU, stages and all', async () => {
    using one = cpu();
    using other = cpu({ bytes: 2 ** 32 });
    await withModel(one, {}, async (model) => {
      const parts = await model.predict(request, { stages: true });
      await withModel(other, {}, async (whole) => {
        assert.deepEqual((await whole.predict(request)).probabilities, parts.probabilities);
      });
      assert.ok(parts.stages.embeddingMs > 0);
    });
  });

  test('tells a bad index by its place in the whole batch, and refuses bad offsets as ever', async () => {
    using backend = cpu();
    const spoilt = (change: (bags: Bags) => void): DlrmRequest => {
      const bags = request.bags.map(({ indices, offsets, ...rest }) => ({
        ...rest,
        indices: indices.slice(),
        offsets: offsets.slice(),
      }));
      change(at(bags, 1));
      return { ...request, bags };
    };
    const last = (bags: Bags) => bags.indices.length - 1;
    const bad = spoilt((bags) => {
      (bags.indices as Int32Array)[last(bags)] = 1e6;
    });
    const unordered = spoilt((bags) => {
      (bags.offsets as Int32Array)[PART + 7] = 2 ** 30;
    });
    await withModel(backend, {}, async (model) => {
      await assert.rejects(model.predict(bad), (error: { code: string; details: { position: number } }) => {
        assert.equal(error.code, 'INDEX_OUT_OF_RANGE');
        assert.equal(error.details.position, last(at(bad.bags, 1)));
        return true;
      });
      await assert.rejects(model.predict(unordered), { code: 'OFFSETS_INVALID' });
    });
    await withModel(backend, { indexChecking: 'warn' }, async (model) => {
      const { findings } = await model.predict(bad);
      assert.equal(findings.badIndices, 1);
      assert.equal(findings.first?.details.position, last(at(bad.bags, 1)));
    });
  });

  test('runs while updates and other predictions come, in a backend that takes one call at once', async () => {
    using backend = openDevice({ device: 'cpu', threads: 2, limits: { bytes: 1, programs: 1 } }).backend;
    await withModel(backend, {}, async (model) => {
      const { dim } = at(architecture.tables, 0);
      const before = await model.predict(request);
      const [large, , small, again] = await Promise.all([
        model.predict(request),
        model.updateRows(0, Int32Array.of(0), new Float32Array(dim).fill(9)),
        model.predict(alone(request, 0, 3)),
        model.predict(request),
      ]);
      const after = await model.predict(request);
      const known = [before, after].map(({ probabilities }) => probabilities);
      for (const { probabilities } of [large, again])
        assert.ok(known.some((one) => one.every((value, i) => value === probabilities[i])));
      assert.equal(small.probabilities.length, 3);
    });
  });

  test('looks at lookups past the last bag, ends where it is told to, and says what failed', async () => {
    using backend = cpu();
    await withModel(backend, {}, async (model) => {
      const bags = request.bags.map((own, t): Bags => {
        const ends = Int32Array.of(...numbers(own.offsets).slice(0, BATCH), own.indices.length);
        return t === 2 ? { ...own, indices: Int32Array.of(...numbers(own.indices), -5), offsets: ends } : own;
      });
      await assert.rejects(model.predict({ ...request, bags }), {
        code: 'INDEX_OUT_OF_RANGE',
        message: new RegExp(`indices\\[${at(request.bags, 2).indices.length}\\] = -5`),
      });
      let parts = 0;
      const borrow = backend.placeBags.bind(backend);
      const aborting = new AbortController();
      backend.placeBags = (...given) => {
        parts += 1;
        aborting.abort();
        return borrow(...given);
      };
      await assert.rejects(model.predict(request, { signal: aborting.signal }), { code: 'ABORTED' });
      assert.equal(parts, 1);
      parts = 0;
      backend.placeBags = (...given) => {
        parts += 1;
        if (parts === 2) throw new Error('no memory');
        return borrow(...given);
      };
      await assert.rejects(model.predict(request), { message: 'no memory' });
      assert.deepEqual(backend.admission.state, { programs: 0, bytes: 0, waiting: 0 });
    });
  });

  test('of a collection, its pooled rows', async () => {
    using backend = cpu();
    await using collection = await EmbeddingCollection.create(backend, architecture.tables);
    const { batchSize, bags } = request;
    const { pooled } = await collection.forward({ batchSize, bags });
    const width = pooled.length / BATCH;
    for (let part = 0; part + 1 < ENDS.length; part++) {
      const [from, end] = [at(ENDS, part), at(ENDS, part + 1)];
      const { batchSize: size, bags: own } = alone(request, from, end);
      const { pooled: rows } = await collection.forward({ batchSize: size, bags: own });
      assert.deepEqual(pooled.subarray(from * width, end * width), rows);
    }
  });
});

const skip = refuseEmulation();

test('parts run side by side on a GPU too', { skip }, async () => {
  using backend = openFakeBackend({ limits, streams: { sets: 2 } });
  const drawn = smallRequest(random, architecture, PART + 5);
  const request = { ...drawn, bags: drawn.bags.map(int32) };
  await withModel(backend, { precision: 'float32' }, async (model) => {
    const { probabilities } = await model.predict(request);
    const rest = await model.predict(alone(request, PART, PART + 5));
    assert.deepEqual(probabilities.subarray(PART), rest.probabilities);
  });
  assert.equal(fake.emulatorError(), '');
});

test('users with candidates on both sides of a cut are in both parts', () => {
  const users = Int32Array.of(0, 2, 2, 5);
  const bags: Bags = { indices: Int32Array.of(7, 8, 9), offsets: Int32Array.of(0, 1, 1), perUser: true };
  const own: Bags = { indices: Int32Array.of(1, 2, 3, 4, 5), offsets: Int32Array.of(0, 1, 2, 3, 4, 5) };
  const batch: BagBatch = { batchSize: 5, users, bags: [bags, own] };
  const parts = batchParts(batch, 3);
  assert.deepEqual(
    parts?.map(({ users: starts, firstLookups, bags: [shared] }) => [
      [...(starts ?? [])],
      firstLookups,
      numbers(shared?.indices ?? new Int32Array()),
      numbers(shared?.offsets ?? new Int32Array()),
    ]),
    [
      [
        [0, 2, 2, 3],
        [0, 0],
        [7, 8, 9],
        [0, 1, 1, 3],
      ],
      [
        [0, 2],
        [1, 3],
        [8, 9],
        [0, 2],
      ],
    ],
  );
  const wrong = [
    [1, 1, 1],
    [0, 2, 1],
    [0, 1, 4],
    [0, 1, 1, 4],
  ].map((offsets) => Int32Array.from(offsets));
  for (const offsets of wrong)
    assert.equal(batchParts({ ...batch, bags: [{ ...bags, offsets }, own] }, 3), undefined);
});

/** Whole models, against the same model on the plain references. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ModelArchitecture } from '../../src/model/architecture.ts';
import { DlrmModel } from '../../src/model/dlrm.ts';
import { integers } from '../support/cases.ts';
import { assertSameBits, assertWithin, FLOAT32_ROUNDING } from '../support/compare.ts';
import {
  branchingModel,
  deepFmModel,
  INTERACTIONS,
  smallModel,
  smallRequest,
  tablesModel,
} from '../support/models.ts';
import { Random } from '../support/random.ts';
import { ReferenceBackend } from '../support/reference-backend.ts';
import { referenceHead } from '../support/reference-head.ts';
import type { Subject } from './subject.ts';

/**
 * Layers of at most 50 inputs with activations around 1 lose a few 2^-24 each, and the sigmoid's slope is at most 1/4;
 * with coarser dense arithmetic the bound grows along.
 */
const toleranceOf = ({ denseRounding }: Subject) => 16 * denseRounding;

export function modelCases(subject: Subject): void {
  for (const kind of INTERACTIONS) {
    test(`a model with ${kind} interaction, batches of 0 to 100`, async () => {
      const architecture = smallModel(new Random(81), kind);
      using reference = new ReferenceBackend();
      await using expected = await DlrmModel.create(reference, architecture);
      await using model = await DlrmModel.create(subject.backend, architecture, {
        precision: subject.precision,
      });
      for (const batchSize of [0, 1, 7, 100]) {
        const request = smallRequest(new Random(batchSize), architecture, batchSize);
        const { probabilities, stages, latencyMs, findings } = await model.predict(request, { stages: true });
        const right = await expected.predict(request);
        const what = `${kind}, batch ${batchSize}`;
        assertWithin(probabilities, right.probabilities, () => toleranceOf(subject), what);
        assert.deepEqual(findings, { badIndices: 0, badOffsets: 0 });
        assert.ok(
          Object.values(stages).every((ms) => ms >= 0 && ms <= latencyMs + 1),
          what,
        );
      }
    });
  }

  for (const kind of INTERACTIONS) {
    test(`a model with ${kind} interaction is what its blocks' references make of it`, async () => {
      const architecture = smallModel(new Random(89), kind);
      await assertHead(subject, architecture, 16);
    });
  }

  test('heads that branch, with outputs of several widths, and one of TorchRec', async () => {
    // Products of all pairs of 36 elements add up to some tens.
    await assertHead(subject, deepFmModel(new Random(90)), 256);
    await assertHead(subject, branchingModel(new Random(91)), 256);
  });

  test('tables alone give their pooled rows', async () => {
    const architecture = tablesModel(new Random(92));
    using reference = new ReferenceBackend();
    await using expected = await DlrmModel.create(reference, architecture);
    await using model = await DlrmModel.create(subject.backend, architecture, {
      precision: subject.precision,
    });
    for (const batchSize of [0, 1, 70]) {
      const request = smallRequest(new Random(batchSize), architecture, batchSize);
      const { pooled, stages } = await model.predict(request, { stages: true });
      const right = (await expected.predict(request)).pooled as Float32Array;
      // Sums of a few weighted rows of elements around 1.
      assertWithin(pooled as Float32Array, right, () => 32 * FLOAT32_ROUNDING, `batch ${batchSize}`);
      assert.deepEqual([stages.bottomMs, stages.interactionMs, stages.topMs], [0, 0, 0]);
    }
  });

  test('predictions of several batches at once are those of each alone', async () => {
    const architecture = smallModel(new Random(82), 'dot-lower');
    await using model = await DlrmModel.create(subject.backend, architecture, {
      precision: subject.precision,
    });
    const requests = Array.from({ length: 12 }, (_, i) =>
      smallRequest(new Random(i), architecture, 1 + ((i * 37) % 90)),
    );
    const alone: Float32Array[] = [];
    for (const request of requests) alone.push((await model.predict(request)).probabilities);
    const together = await Promise.all(requests.map((request) => model.predict(request)));
    together.forEach(({ probabilities }, i) => {
      assertSameBits(probabilities, alone[i] as Float32Array, `request ${i}`);
    });
  });

  test('batches of ever other sizes and bags, one after the other, each as on its own', async () => {
    const architecture = smallModel(new Random(87), 'dot-lower');
    using reference = new ReferenceBackend();
    await using expected = await DlrmModel.create(reference, architecture);
    await using model = await DlrmModel.create(subject.backend, architecture, {
      precision: subject.precision,
    });
    const good = async (batchSize: number, seed: number) => {
      const request = smallRequest(new Random(seed), architecture, batchSize);
      const right = await expected.predict(request);
      const { probabilities } = await model.predict(request);
      const what = `batch of ${batchSize}, seed ${seed}`;
      assert.equal(probabilities.length, batchSize, what);
      assertWithin(probabilities, right.probabilities, () => toleranceOf(subject), what);
    };
    let seed = 0;
    for (const batchSize of [4, 4, 3, 4, 1, 70, 1, 1, 69, 0, 71, 4]) await good(batchSize, seed++);
    // One bag is so long that devices cut it, the next request's are not.
    const long = smallRequest(new Random(seed), architecture, 4);
    const bags = long.bags.map(({ offsets: _, ...own }, t) => {
      const rows = architecture.tables[t]?.rows ?? 1;
      const indices = integers(Array.from({ length: 1500 }, (_, i) => i % rows));
      return { ...own, indices, offsets: integers([0, 2, 1490, 1491]) };
    });
    const request = { ...long, bags: bags.map(({ weights: _, ...own }) => own) };
    for (let run = 0; run < 3; run++) {
      const { probabilities } = await model.predict(request);
      const right = await expected.predict(request);
      assertWithin(
        probabilities,
        right.probabilities,
        () => 4 * toleranceOf(subject),
        `long bags, run ${run}`,
      );
      await good(4, seed++);
    }
    // What is refused leaves nothing behind.
    const bad = smallRequest(new Random(seed), architecture, 4);
    const broken = bad.bags.map((own, t) =>
      t === 1 ? { indices: integers([0, -7]), offsets: integers([0, 0, 0, 0]) } : own,
    );
    for (let run = 0; run < 2; run++) {
      await assert.rejects(model.predict({ ...bad, bags: broken }), { code: 'INDEX_OUT_OF_RANGE' });
      await good(4, seed++);
    }
  });

  test('a placed request is scored as often as one likes, with the bits of the request', async () => {
    const architecture = smallModel(new Random(88), 'dot-upper');
    await using model = await DlrmModel.create(subject.backend, architecture, {
      precision: subject.precision,
    });
    const [first, second] = [5, 9].map((batchSize) =>
      smallRequest(new Random(batchSize), architecture, batchSize),
    ) as [ReturnType<typeof smallRequest>, ReturnType<typeof smallRequest>];
    const [alone, other] = [await model.predict(first), await model.predict(second)];
    using placed = await model.place(first);
    using placedToo = await model.place(second);
    for (let run = 0; run < 3; run++) {
      const [one, two] = await Promise.all([model.predict(placed), model.predict(placedToo)]);
      assertSameBits(one.probabilities, alone.probabilities, `first, run ${run}`);
      assertSameBits(two.probabilities, other.probabilities, `second, run ${run}`);
    }
    const { stages, probabilities } = await model.predict(placed, { stages: true });
    assertSameBits(probabilities, alone.probabilities, 'timed');
    assert.ok(stages.embeddingMs >= 0 && stages.topMs >= 0);
    await assert.rejects(model.place({ ...first, dense: first.dense.subarray(1) }), { code: 'TENSOR_SHAPE' });
  });

  test('NaN in dense features stays in its sample', async () => {
    const architecture = smallModel(new Random(83), 'cross');
    await using model = await DlrmModel.create(subject.backend, architecture, {
      precision: subject.precision,
    });
    const request = smallRequest(new Random(1), architecture, 5);
    const { probabilities: clean } = await model.predict(request);
    request.dense[2 * request.denseFeatures] = Number.NaN;
    const { probabilities } = await model.predict(request);
    probabilities.forEach((p, b) => {
      assert.ok(b === 2 ? Number.isNaN(p) : Object.is(p, clean[b]), `sample ${b}: ${p}`);
    });
  });

  test('bad indices are refused, or counted and repaired', async () => {
    const architecture = smallModel(new Random(84), 'dot-upper');
    const good = smallRequest(new Random(2), architecture, 4);
    const withIndices = (value: number) => ({
      ...good,
      bags: good.bags.map((bags, t) =>
        t === 2 ? { indices: integers([1, value, 3]), offsets: integers([0, 1, 2, 3]) } : bags,
      ),
    });
    {
      await using model = await DlrmModel.create(subject.backend, architecture, {
        precision: subject.precision,
      });
      await assert.rejects(model.predict(withIndices(-1)), {
        code: 'INDEX_OUT_OF_RANGE',
        message: /table 2 \(t2\): indices\[1\] = -1/,
      });
      // A refused request leaves the model in order.
      await model.predict(good);
    }
    await using model = await DlrmModel.create(subject.backend, architecture, {
      precision: subject.precision,
      indexChecking: 'warn',
    });
    const { probabilities, findings } = await model.predict(withIndices(-1));
    assert.equal(findings.badIndices, 1);
    const repaired = await model.predict(withIndices(0));
    assertSameBits(probabilities, repaired.probabilities, 'repaired');
  });

  test('requests that do not fit the model are refused', async () => {
    const architecture = smallModel(new Random(85), 'cat');
    await using model = await DlrmModel.create(subject.backend, architecture, {
      precision: subject.precision,
    });
    const good = smallRequest(new Random(3), architecture, 4);
    const shortDense = { ...good, dense: good.dense.subarray(1) };
    await assert.rejects(model.predict(shortDense), { code: 'TENSOR_SHAPE' });
    await assert.rejects(model.predict({ ...good, bags: good.bags.slice(1) }), { code: 'TABLE_MISSING' });
    await assert.rejects(model.predict({ ...good, bags: [...good.bags, ...good.bags] }), {
      code: 'TABLE_UNEXPECTED',
    });
  });

  test('a closed model refuses work', async () => {
    const architecture = smallModel(new Random(86), 'cat');
    const model = await DlrmModel.create(subject.backend, architecture, { precision: subject.precision });
    const request = smallRequest(new Random(4), architecture, 3);
    const underWay = model.predict(request);
    await model.close();
    await model.close();
    assert.equal((await underWay).probabilities.length, 3);
    await assert.rejects(model.predict(request), { code: 'DISPOSED' });
  });
}

/** Compares all outputs with the blocks' references, over the pooled rows of the reference backend. */
async function assertHead(
  subject: Subject,
  architecture: ModelArchitecture,
  roundings: number,
): Promise<void> {
  using reference = new ReferenceBackend();
  const tables: ModelArchitecture = {
    ...{ naming: 'synthetic', denseFeatures: 0, tables: architecture.tables },
    ...{ blocks: [], outputs: ['pooled'] },
  };
  await using pooling = await DlrmModel.create(reference, tables);
  await using model = await DlrmModel.create(subject.backend, architecture, { precision: subject.precision });
  for (const batch of [0, 1, 33]) {
    const request = smallRequest(new Random(batch), architecture, batch);
    const { dense } = request;
    const { pooled } = await pooling.predict({ ...request, dense: new Float32Array(), denseFeatures: 0 });
    const right = await referenceHead(model.head, { batch, dense, pooled: pooled as Float32Array });
    const prediction = await model.predict(request, { stages: true });
    const given = prediction.outputs ?? { top: prediction.probabilities };
    assert.deepEqual(Object.keys(given), [...right.keys()]);
    for (const [name, expected] of right) {
      const bound = (i: number) =>
        roundings * subject.denseRounding * Math.max(1, Math.abs(expected[i] as number));
      assertWithin(given[name] as Float32Array, expected, bound, `${name}, batch ${batch}`);
    }
    using placed = await model.place(request);
    const again = await model.predict(placed);
    for (const name of right.keys()) {
      const own = again.outputs?.[name] ?? again.probabilities;
      assertSameBits(own, given[name] as Float32Array, `${name}, placed`);
    }
  }
}

/** Models compared on the same samples. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import Value from 'typebox/value';
import { RequestError, UsageError } from '../../src/errors.ts';
import { type EvaluatedModel, evaluate } from '../../src/evaluate/evaluate.ts';
import { readLabels } from '../../src/evaluate/labels.ts';
import { type EvaluateResults, evaluateSchema } from '../../src/evaluate/results.ts';
import { writeSafetensors } from '../../src/formats/safetensors.ts';
import { DlrmModel, openBackend } from '../../src/index.ts';
import type { ModelArchitecture } from '../../src/model/architecture.ts';
import type { Prediction } from '../../src/model/prediction.ts';
import { evaluateFigures } from '../../src/report/evaluate-figures.ts';
import { evaluateFindings } from '../../src/report/evaluate-findings.ts';
import { renderReport } from '../../src/report/page.ts';
import type { HostTensor } from '../../src/tensor.ts';
import { samplesOf } from '../../src/workload/traffic/samples.ts';
import { branchingModel, smallModel, smallRequest } from '../support/models.ts';
import { Random } from '../support/random.ts';
import { SEED } from '../support/seed.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrow-evaluate-'));
after(() => rmSync(folder, { recursive: true }));

const random = new Random(SEED);
const architecture = smallModel(random, 'dot-lower');
const requests = [5, 70, 1].map((size) => samplesOf(smallRequest(random, architecture, size), architecture));

async function open(own: ModelArchitecture): Promise<DlrmModel> {
  const { backend } = openBackend({ device: 'cpu', threads: 1 });
  return DlrmModel.create(backend, own, { closesBackend: true });
}

/** A model whose predictions are made of another's. */
function changed(
  model: DlrmModel,
  change: (values: Float32Array, first: number) => Float32Array,
): EvaluatedModel {
  let first = 0;
  return {
    architecture: model.architecture,
    head: model.head,
    async predict(request): Promise<Prediction> {
      const prediction = await model.predict(request);
      const probabilities = change(prediction.probabilities.slice(), first);
      first += probabilities.length;
      return { ...prediction, probabilities };
    },
  };
}

const common = { requests, labels: undefined, seed: 1, batchSize: 16 };

describe('a model beside a reference', () => {
  test('beside itself, all is equal, in batches of any size', async () => {
    await using model = await open(architecture);
    for (const batchSize of [1, 16, 1000]) {
      const sizes: number[] = [];
      const { outputs, quality } = await evaluate({
        ...common,
        model,
        reference: model,
        batchSize,
        onProgress: (done) => sizes.push(done),
      });
      assert.equal(sizes.at(-1), 76);
      const [{ name, logit, value, bits, values }] = outputs as [EvaluateResults['outputs'][number]];
      assert.deepEqual([name, bits, values, logit?.worst, value.worst], ['probability', 76, 76, 0, 0]);
      assert.deepEqual(quality?.model, quality?.reference);
      assert.equal(quality?.labels, 'drawn');
    }
  });

  test('errors are of the model less the reference, sample by sample', async () => {
    await using model = await open(architecture);
    const other = changed(model, (values, first) => values.map((p, i) => (first + i === 7 ? p / 2 : p)));
    const { outputs } = await evaluate({ ...common, model: other, reference: model });
    const [{ value, bits }] = outputs as [EvaluateResults['outputs'][number]];
    assert.equal(bits, 75);
    assert.ok(value.worst > 0 && value.bias < 0);
    assert.equal(value.quantiles[0]?.[1], 0);
    assert.ok(Math.abs(value.bias + value.worst / 76) < 1e-12);
  });

  test('labels are those of the samples, in their order; drawn ones are the seed’s', async () => {
    await using model = await open(architecture);
    const inverse = changed(model, (values) => values.map((p) => 1 - p));
    const scores = new Map<string, number | undefined>();
    const { quality } = await evaluate({ ...common, model: inverse, reference: model });
    scores.set('drawn', quality?.reference.auc);
    const again = await evaluate({ ...common, model, reference: model });
    assert.deepEqual(again.quality?.reference, quality?.reference);
    const otherwise = await evaluate({ ...common, model, reference: model, seed: 2 });
    assert.notDeepEqual(otherwise.quality?.reference, quality?.reference);
    for (const [p, least, most] of [
      [0.99, 70, 76],
      [0.01, 0, 6],
    ] as const) {
      const sure = changed(model, (values) => values.fill(p));
      const { ones = -1 } = (await evaluate({ ...common, model, reference: sure })).quality ?? {};
      assert.ok(ones >= least && ones <= most, `${ones} of 76 at ${p}`);
    }
    const all = await Promise.all(
      requests.map(
        async (samples) =>
          (await evaluate({ ...common, requests: [samples], model, reference: model })).outputs[0]?.values,
      ),
    );
    assert.deepEqual(all, [5, 70, 1]);
    // Labels that the reference ranks without a mistake: the inverse ranks them all wrong.
    const probabilities: number[] = [];
    await evaluate({
      ...common,
      model: changed(model, (values) => {
        probabilities.push(...values);
        return values;
      }),
      reference: model,
    });
    const middle = probabilities.toSorted((a, b) => a - b)[38] as number;
    const labels = Uint8Array.from(probabilities, (p) => Number(p >= middle));
    const ranked = await evaluate({ ...common, model: inverse, reference: model, labels });
    assert.deepEqual(
      [ranked.quality?.labels, ranked.quality?.reference.auc, ranked.quality?.model.auc],
      ['given', 1, 0],
    );
  });

  test('values that are no numbers are left out, and said', async () => {
    await using model = await open(architecture);
    const broken = changed(model, (values, first) => values.map((p, i) => (first + i < 3 ? Number.NaN : p)));
    const { notes, outputs } = await evaluate({ ...common, model: broken, reference: model });
    assert.match(notes[0] ?? '', /^probability: 3 of 76 values are left out/);
    assert.equal(outputs[0]?.value.worst, 0);
    const none = changed(model, (values) => values.fill(Number.NaN));
    await assert.rejects(evaluate({ ...common, model: none, reference: model }), UsageError);
  });

  test('probabilities of 0 and 1 have the largest logits that float32 tells, and it is said', async () => {
    await using model = await open(architecture);
    const certain = changed(model, (values) => values.map((p) => (p > 0.5 ? 1 : 0)));
    const { notes, outputs } = await evaluate({ ...common, model: certain, reference: model });
    assert.ok(notes.some((note) => /^76 probabilities lie closer/.test(note)));
    assert.ok(Number.isFinite(outputs[0]?.logit?.worst));
  });

  test('of several outputs, each is compared; others than the reference’s are refused', async () => {
    const own = new Random(SEED);
    const several = branchingModel(own);
    await using model = await open(several);
    const samples = [samplesOf(smallRequest(own, several, 9), several)];
    const { outputs, quality } = await evaluate({ ...common, requests: samples, model, reference: model });
    assert.equal(outputs.length, model.head.outputs.length);
    assert.equal(quality, undefined);
    await using other = await open(architecture);
    await assert.rejects(evaluate({ ...common, model, reference: other }), UsageError);
  });

  test('logits are compared as the models say them', async () => {
    await using model = await open({ ...architecture, output: 'logit' });
    const { outputs, notes } = await evaluate({ ...common, model, reference: model });
    assert.deepEqual(
      outputs.map(({ name }) => name),
      ['probability', 'logit'],
    );
    assert.deepEqual(notes, []);
    await using plain = await open(architecture);
    const mixed = await evaluate({ ...common, model, reference: plain });
    assert.equal(mixed.outputs.length, 1);
  });
});

describe('labels', () => {
  const write = async (name: string, tensors: Record<string, HostTensor>) => {
    const file = join(folder, name);
    await writeSafetensors(file, new Map(Object.entries(tensors)));
    return file;
  };

  test('of any number type, flat or in a column', async () => {
    const forms: HostTensor[] = [
      { dtype: 'float32', shape: [3], data: Float32Array.of(0, 1, 1) },
      { dtype: 'int64', shape: [3, 1], data: BigInt64Array.of(0n, 1n, 1n) },
      { dtype: 'uint8', shape: [3], data: Uint8Array.of(0, 1, 1) },
    ];
    for (const [i, labels] of forms.entries()) {
      const file = await write(`good-${i}.safetensors`, { labels });
      assert.deepEqual([...(await readLabels(file))], [0, 1, 1]);
    }
  });

  test('that are none are refused by file and tensor', async () => {
    const bad: [string, Record<string, HostTensor>, string][] = [
      ['other', { clicks: { dtype: 'uint8', shape: [1], data: Uint8Array.of(1) } }, 'TENSOR_MISSING'],
      ['wide', { labels: { dtype: 'uint8', shape: [1, 2], data: Uint8Array.of(1, 0) } }, 'TENSOR_SHAPE'],
      [
        'half',
        { labels: { dtype: 'float32', shape: [2], data: Float32Array.of(1, 0.5) } },
        'REQUEST_INVALID',
      ],
    ];
    for (const [name, tensors, code] of bad) {
      const file = await write(`${name}.safetensors`, tensors);
      await assert.rejects(readLabels(file), (error) => {
        assert.ok(error instanceof RequestError);
        assert.equal(error.code, code);
        assert.ok(error.message.includes(file));
        return true;
      });
    }
  });
});

/** Results as a file holds them. */
async function someResults(
  change: (values: Float32Array) => Float32Array,
  labels?: Uint8Array,
): Promise<EvaluateResults> {
  await using model = await open(architecture);
  const side = {
    file: 'dlrm.safetensors',
    device: 'cpu: a processor',
    precision: 'float32',
    rowFormats: 'int8',
    plan: 'plain',
  };
  return {
    version: 1,
    kind: 'evaluate',
    createdAt: '2026-12-01T12:00:00.000Z',
    command: 'hotrow evaluate dlrm.int8.safetensors --against dlrm.safetensors --requests day.csv',
    hotrow: '0.1.0',
    model: { ...side, file: 'dlrm.int8.safetensors' },
    reference: side,
    requests: { files: ['day.csv'], samples: 76, batchSize: 16 },
    ...(await evaluate({ ...common, model: changed(model, change), reference: model, labels })),
  };
}

test('results are of their schema, and a report shows them', async () => {
  const results = await someResults((values) => values.map((p) => 0.9 * p));
  assert.deepEqual([...Value.Errors(evaluateSchema, results)], []);
  const page = renderReport([results]);
  for (const said of [
    'evaluation of dlrm.int8.safetensors',
    'Calibration',
    'equal bits',
    'drawn from the reference',
  ])
    assert.ok(page.includes(said), said);
  assert.deepEqual(
    evaluateFigures(results).map(({ id, table }) => [id, table.rows.length]),
    [
      ['errors', 2],
      ['calibration', 10],
    ],
  );
});

test('findings say what the difference costs', async () => {
  // Labels that the reference ranks without a mistake.
  const probabilities: number[] = [];
  await someResults((values) => {
    probabilities.push(...values);
    return values;
  });
  const middle = probabilities.toSorted((a, b) => a - b)[38] as number;
  const labels = Uint8Array.from(probabilities, (p) => Number(p >= middle));
  const rules = async (change: (values: Float32Array) => Float32Array) =>
    evaluateFindings(await someResults(change, labels)).map(
      ({ rule, text }) => `${rule}: ${text.split(':')[0]}`,
    );
  assert.deepEqual(await rules((values) => values), ['loss: The difference costs little']);
  const costly = await rules((values) => values.map((p) => (p >= middle ? 0.001 : 0.999)));
  assert.equal(costly[0], 'loss: The difference costs accuracy');
  assert.equal(costly[1], 'ranks: The model ranks worse than the reference');
  assert.match(costly[2] ?? '', /^worst-logit: No logit is off by more than/);
});

/** Every function of the public API with right arguments, and what a right call gives. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Backend } from '../../src/backend/backend.ts';
import { referenceEmbeddingBags } from '../../src/embedding/reference.ts';
import * as H from '../../src/index.ts';
import { smallCharacterization } from '../report/results.ts';
import { bagsOf, randomBags, randomTable } from '../support/cases.ts';
import { facebookTensors, writeCheckpoint } from '../support/checkpoints.ts';
import { assertSameValues } from '../support/compare.ts';
import { smallModel, smallRequest } from '../support/models.ts';
import { Random } from '../support/random.ts';

/** One function, or a way to call it. */
export interface Call {
  readonly name: string;
  /** Right arguments, made anew for each call. */
  readonly args: (random: Random) => unknown[];
  readonly run: (...args: never[]) => unknown;
  /** Whether what right arguments gave is right. */
  readonly check?: (result: never, args: never) => void;
}

const pattern = 'med_hot';
const criteoRow = [
  1,
  ...Array.from({ length: 13 }, (_, i) => i),
  ...Array.from({ length: 26 }, () => 'a'),
].join('\t');

/** An operation with its bags; one that cannot be read stays what it is. */
function withBags(operation: never, bags: H.Bags | Disposable): never {
  try {
    return { ...(operation as object), bags } as never;
  } catch {
    return operation;
  }
}

/** Files and objects that calls are about; `folder` takes what they write. */
export async function prepareCalls(backend: Backend, folder: string): Promise<readonly Call[]> {
  const seeded = new Random(1);
  const at = (name: string) => join(folder, name);
  const put = (name: string, text: string) => {
    writeFileSync(at(name), text);
    return at(name);
  };
  const tables = () => [8, 16].map((dim) => randomTable(new Random(dim), { rows: 30, dim, exact: true }));
  const own = tables();
  const batch = (random: Random) => ({
    batchSize: 3,
    bags: own.map(({ rows }) => randomBags(random, { batch: 3, rows })),
  });
  const architecture = smallModel(new Random(2), 'dot-lower');
  const model = await H.DlrmModel.create(backend, architecture);
  const collection = await H.EmbeddingCollection.create(backend, own);
  const updated = await H.EmbeddingCollection.create(backend, tables());
  const placedRows = await backend.placeTables(tables(), H.plainPlan(backend.device.kind));
  const someRows = (random: Random) => Int32Array.from({ length: 3 }, () => random.integer(0, 29));
  const closed = await H.EmbeddingCollection.create(backend, own);
  await closed.close();
  const placed = await backend.placeTables(own, H.plainPlan(backend.device.kind));
  const request = smallRequest(seeded, architecture, 4);
  const expected = (await model.predict(request)).probabilities;
  const layer = backend.placeLinear(
    seeded.reals(12),
    seeded.reals(3),
    3,
    4,
    backend.device.capabilities.precisions[0] ?? 'float32',
  );
  const buffer = backend.allocate(256);
  const featureRequest = {
    dense: request.dense,
    features: Object.fromEntries(
      architecture.tables.map(({ name }) => [
        name,
        { values: [1, 2, 3, 4], lengths: Int32Array.of(1, 1, 2, 0) },
      ]),
    ),
  };
  const inputs = () =>
    H.defaultInputs(
      architecture.tables.map(({ name }) => name),
      architecture.denseFeatures,
    );
  const plan = H.heuristicPlan({ device: backend.device, tables: own });
  const context = () => ({ device: backend.device, tables: own });
  const checkpoint = await writeCheckpoint(at('model.safetensors'), facebookTensors());
  const stored = await H.loadCheckpoint(checkpoint);
  const loaded = await H.inferArchitecture(stored.tensors);
  const requestFile = at('request.safetensors');
  await H.writeRequest(requestFile, request);
  const json = put(
    'request.json',
    JSON.stringify({
      dense: Array.from(request.dense.slice(0, architecture.denseFeatures)),
      features: Object.fromEntries(architecture.tables.map(({ name }) => [name, [1]])),
    }),
  );
  const trace = put('trace.txt', Array.from({ length: 50 }, (_, i) => i % 7).join('\n'));
  const criteo = put('rows.tsv', `${criteoRow}\n${criteoRow}\n`);
  const vocabulary = put('vocabulary.json', JSON.stringify(Array.from({ length: 26 }, () => ['a', 'b'])));
  const planFile = put('plan.json', JSON.stringify(plan));
  const results = () => smallCharacterization();
  const resultsFile = put('results.json', JSON.stringify(results()));
  const progress = () => {};
  const user = () => ({
    dense: request.dense.slice(0, 2),
    bags: new Map<number | string, H.Bags>([[0, bagsOf([[1, 2]])]]),
  });
  const candidates = () => ({
    batchSize: 2,
    dense: new Float32Array(2 * (architecture.denseFeatures - 2)),
    denseFeatures: architecture.denseFeatures - 2,
    bags: new Map<number | string, H.Bags>([
      [1, bagsOf([[1], [2]])],
      ['t2', bagsOf([[], [3]])],
    ]),
  });
  const technique = H.TECHNIQUES.find(({ name }) => name === 'prefetch')?.devices.cuda as H.TechniqueOnDevice;
  const drawn = { pattern, rows: 1000, seed: 3, count: 20 };
  const synthetic = {
    tables: [{ rows: 50 }, { rows: 9 }],
    batchSize: 4,
    pattern,
    bagLengths: 'uniform:0:5',
    seed: 1,
  };
  const shape = { usualBatchSize: 8, bagLengths: '2', seed: 1, batches: 2 };
  const sources = await H.trafficSources([trace]);
  const elsewhere = H.openBackend({ device: 'cpu', threads: 1 }).backend.allocate(32);
  const operation = () => ({
    op: 'linear',
    layer,
    input: { buffer, offset: 0, rows: 2, cols: 4, stride: 4 },
    output: { buffer, offset: 64, rows: 2, cols: 3, stride: 3 },
    activation: 'relu',
  });
  const options = () => ({ plan: structuredClone(plan), indexChecking: 'warn' });
  const samePrediction = ({ probabilities }: H.Prediction) => assert.deepEqual(probabilities, expected);
  const nonEmpty = (value: string) => assert.ok(value.length > 0);

  return [
    {
      name: 'hostBytes',
      args: () => [[new Float32Array(3), Int32Array.of(1)]],
      run: H.hostBytes,
      check: (bytes) => assert.equal(bytes, 32),
    },
    {
      name: 'openBackend',
      args: () => [{ device: 'cpu', threads: 1, limits: { programs: 2, bytes: 1000, waiting: 3 } }],
      run: (given: never) => H.openBackend(given).backend[Symbol.dispose](),
    },
    { name: 'checkPlan', args: () => [structuredClone(plan), context()], run: H.checkPlan },
    {
      name: 'refusals',
      args: () => [structuredClone(plan), context()],
      run: H.refusals,
      check: (reasons) => assert.deepEqual(reasons, []),
    },
    {
      name: 'heuristicPlan',
      args: () => [context()],
      run: H.heuristicPlan,
      check: (found) => assert.deepEqual(found, plan),
    },
    {
      name: 'parsePlan',
      args: () => [structuredClone(plan), 'here'],
      run: H.parsePlan,
      check: (found) => assert.deepEqual(found, plan),
    },
    { name: 'plainPlan', args: () => [backend.device.kind], run: H.plainPlan },
    { name: 'planLabel', args: () => [structuredClone(plan)], run: H.planLabel, check: nonEmpty },
    {
      name: 'withTechniques',
      args: () => [H.plainPlan('cpu'), { prefetch: { distance: 8, level: 'L1' } }],
      run: H.withTechniques,
    },
    {
      name: 'readPlan',
      args: () => [planFile],
      run: H.readPlan,
      check: (found) => assert.deepEqual(found, plan),
    },
    {
      name: 'technique.candidates',
      args: () => [context()],
      run: (given: never) => technique.candidates(given),
    },
    {
      name: 'technique.refuse',
      args: () => [{ into: 'registers', distance: 4 }, context()],
      run: (a: never, b: never) => technique.refuse(a, b),
    },
    {
      name: 'technique.label',
      args: () => [{ into: 'registers', distance: 4 }],
      run: (a: never) => technique.label(a),
      check: nonEmpty,
    },
    {
      name: 'technique.cost',
      args: () => [{ into: 'registers', distance: 4 }, context()],
      run: (a: never, b: never) => technique.cost(a, b),
    },
    {
      name: 'rowBytes',
      args: () => [{ dim: 10, rowFormat: 'int8' }],
      run: H.rowBytes,
      check: (bytes) => assert.equal(bytes, 16),
    },
    {
      name: 'quantizeRows',
      args: (random) => [random.reals(24), 8, 'int8', 0],
      run: H.quantizeRows,
      check: ({ data }: H.QuantizedRows) => assert.equal(data.length, 48),
    },
    {
      name: 'dequantizeRows',
      args: () => [new Uint8Array(48), 8, 'int8'],
      run: H.dequantizeRows,
      check: (values: Float32Array) => assert.deepEqual(values, new Float32Array(24)),
    },
    {
      name: 'relativeRmsError',
      args: () => [{ elements: 1, maxAbsolute: 1, sumSquaredError: 1, sumSquares: 4, saturated: 0 }],
      run: H.relativeRmsError,
      check: (error) => assert.equal(error, 0.5),
    },
    {
      name: 'lossWarnings',
      args: () => [
        {
          name: 't',
          rows: 1,
          dim: 1,
          from: 'float32',
          to: 'int8',
          bytesBefore: 4,
          bytesAfter: 16,
          error: { elements: 1, maxAbsolute: 1, sumSquaredError: 1, sumSquares: 4, saturated: 1 },
        },
        0.1,
      ],
      run: H.lossWarnings,
      check: (said: string[]) => assert.equal(said.length, 2),
    },
    {
      name: 'EmbeddingCollection.create',
      args: () => [backend, tables(), options()],
      run: async (...args: never[]) =>
        (
          await (H.EmbeddingCollection.create as (...a: never[]) => Promise<H.EmbeddingCollection>)(...args)
        ).close(),
    },
    {
      name: 'new EmbeddingCollection',
      args: () => [backend, placed, 'error'],
      run: (...args: never[]) => {
        assert.throws(() => Reflect.construct(H.EmbeddingCollection, args), H.UsageError);
      },
    },
    {
      name: 'forward',
      args: (random) => [batch(random), { output: 'float32', timed: false }],
      run: (a: never, b: never) => collection.forward(a, b),
      check: ({ pooled }: H.PooledEmbeddings, [given]: [H.BagBatch]) =>
        assertSameValues(pooled, referenceEmbeddingBags(own, given).pooled, 'forward'),
    },
    {
      name: 'forward, closed',
      args: (random) => [batch(random)],
      run: (a: never) => assert.rejects(() => closed.forward(a), H.HotrowError),
    },
    {
      name: 'updateRows',
      args: (random) => [own[1]?.name, someRows(random), random.reals(3 * 16)],
      run: async (table: never, rows: Int32Array, values: Float32Array) => {
        await updated.updateRows(table, rows, values);
        return updated.readRows(1, rows.slice(-1));
      },
      check: (row: Float32Array, [, , values]: [string, Int32Array, Float32Array]) =>
        assertSameValues(row, values.slice(-16), 'the row that was given last'),
    },
    {
      name: 'readRows',
      args: (random) => [0, someRows(random)],
      run: (table: never, rows: never) => updated.readRows(table, rows),
      check: (rows: Float32Array) => assert.equal(rows.length, 3 * 8),
    },
    {
      name: 'updateRows of placed tables',
      args: (random) => [1, someRows(random), random.reals(3 * 16)],
      run: (table: never, rows: never, values: never) => placedRows.updateRows(table, rows, values),
    },
    {
      name: 'readRows of placed tables',
      args: (random) => [1, someRows(random)],
      run: (table: never, rows: never) => placedRows.readRows(table, rows),
    },
    {
      name: 'devicePlacement',
      args: () => [tables()],
      run: H.devicePlacement,
      check: (placement: H.Placement) => assert.equal(H.placementLabel(placement), '2 tables on the device'),
    },
    {
      name: 'parsePlacement',
      args: () => [structuredClone(H.devicePlacement(own)), 'a placement'],
      run: H.parsePlacement,
    },
    {
      name: 'placementLabel',
      args: () => [structuredClone(H.devicePlacement(own))],
      run: H.placementLabel,
    },
    {
      name: 'DlrmModel.create',
      args: () => [
        backend,
        smallModel(new Random(2), 'cross'),
        { ...options(), onProgress: progress, signal: new AbortController().signal },
      ],
      run: async (...args: never[]) =>
        (await (H.DlrmModel.create as (...a: never[]) => Promise<H.DlrmModel>)(...args)).close(),
    },
    {
      name: 'DlrmModel.create, with its backend',
      args: () => [smallModel(new Random(2), 'cat'), { closesBackend: true }],
      run: async (...args: never[]) => {
        const { backend: other } = H.openBackend({ device: 'cpu', threads: 1 });
        using _ = other;
        await (
          await (H.DlrmModel.create as (...a: unknown[]) => Promise<H.DlrmModel>)(other, ...args)
        ).close();
      },
    },
    {
      name: 'predict',
      args: () => [structuredClone(request), { stages: false, signal: new AbortController().signal }],
      run: (a: never, b: never) => model.predict(a, b),
      check: samePrediction,
    },
    {
      name: 'predict, stages',
      args: () => [structuredClone(request), { stages: true }],
      run: (a: never, b: never) => model.predict(a, b),
      check: samePrediction,
    },
    {
      name: 'score',
      args: () => [user(), candidates(), { stages: false }],
      run: (a: never, b: never, c: never) => model.score(a, b, c),
      check: ({ probabilities }: H.Prediction) => assert.equal(probabilities.length, 2),
    },
    {
      name: 'scoreRequest',
      args: () => [
        { tables: architecture.tables, denseFeatures: architecture.denseFeatures },
        user(),
        candidates(),
      ],
      run: H.scoreRequest,
    },
    {
      name: 'model.request',
      args: () => [structuredClone(featureRequest)],
      run: (a: never) => model.request(a),
      check: ({ batchSize }: H.DlrmRequest) => assert.equal(batchSize, 4),
    },
    {
      name: 'requestByFeature',
      args: () => [inputs(), structuredClone(featureRequest)],
      run: H.requestByFeature,
      check: ({ batchSize }: H.DlrmRequest) => assert.equal(batchSize, 4),
    },
    {
      name: 'place',
      args: () => [structuredClone(request)],
      run: async (a: never) => {
        using there = await model.place(a);
        return model.predict(there);
      },
      check: samePrediction,
    },
    {
      name: 'new PlacedRequest',
      args: () => [1, 2],
      run: (...args: never[]) => {
        assert.throws(() => Reflect.construct(H.PlacedRequest, args), H.UsageError);
      },
    },
    {
      name: 'loadModel',
      args: () => [
        checkpoint,
        {
          device: 'cpu',
          threads: 1,
          ...options(),
          plan: 'plain',
          traffic: { distinctShare: 0.5, batchSize: 3 },
          architecture: { interaction: 'dot', mode: 'sum', paddingIdx: 0 },
          onProgress: progress,
          signal: new AbortController().signal,
        },
      ],
      run: async (...args: never[]) =>
        (await (H.loadModel as (...a: never[]) => Promise<H.DlrmModel>)(...args)).close(),
    },
    {
      name: 'loadCheckpoint',
      args: () => [checkpoint, { prefix: '', signal: new AbortController().signal }],
      run: H.loadCheckpoint,
    },
    {
      name: 'inferArchitecture',
      args: () => [new Map(stored.tensors), { mode: 'sum', paddingIdx: 1, order: 'saved' }],
      run: H.inferArchitecture,
      check: ({ tables: found }: H.DlrmArchitecture) => assert.equal(found.length, 3),
    },
    {
      name: 'quantizeCheckpoint',
      args: () => [
        {
          tensors: new Map(stored.tensors),
          tables: [...loaded.tables],
          rows: 'int8',
          tableOrder: ['a'],
          out: at('out.safetensors'),
          onProgress: progress,
          signal: new AbortController().signal,
        },
      ],
      run: H.quantizeCheckpoint,
      check: (told: H.QuantizedTable[]) => assert.equal(told.length, 3),
    },
    { name: 'defaultInputs', args: () => [['a', 'b'], 3], run: H.defaultInputs },
    {
      name: 'readJsonRequest',
      args: () => [json, inputs()],
      run: H.readJsonRequest,
      check: ({ batchSize }: H.DlrmRequest) => assert.equal(batchSize, 1),
    },
    {
      name: 'readRequest',
      args: () => [requestFile, inputs()],
      run: H.readRequest,
      check: ({ batchSize }: H.DlrmRequest) => assert.equal(batchSize, 4),
    },
    {
      name: 'writeRequest',
      args: () => [at('written.safetensors'), structuredClone(request)],
      run: H.writeRequest,
    },
    { name: 'parseResults', args: () => [results()], run: H.parseResults },
    { name: 'readResults', args: () => [resultsFile], run: H.readResults },
    { name: 'renderReport', args: () => [[results()]], run: H.renderReport, check: nonEmpty },
    { name: 'accessPattern', args: () => [pattern], run: H.accessPattern },
    {
      name: 'generateIndices',
      args: () => [{ ...drawn }],
      run: H.generateIndices,
      check: (indices: BigInt64Array) => assert.equal(indices.length, 20),
    },
    {
      name: 'createStream',
      args: () => [pattern, { rows: 9, seed: 1 }, 5],
      run: (a: never, b: never, count: never) => H.createStream(a, b)(count),
      check: (indices: BigInt64Array) => assert.equal(indices.length, 5),
    },
    {
      name: 'countRows',
      args: () => [Int32Array.of(1, 2, 1)],
      run: H.countRows,
      check: ({ counts }: H.RowCounts) => assert.deepEqual(counts, Uint32Array.of(2, 1)),
    },
    {
      name: 'measureHotness',
      args: () => [BigInt64Array.of(1n, 2n, 1n), [1, 10]],
      run: H.measureHotness,
      check: ({ distinct }: H.Hotness) => assert.equal(distinct, 2),
    },
    { name: 'coverageCurve', args: () => [H.countRows(Int32Array.of(1, 2, 1)), 8], run: H.coverageCurve },
    { name: 'nearestPattern', args: () => [Int32Array.of(1, 2, 1, 5), 10], run: H.nearestPattern },
    {
      name: 'syntheticBags',
      args: () => [{ ...structuredClone(synthetic), batches: 2 }],
      run: H.syntheticBags,
      check: (made: H.BagBatch[]) => assert.equal(made.length, 2),
    },
    {
      name: 'syntheticRequest',
      args: () => [{ ...structuredClone(synthetic), denseFeatures: 3 }],
      run: H.syntheticRequest,
    },
    {
      name: 'readTrace',
      args: () => [trace, { tables: 1 }],
      run: H.readTrace,
      check: ({ streams }: H.Trace) => assert.equal(streams[0]?.length, 50),
    },
    {
      name: 'readCriteo, vocabulary',
      args: () => [criteo, { vocabulary, unknownRow: 0, preprocessing: 'none', limit: 1 }],
      run: H.readCriteo,
      check: ({ request: found }: H.CriteoRows) => assert.equal(found.batchSize, 1),
    },
    {
      name: 'readCriteo, hashed',
      args: () => [
        criteo,
        { tableRows: Array.from({ length: 26 }, () => 7), hexadecimal: 'int32', preprocessing: 'log(x + 3)' },
      ],
      run: H.readCriteo,
      check: ({ request: found }: H.CriteoRows) => assert.equal(found.batchSize, 2),
    },
    {
      name: 'readRequestFile',
      args: () => [
        requestFile,
        {
          naming: 'synthetic',
          tables: [...architecture.tables],
          denseFeatures: architecture.denseFeatures,
          inputs: inputs(),
        },
        { hash: false, limit: 3 },
      ],
      run: H.readRequestFile,
    },
    {
      name: 'trafficSources',
      args: () => [[trace, `ads=${trace}`]],
      run: H.trafficSources,
      check: (found: unknown[]) => assert.equal(found.length, 2),
    },
    {
      name: 'readTraffic',
      args: () => [
        structuredClone(sources[0]),
        { naming: 'dlrm', tables: tables(), denseFeatures: 3 },
        { ...shape },
        { hash: true },
      ],
      run: H.readTraffic,
      check: ({ batches }: H.Traffic) => assert.equal(batches.length, 2),
    },
    {
      name: 'placeTables',
      args: () => [
        tables(),
        structuredClone(plan),
        { onProgress: progress, signal: new AbortController().signal },
      ],
      run: async (...args: never[]) =>
        (await (backend.placeTables as (...a: never[]) => Promise<Disposable>).apply(backend, args))[
          Symbol.dispose
        ](),
    },
    {
      name: 'placeBags',
      args: (random) => [placed, batch(random)],
      run: (a: never, b: never) => backend.placeBags(a, b)[Symbol.dispose](),
    },
    {
      name: 'placeLinear',
      args: (random) => [random.reals(12), random.reals(3), 3, 4, 'float32'],
      run: (...args: never[]) =>
        (backend.placeLinear as (...a: never[]) => Disposable).apply(backend, args)[Symbol.dispose](),
    },
    {
      name: 'allocateHost',
      args: () => [1024, 3, 4, 5],
      run: (bytes: never, a: never, b: never, c: never) => {
        using memory = backend.allocateHost(bytes);
        memory.int32(a).fill(1);
        memory.int64(b).fill(1n);
        memory.float32(c).fill(1);
      },
    },
    {
      name: 'allocate',
      args: () => [64],
      run: (length: never) => backend.allocate(length)[Symbol.dispose](),
    },
    {
      name: 'run',
      args: (random) => [
        [
          {
            op: 'upload',
            source: random.reals(8),
            output: { buffer, offset: 0, rows: 2, cols: 4, stride: 4 },
          },
          operation(),
          {
            op: 'download',
            input: { buffer, offset: 64, rows: 2, cols: 3, stride: 3 },
            target: new Float32Array(6),
          },
        ],
        { timing: 'none' },
      ],
      run: (a: never, b: never) => backend.run(a, b),
    },
    {
      name: 'run, transfers',
      args: () => [
        [
          {
            op: 'transfer',
            input: { buffer, offset: 3, rows: 2, cols: 5, stride: 9, format: 'float16' },
            output: { buffer: elsewhere, offset: 1, rows: 2, cols: 5, stride: 5, format: 'float16' },
          },
          {
            op: 'transfer',
            input: { buffer, offset: 0, rows: 2, cols: 4, stride: 4 },
            output: { buffer, offset: 64, rows: 2, cols: 4, stride: 6 },
          },
        ],
      ],
      run: (program: never) => backend.run(program),
    },
    {
      name: 'run, bags',
      args: (random) => [
        batch(random),
        {
          op: 'embeddingBags',
          tables: placed,
          output: { buffer, offset: 0, rows: 3, cols: 24, stride: 24 },
          checking: 'error',
        },
      ],
      run: async (given: never, op: never) => {
        using bags = backend.placeBags(placed, given);
        await backend.run([withBags(op, bags)]);
      },
    },
    {
      name: 'prepare',
      args: (random) => [
        [
          {
            op: 'upload',
            source: 'values',
            output: { buffer, offset: 0, rows: 2, cols: 4, stride: 4 },
            stage: 'copy',
          },
          operation(),
          {
            op: 'download',
            input: { buffer, offset: 64, rows: 2, cols: 3, stride: 3 },
            target: 'result',
          },
        ],
        { values: random.reals(8), result: new Float32Array(6) },
      ],
      run: async (program: never, bindings: never) => {
        using executable = backend.prepare(program);
        await executable.run(bindings);
        return executable.run(bindings, { timing: 'none' });
      },
    },
    { name: 'capacityFor', args: () => [5], run: (size: never) => backend.capacityFor(size) },
    { name: 'memoryUse', args: () => [], run: () => Promise.resolve(backend.memoryUse()) },
    {
      name: 'observe',
      args: (random) => [placed, batch(random)],
      run: async (a: never, given: never) => {
        using bags = backend.placeBags(placed, given);
        await backend.observe(a, [bags]);
      },
    },
  ];
}

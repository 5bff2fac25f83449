/** A server as clients of gRPC see it: what HTTP's clients are told, in every form of a request that messages can have. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import type { DlrmModel } from '../../../src/model/dlrm.ts';
import { loadModel } from '../../../src/model/load-model.ts';
import { GrpcClient, grpcOutputs, grpcRefusal, inferMessage } from '../../support/grpc-client.ts';
import { Client, jsonIn } from '../../support/http-client.ts';
import { Random } from '../../support/random.ts';
import { forms, NAMES } from '../../support/request-forms.ts';
import { f32, i32, i64 } from '../../support/request-tensors.ts';
import { SEED } from '../../support/seed.ts';
import { idsModel, rowsModel, type Served, saidBy, serve } from '../../support/served.ts';
import {
  idsOutputs,
  idsTensors,
  inOnePiece,
  scores,
  usersAndCandidates,
  wrongTensors,
} from '../../support/serving-cases.ts';

let served: Served;
let client: GrpcClient;
let http: Client;
let rows: DlrmModel;
let ids: DlrmModel;
before(async () => {
  served = await serve({ models: { rows: rowsModel, 'of ids': idsModel }, grpcPort: 0 });
  client = new GrpcClient(served.server.grpcPort as number);
  http = new Client(served.port);
  rows = await loadModel(rowsModel, { device: 'cpu', threads: 1 });
  ids = await loadModel(idsModel, { device: 'cpu', threads: 1 });
});
after(async () => {
  client[Symbol.dispose]();
  http[Symbol.dispose]();
  await Promise.all([served[Symbol.asyncDispose](), rows.close(), ids.close()]);
  assert.deepEqual(
    served.events.filter(({ kind }) => kind === 'error'),
    [],
  );
});

const infer = async (message: object) => grpcOutputs(await client.call('ModelInfer', message));

test('every form gives what the model gives, alone and among others', async () => {
  const random = new Random(SEED);
  const sent: [string, object, number[]][] = [];
  for (const weighted of [false, true])
    for (const even of [false, true]) {
      const said = saidBy(random, random.integer(1, 6), { weighted, even });
      const wanted = await scores(rows, said);
      for (const integers of [i32, i64])
        for (const [name, tensors, metadata] of forms(said, integers))
          for (const typed of [false, true]) {
            const parameters = metadata ?? {};
            sent.push([name, inferMessage('rows', tensors, { typed, parameters }), wanted]);
          }
    }
  assert.ok(sent.length > 150);
  const check = (name: string, answer: unknown, wanted: number[]) =>
    assert.deepEqual(
      answer,
      { model_name: 'rows', model_version: '1', outputs: { probability: wanted } },
      name,
    );
  for (const [name, message, wanted] of sent) check(name, await infer(message), wanted);
  const answers = await Promise.all(sent.map(([, message]) => infer(message)));
  for (const [i, [name, , wanted]] of sent.entries()) check(`${name}, at once`, answers[i], wanted);
});

test('users have their part once', async () => {
  const { said, tensors, counts, order } = usersAndCandidates();
  const wanted = await scores(rows, said);
  for (const own of counts)
    for (const typed of [false, true]) {
      const message = inferMessage('rows', tensors(own), { typed, parameters: order });
      assert.deepEqual((await infer(message)).outputs, { probability: wanted });
    }
});

describe('ids', () => {
  test('are hashed and looked up, as bytes and one by one', async () => {
    const wanted = await idsOutputs(ids);
    for (const typed of [false, true])
      assert.deepEqual((await infer(inferMessage('of ids', idsTensors, { typed }))).outputs, wanted);
  });

  test('outputs come by name, in the order that was asked for', async () => {
    const { probability, logit } = await idsOutputs(ids);
    const ask = async (names: string[], parameters = {}) =>
      infer(
        inferMessage('of ids', idsTensors, {
          id: 'ä"1',
          model_version: '1',
          outputs: names.map((name) => ({ name, parameters })),
        }),
      );
    const both = await ask(['logit', 'probability']);
    assert.deepEqual(both, {
      model_name: 'of ids',
      model_version: '1',
      id: 'ä"1',
      outputs: { logit, probability },
    });
    assert.deepEqual(Object.keys(both.outputs), ['logit', 'probability']);
    assert.deepEqual((await ask(['logit'], { binary_data: false })).outputs, { logit });
  });
});

test('NaN passes; no samples give no probabilities', async () => {
  const said = saidBy(new Random(SEED + 2), 2);
  const tensors = { ...inOnePiece(said), dense: f32([2, 2], [Number.NaN, 1, 2, 3]) };
  const { probability = [] } = (await infer(inferMessage('rows', tensors))).outputs;
  assert.ok(Number.isNaN(probability[0]) && (probability[1] as number) > 0);
  const none = { dense: f32([0, 2]), values: i64([0]), lengths: i32([NAMES.length, 0]) };
  for (const typed of [false, true])
    assert.deepEqual((await infer(inferMessage('rows', none, { typed }))).outputs, { probability: [] });
});

describe('what is wrong is refused', () => {
  const good = inOnePiece(saidBy(new Random(SEED), 3));
  const raw = (change: (message: { inputs: never[]; raw_input_contents: Uint8Array[] }) => void): object => {
    const message = inferMessage('rows', good);
    change(message as never);
    return message;
  };
  const typed = (
    change: (inputs: { name: string; datatype: string; contents: object }[]) => void,
  ): object => {
    const message = inferMessage('rows', good, { typed: true }) as { inputs: never };
    change(message.inputs);
    return message;
  };
  const dense = (change: object) => typed(([first]) => Object.assign(first as object, change));
  const cases: [string, object, string][] = [
    ...wrongTensors(good).flatMap(([name, tensors, code]) =>
      [false, true].map((typed): [string, object, string] => [
        name,
        inferMessage('rows', tensors, { typed }),
        `INVALID_ARGUMENT ${code}`,
      ]),
    ),
    ['an empty message', {}, 'NOT_FOUND MODEL_UNKNOWN'],
    ['another model', inferMessage('other', good), 'NOT_FOUND MODEL_UNKNOWN'],
    ['another version', inferMessage('rows', good, { model_version: '2' }), 'NOT_FOUND MODEL_UNKNOWN'],
    ['no inputs', inferMessage('rows', {}), 'INVALID_ARGUMENT TENSOR_MISSING'],
    ['too few raw contents', raw((m) => m.raw_input_contents.pop()), 'INVALID_ARGUMENT REQUEST_INVALID'],
    ['too many', raw((m) => m.raw_input_contents.push(Buffer.alloc(1))), 'INVALID_ARGUMENT REQUEST_INVALID'],
    [
      'a byte too many',
      raw((m) => (m.raw_input_contents[0] = Buffer.alloc(25))),
      'INVALID_ARGUMENT TENSOR_SHAPE',
    ],
    ['a tensor twice', raw((m) => (m.inputs[1] = m.inputs[0] as never)), 'INVALID_ARGUMENT REQUEST_INVALID'],
    ['a tensor without a name', dense({ name: '' }), 'INVALID_ARGUMENT REQUEST_INVALID'],
    ['a datatype', dense({ datatype: 'BOOL' }), 'INVALID_ARGUMENT TENSOR_DTYPE'],
    ['a negative extent', dense({ shape: [-3, 2] }), 'INVALID_ARGUMENT TENSOR_SHAPE'],
    ['an extent of 2^63 - 1', dense({ shape: ['9223372036854775807', 2] }), 'INVALID_ARGUMENT TENSOR_SHAPE'],
    ['too few elements', dense({ contents: { fp32_contents: [1] } }), 'INVALID_ARGUMENT TENSOR_SHAPE'],
    [
      'elements of another type',
      dense({ contents: { fp64_contents: [1] } }),
      'INVALID_ARGUMENT REQUEST_INVALID',
    ],
    ['FP16 in contents', dense({ datatype: 'FP16' }), 'INVALID_ARGUMENT REQUEST_INVALID'],
    [
      'both forms of contents',
      {
        ...inferMessage('rows', good, { typed: true }),
        raw_input_contents: [[], [], []].map(() => Buffer.alloc(4)),
      },
      'INVALID_ARGUMENT REQUEST_INVALID',
    ],
    [
      'shared memory',
      dense({ parameters: { shared_memory_region: { string_param: 'r' } } }),
      'INVALID_ARGUMENT REQUEST_INVALID',
    ],
    [
      'a negative timeout',
      inferMessage('rows', good, { parameters: { timeout: -1 } }),
      'INVALID_ARGUMENT REQUEST_INVALID',
    ],
    [
      'a priority',
      inferMessage('rows', good, { parameters: { priority: 1.5 } }),
      'INVALID_ARGUMENT REQUEST_INVALID',
    ],
    [
      'features that are no list',
      inferMessage('rows', good, { parameters: { features: 'x' } }),
      'INVALID_ARGUMENT REQUEST_INVALID',
    ],
    [
      'an unknown output',
      inferMessage('rows', good, { outputs: [{ name: 'other' }] }),
      'INVALID_ARGUMENT OUTPUT_UNKNOWN',
    ],
    [
      'text that is not UTF-8',
      {
        ...inferMessage('of ids', idsTensors, { typed: true }),
        inputs: [
          {
            name: 'values.city',
            datatype: 'BYTES',
            shape: [1],
            contents: { bytes_contents: [Buffer.from([0xff])] },
          },
        ],
      },
      'INVALID_ARGUMENT REQUEST_INVALID',
    ],
  ];

  test('one by one', async () => {
    for (const [name, message, wanted] of cases)
      assert.equal(await grpcRefusal(client.call('ModelInfer', message)), wanted, name);
  });

  test('and disturbs nobody who asks at the same moment', async () => {
    const answer = await infer(inferMessage('rows', good));
    await Promise.all(
      cases.flatMap(([, message, wanted]) => [
        grpcRefusal(client.call('ModelInfer', message)).then((own) => assert.equal(own, wanted)),
        infer(inferMessage('rows', good)).then((own) => assert.deepEqual(own, answer)),
      ]),
    );
  });
});

describe('documents are those of HTTP', () => {
  const of = async (path: string) => jsonIn(await http.get(path));
  const texts = (shapes: readonly { readonly shape: readonly number[] }[]) =>
    shapes.map((own) => ({ ...own, shape: own.shape.map(String) }));

  test('of the server and its models', async () => {
    assert.deepEqual(await client.call('ServerLive'), { live: true });
    assert.deepEqual(await client.call('ServerReady'), { ready: true });
    assert.deepEqual(await client.call('ServerMetadata'), await of('/v2'));
    for (const name of ['rows', 'of ids']) {
      const { parameters: _, inputs, outputs, ...model } = await of(`/v2/models/${encodeURIComponent(name)}`);
      const expected = { ...model, inputs: texts(inputs), outputs: texts(outputs) };
      assert.deepEqual(await client.call('ModelMetadata', { name }), expected);
      assert.deepEqual(await client.call('ModelMetadata', { name, version: '1' }), expected);
      assert.deepEqual(await client.call('ModelReady', { name }), { ready: true });
    }
    for (const ready of [false, true]) {
      const { models } = await client.call('RepositoryIndex', { ready });
      assert.deepEqual(models, jsonIn(await http.ask('POST', '/v2/repository/index')));
    }
  });

  test('statistics', async () => {
    await infer(inferMessage('rows', inOnePiece(saidBy(new Random(SEED), 3))));
    const numbers = (value: unknown): unknown =>
      typeof value === 'object' && value !== null
        ? Array.isArray(value)
          ? value.map(numbers)
          : Object.fromEntries(Object.entries(value).map(([key, own]) => [key, numbers(own)]))
        : typeof value === 'number'
          ? String(value)
          : value;
    for (const [request, path] of [
      [{}, '/v2/models/stats'],
      [{ name: 'rows' }, '/v2/models/rows/stats'],
      [{ name: 'rows', version: '1' }, '/v2/models/rows/versions/1/stats'],
    ] as const) {
      const answer = await client.call('ModelStatistics', request);
      assert.ok(Number(answer.model_stats[0].inference_stats.success.count) > 0);
      assert.deepEqual(answer, numbers(await of(path)));
    }
  });

  test('what is not there is refused', async () => {
    for (const [method, request, wanted] of [
      ['ModelReady', { name: 'other' }, 'NOT_FOUND MODEL_UNKNOWN'],
      ['ModelReady', { name: 'rows', version: '2' }, 'NOT_FOUND MODEL_UNKNOWN'],
      ['ModelMetadata', { name: '__proto__' }, 'NOT_FOUND MODEL_UNKNOWN'],
      ['ModelStatistics', { name: 'other' }, 'NOT_FOUND MODEL_UNKNOWN'],
      ['RepositoryModelLoad', { model_name: 'rows' }, 'PERMISSION_DENIED ADMIN_FORBIDDEN'],
      ['RepositoryModelUnload', { model_name: 'rows' }, 'PERMISSION_DENIED ADMIN_FORBIDDEN'],
      ['ModelReady', { name: 'x'.repeat(1 << 20) }, 'RESOURCE_EXHAUSTED BODY_TOO_LARGE'],
    ] as const)
      assert.equal(await grpcRefusal(client.call(method, request)), wanted, method);
  });
});

describe('health', () => {
  test('is checked', async () => {
    for (const service of ['', 'inference.GRPCInferenceService', 'rows', 'of ids'])
      assert.deepEqual(await client.call('Check', { service }), { status: 'SERVING' });
    assert.equal(await grpcRefusal(client.call('Check', { service: 'other' })), 'NOT_FOUND MODEL_UNKNOWN');
  });

  test('is watched until the server stops', async () => {
    await using stopping = await serve({ grpcPort: 0 });
    using watching = new GrpcClient(stopping.server.grpcPort as number);
    const heard = ['', 'other'].map((service) => {
      const stream = watching.watch(service);
      const statuses: string[] = [];
      stream.on('data', ({ status }) => statuses.push(status));
      const ended = once(stream, 'error').then(([{ code }]) => code);
      return { statuses, first: once(stream, 'data'), ended };
    });
    await Promise.all(heard.map(({ first }) => first));
    await stopping.server.close();
    assert.deepEqual(await Promise.all(heard.map(({ ended }) => ended)), [14, 14]);
    assert.deepEqual(
      heard.map(({ statuses }) => statuses),
      [['SERVING', 'NOT_SERVING'], ['SERVICE_UNKNOWN']],
    );
  });
});

test('calls are counted', async () => {
  const count = async (outcome: string) => {
    const metrics = (await http.get('/metrics')).body.toString();
    const line = `hotrow_requests_total{model="rows",protocol="grpc",outcome="${outcome}"} `;
    return Number(metrics.slice(metrics.indexOf(line) + line.length).split('\n')[0]);
  };
  const good = inOnePiece(saidBy(new Random(SEED), 3));
  const [ok, bad] = [await count('ok'), await count('bad_request')];
  await infer(inferMessage('rows', good));
  await grpcRefusal(client.call('ModelInfer', inferMessage('rows', { ...good, dense: f32([2, 2]) })));
  assert.deepEqual([await count('ok'), await count('bad_request')], [ok + 1, bad + 1]);
  const metrics = (await http.get('/metrics')).body.toString();
  assert.match(metrics, /^hotrow_connections\{protocol="grpc"\} [1-9]/m);
  assert.match(metrics, /^hotrow_received_bytes_total\{protocol="grpc"\} [1-9]/m);
  assert.match(metrics, /^hotrow_sent_bytes_total\{protocol="grpc"\} [1-9]/m);
});

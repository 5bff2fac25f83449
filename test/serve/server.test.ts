/** A server as its clients see it: its documents, and every form of a request. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { DlrmModel } from '../../src/model/dlrm.ts';
import { loadModel } from '../../src/model/load-model.ts';
import { Client, jsonIn, outputsIn, type Reply, refusal } from '../support/http-client.ts';
import { protocolBody, type SentBody, safetensorsBody } from '../support/infer-bodies.ts';
import { Random } from '../support/random.ts';
import { asJson, forms, NAMES, type Said } from '../support/request-forms.ts';
import { f32, i32, i64 } from '../support/request-tensors.ts';
import { SEED } from '../support/seed.ts';
import { CITIES, idsModel, rowsModel, type Served, saidBy, serve } from '../support/served.ts';
import {
  idsOutputs,
  idsTensors,
  inOnePiece,
  scores,
  ids as sentIds,
  usersAndCandidates,
} from '../support/serving-cases.ts';

let served: Served;
let client: Client;
let rows: DlrmModel;
let ids: DlrmModel;
before(async () => {
  served = await serve({ models: { rows: rowsModel, 'of ids': idsModel } });
  client = new Client(served.port);
  rows = await loadModel(rowsModel, { device: 'cpu', threads: 1 });
  ids = await loadModel(idsModel, { device: 'cpu', threads: 1 });
});
after(async () => {
  client[Symbol.dispose]();
  await Promise.all([served[Symbol.asyncDispose](), rows.close(), ids.close()]);
  assert.deepEqual(
    served.events.filter(({ kind }) => kind === 'error'),
    [],
  );
});

const text = (value: unknown): SentBody => ({ body: Buffer.from(JSON.stringify(value)) });

/** Every form of a body that says the request. */
function bodies(said: Said): [string, SentBody][] {
  const found: [string, SentBody][] = [
    ['samples', text({ samples: asJson(said, false) })],
    ['samples by name', text({ samples: asJson(said, true) })],
    [
      'JSON Lines',
      {
        body: Buffer.from(
          asJson(said, false)
            .map((s) => JSON.stringify(s))
            .join('\n'),
        ),
      },
    ],
  ];
  for (const integers of [i32, i64]) {
    for (const [name, tensors, metadata] of forms(said, integers)) {
      const order = metadata?.features;
      const extra = order === undefined ? {} : { parameters: { features: JSON.parse(order) } };
      found.push(
        [`${name}, safetensors`, safetensorsBody(tensors, metadata)],
        [`${name}, bytes`, protocolBody(tensors, { extra })],
        [`${name}, JSON`, protocolBody(tensors, { extra, inJson: () => true })],
        [
          `${name}, bytes and lists`,
          protocolBody(tensors, { extra, inJson: (n) => n.startsWith('l'), nests: true }),
        ],
      );
    }
  }
  return found;
}

test('every form gives what the model gives, alone and among others', async () => {
  const random = new Random(SEED);
  const sent: [string, SentBody, number[]][] = [];
  for (const weighted of [false, true])
    for (const even of [false, true]) {
      const said = saidBy(random, random.integer(1, 6), { weighted, even });
      const wanted = await scores(rows, said);
      for (const [name, body] of bodies(said)) sent.push([name, body, wanted]);
    }
  assert.ok(sent.length > 300);
  const check = (name: string, reply: Reply, wanted: number[]) =>
    assert.deepEqual(
      outputsIn(reply),
      {
        model_name: 'rows',
        model_version: '1',
        outputs: { probability: wanted },
      },
      name,
    );
  for (const [name, body, wanted] of sent) check(name, await client.infer('rows', body), wanted);
  const replies = await Promise.all(sent.map(([, body]) => client.infer('rows', body)));
  for (const [i, [name, , wanted]] of sent.entries()) check(`${name}, at once`, replies[i] as Reply, wanted);
});

describe('users', () => {
  const { said, tensors, counts, order, candidates, shared, perUser } = usersAndCandidates();

  test('have their part once', async () => {
    const wanted = await scores(rows, said);
    const metadata = Object.fromEntries(Object.entries(order).map(([k, v]) => [k, JSON.stringify(v)]));
    const sent: SentBody[] = counts.flatMap((own) => [
      protocolBody(tensors(own), { extra: { parameters: order } }),
      protocolBody(tensors(own), { extra: { parameters: order }, inJson: () => true }),
      safetensorsBody(tensors(own), metadata),
    ]);
    const plain = bodies(said).map(([, body]) => body);
    const replies = await Promise.all([...sent, ...plain, ...sent].map((body) => client.infer('rows', body)));
    for (const reply of replies) assert.deepEqual(outputsIn(reply).outputs, { probability: wanted });
  });

  test('and candidates in JSON', async () => {
    const part = (said: Said, b: number, number: number, names: readonly string[]) => {
      const { dense, features } = asJson(said, false)[b] as {
        dense: number[];
        features: Record<string, number[]>;
      };
      return {
        dense: [dense[number]],
        features: Object.fromEntries(names.map((name) => [name, features[name]])),
      };
    };
    const [userNames, ownNames] = [NAMES.slice(0, perUser), NAMES.slice(perUser)];
    const body = text({
      user: part(shared, 0, 0, userNames),
      candidates: candidates.dense.map((_, b) => part(candidates, b, 1, ownNames)),
    });
    const wanted = await scores(rows, {
      dense: candidates.dense.map(([, y]) => [shared.dense[0]?.[0] as number, y as number]),
      bags: candidates.bags.map((own, t) =>
        t < perUser ? own.map(() => shared.bags[t]?.[0] as number[]) : own,
      ),
      weighted: false,
    });
    assert.deepEqual(outputsIn(await client.infer('rows', body)).outputs, { probability: wanted });
  });
});

describe('ids', () => {
  const { big, cities, raw } = sentIds;
  const tensors = idsTensors;
  const wanted = () => idsOutputs(ids);

  test('are hashed, looked up, and numbers become logarithms', async () => {
    const lists = (flat: readonly unknown[]) => [flat.slice(0, 2), [], flat.slice(2)];
    const samples = lists(cities).map((city, b) => ({
      dense: { x: raw[0][b], y: raw[1][b] },
      features: {
        ads: [[1, 5, 0][b]],
        person: (lists(big)[b] as bigint[]).map((id) => (id > 2n ** 53n ? 0 : Number(id))),
        city,
      },
    }));
    assert.equal(samples.length, 3);
    const sent = [
      protocolBody(tensors),
      protocolBody(tensors, { inJson: () => true }),
      protocolBody(tensors, { inJson: (name) => name.endsWith('city') }),
    ];
    const replies = await Promise.all([...sent, ...sent].map((body) => client.infer('of%20ids', body)));
    const outputs = await wanted();
    for (const reply of replies) assert.deepEqual(outputsIn(reply).outputs, outputs);
    const small = await client.infer('of%20ids', text({ samples }));
    assert.deepEqual(outputsIn(small).outputs.probability?.slice(1), outputs.probability.slice(1));
  });

  test('outputs come by name, in the order and form that was asked for', async () => {
    const { probability, logit } = await wanted();
    const ask = async (outputs: unknown, parameters: object = {}) => {
      const reply = await client.infer(
        'of%20ids',
        protocolBody(tensors, { extra: { id: 'ä"1', outputs, parameters } }),
      );
      const { id, outputs: found } = outputsIn(reply);
      assert.equal(id, 'ä"1');
      return { found, type: reply.headers['content-type'] };
    };
    const binary = { parameters: { binary_data: true } };
    const [bytes, json] = ['application/octet-stream', 'application/json'];
    assert.deepEqual(await ask([{ name: 'logit' }]), { found: { logit }, type: json });
    assert.deepEqual(await ask([{ name: 'logit', ...binary }]), { found: { logit }, type: bytes });
    assert.deepEqual(await ask(undefined, { binary_data_output: true }), {
      found: { probability, logit },
      type: bytes,
    });
    const both = await ask([{ name: 'logit' }, { name: 'probability', ...binary }]);
    assert.deepEqual(both, { found: { logit, probability }, type: bytes });
    assert.deepEqual(Object.keys(both.found), ['logit', 'probability']);
  });

  test('versions are named', async () => {
    const { body, jsonLength = '' } = protocolBody(tensors);
    const path = '/v2/models/of%20ids/versions/1/infer?id=7&binary_data_output=true';
    const reply = await client.ask('POST', path, body, { 'inference-header-content-length': jsonLength });
    assert.deepEqual(outputsIn(reply), {
      model_name: 'of ids',
      model_version: '1',
      id: '7',
      outputs: await wanted(),
    });
  });

  test('strings of the vocabulary', () => assert.ok(CITIES.includes('東京')));
});

test('NaN passes: as bytes, and as null in JSON', async () => {
  const said = saidBy(new Random(SEED + 2), 2);
  const tensors = { ...inOnePiece(said), dense: f32([2, 2], [Number.NaN, 1, 2, 3]) };
  for (const binary of [false, true]) {
    const { body, jsonLength } = protocolBody(tensors, {
      extra: { parameters: { binary_data_output: binary } },
    });
    const reply = await client.infer('rows', { body, ...(jsonLength === undefined ? {} : { jsonLength }) });
    const [first, second] = outputsIn(reply).outputs.probability as number[];
    assert.ok(Number.isNaN(first) && (second as number) > 0);
    if (!binary) assert.match(reply.body.toString(), /"data":\[null,0\.\d+\]/);
  }
});

test('no samples give no probabilities', async () => {
  const tensors = { dense: f32([0, 2]), values: i64([0]), lengths: i32([NAMES.length, 0]) };
  for (const sent of [protocolBody(tensors), safetensorsBody(tensors)])
    assert.deepEqual(outputsIn(await client.infer('rows', sent)).outputs, { probability: [] });
});

describe('documents', () => {
  test('say what there is', async () => {
    const of = async (path: string) => {
      const reply = await client.get(path);
      assert.equal(reply.status, 200, path);
      assert.equal(reply.headers['content-type'], 'application/json');
      return jsonIn(reply);
    };
    const server = await of('/v2');
    assert.equal(server.name, 'hotrow');
    assert.ok(server.extensions.includes('binary_tensor_data'));
    assert.deepEqual(await of('/v2/'), server);
    assert.deepEqual(await of('/v2/health/live'), { live: true });
    assert.deepEqual(await of('/v2/health/ready'), { ready: true });
    assert.deepEqual(await of('/v2/models/rows'), {
      name: 'rows',
      versions: ['1'],
      platform: 'hotrow',
      inputs: [
        { name: 'dense', datatype: 'FP32', shape: [-1, 2] },
        { name: 'values', datatype: 'INT64', shape: [-1] },
        { name: 'lengths', datatype: 'INT32', shape: [NAMES.length, -1] },
      ],
      outputs: [{ name: 'probability', datatype: 'FP32', shape: [-1, 1] }],
      parameters: {
        dense_features: 2,
        features: NAMES.map((name, t) => ({ name, rows: 6 + t, kind: 'rows' })),
      },
    });
    const described = await of('/v2/models/of%20ids/versions/1');
    assert.deepEqual(
      described.parameters.features.map(({ kind }: { kind: string }) => kind),
      ['rows', 'hash', 'vocabulary'],
    );
    assert.deepEqual(
      described.outputs.map(({ name }: { name: string }) => name),
      ['probability', 'logit'],
    );
    assert.deepEqual(await of('/v2/models/rows/ready'), { name: 'rows', ready: true });
    assert.deepEqual(await of('/v2/models/rows/versions/1/ready'), { name: 'rows', ready: true });
    assert.ok('model_stats' in (await of('/v2/models/stats')));
    assert.equal((await client.get('/metrics')).status, 200);
  });

  test('the index lists all models', async () => {
    for (const body of [undefined, '', '{}', '{"ready":true}', 'no JSON']) {
      const reply = await client.ask('POST', '/v2/repository/index', body);
      assert.equal(reply.status, 200);
      assert.deepEqual(
        jsonIn(reply).map(({ name, version, state }: Record<string, string>) => [name, version, state]),
        [
          ['rows', '1', 'READY'],
          ['of ids', '1', 'READY'],
        ],
      );
    }
    assert.equal(
      refusal(await client.ask('POST', '/v2/repository/index', ' '.repeat(1 << 20))),
      '413 BODY_TOO_LARGE',
    );
  });

  test('HEAD gives the headers alone', async () => {
    const { headers } = await client.get('/v2');
    const head = await client.ask('HEAD', '/v2');
    assert.deepEqual([head.status, head.body.length], [200, 0]);
    assert.equal(head.headers['content-length'], headers['content-length']);
    assert.equal((await client.ask('HEAD', '/nothing')).status, 404);
  });

  test('what is not there is refused in the same form', async () => {
    const unknown = [
      ['GET', '/index.html', '404 ROUTE_UNKNOWN'],
      ['GET', '/v2/models', '404 ROUTE_UNKNOWN'],
      ['GET', '/v2/models/rows/versions', '404 ROUTE_UNKNOWN'],
      ['GET', '/v2/models/other', '404 MODEL_UNKNOWN'],
      ['GET', '/v2/models/other/ready', '404 MODEL_UNKNOWN'],
      ['GET', '/v2/models/rows/versions/2', '404 MODEL_UNKNOWN'],
      ['GET', '/v2/models/__proto__', '404 MODEL_UNKNOWN'],
      ['GET', '/v2/models/%FF', '400 REQUEST_INVALID'],
      ['POST', '/v2/models/other/infer', '404 MODEL_UNKNOWN'],
      ['POST', '/v2/models/rows/versions/2/infer', '404 MODEL_UNKNOWN'],
      ['GET', '/v2/models/rows/infer', '405 METHOD_NOT_ALLOWED'],
      ['DELETE', '/v2', '405 METHOD_NOT_ALLOWED'],
    ] as const;
    for (const [method, path, wanted] of unknown)
      assert.equal(refusal(await client.ask(method, path)), wanted, path);
    assert.equal((await client.ask('PUT', '/v2/models/rows/infer', '{}')).headers.allow, 'POST');
  });
});

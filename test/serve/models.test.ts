/** Models that come and go while requests come. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Client, jsonIn, outputsIn, RawConnection, refusal, requestText } from '../support/http-client.ts';
import { protocolBody } from '../support/infer-bodies.ts';
import { Random } from '../support/random.ts';
import { lengthsOf, NAMES } from '../support/request-forms.ts';
import { f32, i32 } from '../support/request-tensors.ts';
import { SEED } from '../support/seed.ts';
import { rowsModel, saidBy, serve } from '../support/served.ts';

const { dense, bags } = saidBy(new Random(SEED), 3);
const sent = protocolBody({
  dense: f32([3, 2], dense.flat()),
  values: i32([bags.flat(2).length], bags.flat(2)),
  lengths: i32([NAMES.length, 3], bags.flatMap(lengthsOf)),
});
const ADMIN = { security: { access: { origins: [], isAdministered: true } } };
const act = (client: Client, model: string, verb: string, body = '') =>
  client.ask('POST', `/v2/repository/models/${model}/${verb}`, body);
const indexOf = async (client: Client) => jsonIn(await client.ask('POST', '/v2/repository/index'));

describe('without --admin', () => {
  test('nobody loads, unloads or patches; the index is read', async () => {
    await using served = await serve();
    using client = new Client(served.port);
    for (const verb of ['load', 'unload', 'patches'])
      assert.equal(refusal(await act(client, 'rows', verb)), '403 ADMIN_FORBIDDEN');
    assert.equal((await indexOf(client))[0].state, 'READY');
    outputsIn(await client.infer('rows', sent));
  });
});

test('a model that is unloaded is not available until it is loaded again', async () => {
  await using served = await serve({ ...ADMIN, models: { rows: rowsModel, other: rowsModel } });
  using client = new Client(served.port);
  const wanted = outputsIn(await client.infer('rows', sent));
  assert.equal((await act(client, 'rows', 'unload')).status, 200);
  assert.equal(refusal(await client.infer('rows', sent)), '503 MODEL_UNAVAILABLE');
  for (const path of ['/v2/models/rows', '/v2/models/rows/ready', '/v2/models/rows/stats'])
    assert.equal(refusal(await client.get(path)), '503 MODEL_UNAVAILABLE');
  assert.deepEqual(await indexOf(client), [
    { name: 'rows', version: '', state: 'UNAVAILABLE', reason: 'it was unloaded' },
    { name: 'other', version: '1', state: 'READY', reason: '' },
  ]);
  assert.deepEqual(jsonIn(await client.ask('POST', '/v2/repository/index', '{"ready":true}')).length, 1);
  outputsIn(await client.infer('other', sent));
  // Once more: nothing is there to be unloaded.
  assert.equal((await act(client, 'rows', 'unload')).status, 200);
  assert.equal((await act(client, 'rows', 'load')).status, 200);
  assert.deepEqual(outputsIn(await client.infer('rows', sent)), wanted);
  for (const verb of ['load', 'unload'])
    assert.equal(refusal(await act(client, 'nowhere', verb)), '404 MODEL_UNKNOWN');
  const own = '{"parameters":{"config":"{}"}}';
  assert.equal(refusal(await act(client, 'rows', 'load', own)), '400 REQUEST_INVALID');
});

test('a model is loaded again under a stream of requests, and none is lost', async () => {
  await using served = await serve({ ...ADMIN, ioThreads: 2 });
  using admin = new Client(served.port);
  const wanted = outputsIn(await admin.infer('rows', sent));
  let isDone = false;
  let answered = 0;
  const users = Array.from({ length: 8 }, async () => {
    using client = new Client(served.port, 2);
    while (!isDone) {
      assert.deepEqual(outputsIn(await client.infer('rows', sent)), wanted);
      answered += 1;
    }
  });
  for (let reload = 0; reload < 3; reload++) {
    const before = answered;
    assert.equal((await act(admin, 'rows', 'load')).status, 200);
    while (answered < before + 20) outputsIn(await admin.infer('rows', sent));
  }
  isDone = true;
  await Promise.all(users);
  const text = (await admin.get('/metrics')).body.toString();
  assert.equal(/hotrow_requests_total\{[^}]*outcome="internal"\} (\d+)/.exec(text)?.[1], '0');
  assert.equal(served.events.filter(({ kind }) => kind === 'loaded').length, 4);
});

test('a request that is on its way when its model goes gets what is there when it has come', async () => {
  await using served = await serve(ADMIN);
  using client = new Client(served.port);
  const wanted = outputsIn(await client.infer('rows', sent));
  const bytes = requestText('/v2/models/rows/infer', sent);
  const begin = async () => (await RawConnection.open(served.port)).send(bytes.subarray(0, -1));
  using first = await begin();
  assert.equal((await act(client, 'rows', 'load')).status, 200);
  first.send(bytes.subarray(-1));
  assert.deepEqual(outputsIn(await first.reply()), wanted);
  using second = await begin();
  assert.equal((await act(client, 'rows', 'unload')).status, 200);
  second.send(bytes.subarray(-1));
  assert.equal(refusal(await second.reply()), '503 MODEL_UNAVAILABLE');
});

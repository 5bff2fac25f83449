/** Models that come and go while requests come. */
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { Client, jsonIn, outputsIn, RawConnection, refusal, requestText } from '../support/http-client.ts';
import { protocolBody } from '../support/infer-bodies.ts';
import { Random } from '../support/random.ts';
import { lengthsOf, NAMES } from '../support/request-forms.ts';
import { f32, i32 } from '../support/request-tensors.ts';
import { SEED } from '../support/seed.ts';
import { programs, rowsModel, saidBy, serve, writeRowsModel } from '../support/served.ts';

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

const top = mkdtempSync(join(tmpdir(), 'hotrow-models-'));
after(() => rmSync(top, { recursive: true }));

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

test('a model whose file is cut while it is served is not ready until it is loaded again', async () => {
  const folder = mkdtempSync(join(top, 'repository-'));
  const version = join(folder, 'rows', '1');
  await writeRowsModel(version, 1);
  const file = join(version, readdirSync(version).find((name) => name.endsWith('.safetensors')) ?? '');
  const bytes = readFileSync(file);
  await using served = await serve({ ...ADMIN, repository: folder });
  using client = new Client(served.port);
  const wanted = outputsIn(await client.infer('rows', sent));
  truncateSync(file);
  assert.equal((await client.infer('rows', sent)).status, 500);
  const ready = async () => (await client.get('/v2/models/rows/ready')).status;
  while ((await ready()) !== 503) await new Promise((resolve) => setTimeout(resolve, 10));
  const refused = await client.infer('rows', sent);
  assert.equal(refusal(refused), '503 MODEL_UNAVAILABLE');
  assert.match(jsonIn(refused).error, /FILE_CHANGED: .*: load it again/);
  const [entry] = await indexOf(client);
  assert.deepEqual([entry.name, entry.state], ['rows', 'UNAVAILABLE']);
  writeFileSync(file, bytes);
  assert.equal((await act(client, 'rows', 'load')).status, 200);
  assert.deepEqual(outputsIn(await client.infer('rows', sent)), wanted);
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
  for (let reload = 0; reload < 2; reload++) {
    const before = answered;
    assert.equal((await act(admin, 'rows', 'load')).status, 200);
    while (answered < before + 20) outputsIn(await admin.infer('rows', sent));
  }
  isDone = true;
  await Promise.all(users);
  const text = (await admin.get('/metrics')).body.toString();
  assert.equal(/hotrow_requests_total\{[^}]*outcome="internal"\} (\d+)/.exec(text)?.[1], '0');
  assert.equal(served.events.filter(({ kind }) => kind === 'loaded').length, 3);
});

test('traffic is recorded by the model that is served, also when it was loaded again', async () => {
  const folder = join(top, 'traffic');
  const recording = { folder, every: 1, diskBytes: 1 << 20 };
  await using served = await serve({ ...ADMIN, recording });
  using client = new Client(served.port);
  const files = () => readdirSync(folder).filter((name) => name.endsWith('.safetensors')).length;
  outputsIn(await client.infer('rows', sent));
  assert.equal((await act(client, 'rows', 'load')).status, 200);
  const before = files();
  assert.ok(before > 0, 'the old one has written what it had');
  while (files() === before) outputsIn(await client.infer('rows', sent));
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

const emptyFolder = () => mkdtempSync(join(top, 'repository-'));

describe('a folder of models', () => {
  test('a model that several load at once, for the first time, leaves nothing behind when it goes', async () => {
    const folder = emptyFolder();
    await writeRowsModel(join(folder, 'rows', '1'), 1);
    const running = emptyFolder();
    const program = join(top, 'engine-that-is-counted.mjs');
    writeFileSync(
      program,
      `import { parentPort, threadId } from 'node:worker_threads';
      import { rmSync, writeFileSync } from 'node:fs';
      const own = ${JSON.stringify(running)} + '/' + threadId;
      await import(${JSON.stringify(pathToFileURL(programs.engine).href)});
      parentPort.on('message', ({ kind }) => {
        if (kind === 'start') writeFileSync(own, '');
        if (kind === 'stop') rmSync(own);
      });`,
    );
    await using served = await serve({
      ...ADMIN,
      repository: folder,
      programs: { ...programs, engine: program },
    });
    using client = new Client(served.port, 3);
    await writeRowsModel(join(folder, 'new', '1'), 2);
    const loading = Array.from({ length: 3 }, () => act(client, 'new', 'load'));
    const refreshing = served.server.refresh();
    for (const { status } of await Promise.all(loading)) assert.equal(status, 200);
    await refreshing;
    assert.equal(readdirSync(running).length, 2);
    // Who takes away what is being loaded for the first time waits for it.
    await writeRowsModel(join(folder, 'newer', '1'), 3);
    const newer = act(client, 'newer', 'load');
    while ((await indexOf(client)).length < 3);
    assert.equal((await act(client, 'newer', 'unload')).status, 200);
    assert.equal((await newer).status, 200);
    assert.equal((await act(client, 'new', 'unload')).status, 200);
    assert.equal(readdirSync(running).length, 1);
    // What somebody took away, or does not load, is told in the index.
    writeFileSync(join(folder, 'new', 'settings.json'), '{');
    writeFileSync(join(folder, 'rows', 'settings.json'), '{');
    await served.server.refresh();
    const reasons = async () =>
      (await indexOf(client)).map(({ name, reason }: Record<string, string>) => [name, reason?.slice(0, 12)]);
    assert.deepEqual(await reasons(), [
      ['rows', 'FILE_TRUNCAT'],
      ['new', 'it was unloa'],
      ['newer', 'it was unloa'],
    ]);
    rmSync(join(folder, 'rows', 'settings.json'));
    await served.server.refresh();
    assert.deepEqual((await reasons())[0], ['rows', '']);
  });

  test('is read again: what is new is loaded, what does not load leaves the old one, what has gone goes', async () => {
    const folder = emptyFolder();
    await writeRowsModel(join(folder, 'rows', '1'), 1);
    await using served = await serve({ ...ADMIN, repository: folder });
    using client = new Client(served.port);
    const scores = async () => {
      const { model_version, outputs } = outputsIn(await client.infer('rows', sent));
      return { version: model_version, scores: outputs.probability as number[] };
    };
    const first = await scores();
    assert.equal(first.version, '1');
    const loads = () => served.events.filter(({ kind }) => kind === 'loaded').length;
    await served.server.refresh();
    assert.equal(loads(), 1, 'what has not changed is not loaded again');

    // A folder that is renamed into its place is there whole.
    await writeRowsModel(join(top, 'second'), 2);
    renameSync(join(top, 'second'), join(folder, 'rows', '2'));
    await writeRowsModel(join(folder, 'other', '7'), 3);
    await served.server.refresh();
    const second = await scores();
    assert.equal(second.version, '2');
    assert.notDeepEqual(second.scores, first.scores);
    assert.equal(outputsIn(await client.infer('other', sent)).model_version, '7');
    assert.equal(refusal(await client.get('/v2/models/rows/versions/1')), '404 MODEL_UNKNOWN');

    const third = await writeRowsModel(join(folder, 'rows', '3'), 3);
    writeFileSync(third, '{"kind":"model"');
    await served.server.refresh();
    assert.deepEqual(await scores(), second);
    const [rows] = (await indexOf(client)).filter(({ name }: { name: string }) => name === 'rows');
    assert.deepEqual([rows.version, rows.state], ['2', 'READY']);
    assert.match(rows.reason, /rows\.hotrow\.json/);
    assert.ok(served.events.some((event) => event.kind === 'load-failed' && event.model === 'rows'));
    const refusedLoad = await act(client, 'rows', 'load');
    assert.equal(refusal(refusedLoad), '409 LOAD_FAILED');
    assert.match(refusedLoad.body.toString(), /rows\.hotrow\.json/);
    const text = (await client.get('/metrics')).body.toString();
    const metrics = text.replace(/^(?!hotrow_model_).*\n/gm, '');
    assert.match(metrics, /hotrow_model_loads_total\{model="rows",outcome="failed"\} 2\n/);
    assert.match(metrics, /hotrow_model_loads_total\{model="rows",outcome="ok"\} 2\n/);
    assert.match(metrics, /hotrow_model_info\{model="rows",version="2"\} 1\n/);

    rmSync(join(folder, 'other'), { recursive: true });
    writeFileSync(join(folder, 'rows', 'settings.json'), '{"version":1,"serve":1,"slaMs":0.001}');
    await served.server.refresh();
    assert.equal(refusal(await client.infer('other', sent)), '404 MODEL_UNKNOWN');
    // The settings are those of the model that is served now.
    assert.match(
      refusal(await client.infer('rows', sent)),
      /^(503 DEADLINE_UNMEETABLE|504 DEADLINE_EXCEEDED)$/,
    );
    assert.deepEqual(
      (await indexOf(client)).map(({ name, version }: Record<string, string>) => [name, version]),
      [['rows', '1']],
    );
  });

  test('where memory does not hold a model twice, the old one goes on, or is written over', async () => {
    const folder = emptyFolder();
    await writeRowsModel(join(folder, 'rows', '1'), 1);
    const busy = join(folder, 'busy');
    const program = join(top, 'engine-with-room-for-one.mjs');
    const lacks = {
      kind: 'DeviceError',
      name: 'DeviceError',
      code: 'OUT_OF_MEMORY',
      message: 'needs 2, has 1 free',
    };
    writeFileSync(
      program,
      `import { parentPort } from 'node:worker_threads';
      import { existsSync, rmSync, writeFileSync } from 'node:fs';
      parentPort.once('message', async (start) => {
        if (existsSync(${JSON.stringify(busy)})) {
          parentPort.postMessage({ kind: 'failed', error: ${JSON.stringify(lacks)} });
          return;
        }
        writeFileSync(${JSON.stringify(busy)}, '');
        parentPort.on('message', ({ kind }) => kind === 'stop' && rmSync(${JSON.stringify(busy)}));
        await import(${JSON.stringify(pathToFileURL(programs.engine).href)});
        parentPort.emit('message', start);
      });`,
    );
    const options = { ...ADMIN, repository: folder, programs: { ...programs, engine: program } };
    {
      await using served = await serve(options);
      using client = new Client(served.port);
      await writeRowsModel(join(folder, 'rows', '2'), 2);
      const reply = await act(client, 'rows', 'load');
      assert.equal(refusal(reply), '409 LOAD_FAILED');
      assert.match(reply.body.toString(), /OUT_OF_MEMORY: needs 2, has 1 free.*--reload in-place/);
      assert.equal(outputsIn(await client.infer('rows', sent)).model_version, '1');
    }
    assert.ok(!existsSync(busy));
    const file = await writeRowsModel(join(folder, 'rows', '2'), 2);
    await using alone = await serve({ models: { rows: file } });
    using other = new Client(alone.port);
    const wanted = outputsIn(await other.infer('rows', sent)).outputs;
    rmSync(join(folder, 'rows', '2'), { recursive: true });
    await using served = await serve({ ...options, reload: 'in-place' });
    using client = new Client(served.port);
    const before = outputsIn(await client.infer('rows', sent)).outputs;
    assert.notDeepEqual(before, wanted);
    const version = join(folder, 'rows', '2');
    // Other numbers of rows, and a file that is none: the old one goes on.
    await writeRowsModel(version, 2, { firstRows: 7 });
    const misfit = await act(client, 'rows', 'load');
    assert.equal(refusal(misfit), '409 LOAD_FAILED');
    assert.match(
      misfit.body.toString(),
      /WEIGHTS_MISFIT: table ads: shape 7 rows of 4 .*, where 6 rows of 4 .* is served/,
    );
    rmSync(version, { recursive: true });
    const description = await writeRowsModel(version, 2);
    const checkpoint = description.replace(/hotrow\.json$/, 'safetensors');
    const bytes = readFileSync(checkpoint);
    writeFileSync(checkpoint, bytes.subarray(0, -4));
    assert.equal(refusal(await act(client, 'rows', 'load')), '409 LOAD_FAILED');
    assert.deepEqual(outputsIn(await client.infer('rows', sent)), {
      ...outputsIn(await client.infer('rows', sent)),
      model_version: '1',
      outputs: before,
    });
    writeFileSync(checkpoint, bytes);
    // Under a stream of requests: each is answered by one of the two, or told that the model is not there.
    let isDone = false;
    const stream = async () => {
      using own = new Client(served.port);
      const statuses = new Set<number>();
      while (!isDone) {
        const reply = await own.infer('rows', sent);
        statuses.add(reply.status);
        if (reply.status !== 200) assert.equal(refusal(reply), '503 MODEL_UNAVAILABLE');
        else {
          const { model_version: answering, outputs } = outputsIn(reply);
          assert.deepEqual(outputs, answering === '1' ? before : wanted);
        }
      }
      return statuses;
    };
    const streams = [stream(), stream()];
    assert.equal((await act(client, 'rows', 'load')).status, 200);
    const answer = outputsIn(await client.infer('rows', sent));
    isDone = true;
    for (const statuses of await Promise.all(streams)) assert.ok(statuses.has(200));
    assert.deepEqual([answer.model_version, answer.outputs], ['2', wanted]);
    // The same again, over what was written over.
    assert.equal((await act(client, 'rows', 'load')).status, 200);
    assert.deepEqual(outputsIn(await client.infer('rows', sent)).outputs, wanted);
    assert.deepEqual(
      (await indexOf(client)).map(({ version, state }: Record<string, string>) => [version, state]),
      [['2', 'READY']],
    );
  });
});

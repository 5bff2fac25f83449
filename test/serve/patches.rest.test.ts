/** Row patches of a model that is served: by requests and from its folder. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { loadModel } from '../../src/model/load-model.ts';
import { GrpcClient, grpcRefusal } from '../support/grpc-client.ts';
import { Client, jsonIn, outputsIn, type Reply, refusal } from '../support/http-client.ts';
import { protocolBody, safetensorsBody } from '../support/infer-bodies.ts';
import { NAMES } from '../support/request-forms.ts';
import { f32, i32, i64 } from '../support/request-tensors.ts';
import { type Overrides, serve, writeRowsModel } from '../support/served.ts';

const top = mkdtempSync(join(tmpdir(), 'hotrow-patches-'));
after(() => rmSync(top, { recursive: true }));

/** A sample that looks row 1 of each table up. */
const DIM = 4;
const bodyOf = (samples: number) =>
  protocolBody({
    dense: f32([samples, 2], new Array(2 * samples).fill(1)),
    values: i32([samples * NAMES.length], new Array(samples * NAMES.length).fill(1)),
    lengths: i32([NAMES.length, samples], new Array(samples * NAMES.length).fill(1)),
  });
const one = bodyOf(1);

/** Row 1 of two tables becomes `value`. */
function patchBytes(sequence: number, value: number, metadata: object = {}, extra: object = {}): Uint8Array {
  const [first, last] = [NAMES[0], NAMES.length - 1];
  return safetensorsBody(
    {
      [`rows.${first}`]: i64([1], [1]),
      [`values.${first}`]: f32([1, DIM], new Array(DIM).fill(value)),
      [`rows.${last}`]: i32([2], [0, 1]),
      [`values.${last}`]: f32([2, DIM], new Array(2 * DIM).fill(-value)),
      ...extra,
    },
    { model: 'rows', version: '1', sequence: String(sequence), ...metadata },
  ).body;
}

/** A repository of one model; what it answers after each of some patches. */
async function repository() {
  const folder = mkdtempSync(join(top, 'repository-'));
  const file = await writeRowsModel(join(folder, 'rows', '1'), 1);
  return { folder, file, patches: join(folder, 'rows', '1', 'patches') };
}

async function expected(file: string, values: readonly number[]): Promise<number[]> {
  const model = await loadModel(file, { device: 'cpu', threads: 1 });
  const request = {
    batchSize: 1,
    denseFeatures: 2,
    dense: Float32Array.of(1, 1),
    bags: NAMES.map(() => ({ indices: Int32Array.of(1), offsets: Int32Array.of(0) })),
  };
  const scores = [];
  for (const value of [undefined, ...values]) {
    if (value !== undefined) {
      await model.updateRows(0, Int32Array.of(1), new Float32Array(DIM).fill(value));
      await model.updateRows(NAMES.length - 1, Int32Array.of(0, 1), new Float32Array(2 * DIM).fill(-value));
    }
    scores.push((await model.predict(request)).probabilities[0] as number);
  }
  await model.close();
  return scores;
}

const start = (folder: string, more: Overrides = {}) =>
  serve({ repository: folder, security: { access: { origins: [], isAdministered: true } }, ...more });
const send = (client: Client, bytes: Uint8Array): Promise<Reply> =>
  client.ask('POST', '/v2/repository/models/rows/patches', bytes);
const score = async (client: Client) =>
  (outputsIn(await client.infer('rows', one)).outputs.probability as number[])[0];
const patchFigure = async (client: Client) => {
  const text = (await client.get('/metrics')).body.toString();
  return Number(/hotrow_model_patch_number\{model="rows",version="1"\} (\d+)/.exec(text)?.[1]);
};
const until = async (holds: () => Promise<boolean>) => {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 20));
};

test('patches by gRPC are checked, kept and applied as those by HTTP', async () => {
  const { folder, file, patches } = await repository();
  const wanted = await expected(file, [5, 7]);
  await using served = await start(folder, { grpcPort: 0 });
  using client = new Client(served.port);
  using grpc = new GrpcClient(served.server.grpcPort as number);
  const apply = (patch: Uint8Array, model_name = 'rows') => grpc.call('Apply', { model_name, patch });
  const receipt = { model: 'rows', version: '1', sequence: '1', rows: '3' };
  assert.deepEqual(await apply(patchBytes(1, 5)), { ...receipt, applied: true });
  assert.deepEqual(await apply(patchBytes(1, 5)), { ...receipt, applied: false });
  assert.equal(await score(client), wanted[1]);
  for (const [asked, refused] of [
    [() => apply(patchBytes(1, 6)), 'FAILED_PRECONDITION PATCH_CONFLICT'],
    [() => apply(patchBytes(3, 7)), 'FAILED_PRECONDITION PATCH_GAP'],
    [() => apply(patchBytes(2, 7, { version: '2' })), 'INVALID_ARGUMENT PATCH_INVALID'],
    [() => apply(patchBytes(2, 7).subarray(0, -1)), 'INVALID_ARGUMENT SAFETENSORS_INVALID'],
    [() => apply(new Uint8Array()), 'INVALID_ARGUMENT SAFETENSORS_INVALID'],
    [() => apply(patchBytes(2, 7), 'nowhere'), 'NOT_FOUND MODEL_UNKNOWN'],
  ] as const)
    assert.equal(await grpcRefusal(asked()), refused);
  // What came by one protocol is there for the other.
  assert.equal((await send(client, patchBytes(2, 7))).status, 200);
  assert.equal((await apply(patchBytes(2, 7))).applied, false);
  assert.equal(await score(client), wanted[2]);
  assert.deepEqual(readdirSync(patches), ['0001.safetensors', '0002.safetensors']);
});

test('patches are applied in order, kept, and replayed by the next server', async () => {
  const { folder, file, patches } = await repository();
  const wanted = await expected(file, [5, 7]);
  assert.equal(new Set(wanted).size, 3);
  {
    await using served = await start(folder);
    using client = new Client(served.port);
    assert.equal(await score(client), wanted[0]);
    const reply = await send(client, patchBytes(1, 5));
    assert.deepEqual(jsonIn(reply), { model: 'rows', version: '1', sequence: 1, rows: 3, applied: true });
    assert.equal(await score(client), wanted[1]);
    assert.deepEqual(readdirSync(patches), ['0001.safetensors']);
    assert.equal(await patchFigure(client), 1);
    // Again, as a client does that heard no answer; another under its number; one too far.
    assert.equal(jsonIn(await send(client, patchBytes(1, 5))).applied, false);
    assert.equal(refusal(await send(client, patchBytes(1, 6))), '409 PATCH_CONFLICT');
    const gap = await send(client, patchBytes(3, 7));
    assert.equal(refusal(gap), '409 PATCH_GAP');
    assert.match(jsonIn(gap).error, /patch 2 is missing before patch 3/);
    assert.equal((await send(client, patchBytes(2, 7))).status, 200);
    assert.equal(await score(client), wanted[2]);
    // Loaded again, it has them too.
    assert.equal((await client.ask('POST', '/v2/repository/models/rows/load', '')).status, 200);
    assert.equal(await score(client), wanted[2]);
    const text = (await client.get('/metrics')).body.toString();
    assert.match(text, /hotrow_model_patch_timestamp_seconds\{model="rows",version="1"\} \d/);
  }
  await using served = await start(folder, { ioThreads: 2 });
  using client = new Client(served.port);
  assert.equal(await score(client), wanted[2]);
  assert.equal(await patchFigure(client), 2);
});

test('what is wrong changes nothing', async () => {
  const { folder, patches } = await repository();
  await using served = await start(folder);
  using client = new Client(served.port);
  const before = await score(client);
  const rowsOf = (number: number) => ({ [`rows.${NAMES[1]}`]: i64([1], [number]) });
  const valuesOf = (width: number) => ({ [`values.${NAMES[1]}`]: f32([1, width]) });
  const cases: [Uint8Array, string][] = [
    [Buffer.from('no safetensors'), '400 SAFETENSORS_INVALID'],
    [patchBytes(1, 5).subarray(0, -1), '400 SAFETENSORS_INVALID'],
    [patchBytes(1, 5, { model: 'other' }), '400 PATCH_INVALID'],
    [patchBytes(1, 5, { version: '2' }), '400 PATCH_INVALID'],
    [patchBytes(1, 5, {}, { ...rowsOf(999), ...valuesOf(DIM) }), '400 INDEX_OUT_OF_RANGE'],
    [patchBytes(1, 5, {}, { ...rowsOf(0), ...valuesOf(DIM + 1) }), '400 TENSOR_SHAPE'],
  ];
  for (const [bytes, wanted] of cases) {
    assert.equal(refusal(await send(client, bytes)), wanted);
    assert.equal(await score(client), before);
  }
  assert.equal(existsSync(patches), false);
  const elsewhere = await client.ask('POST', '/v2/repository/models/nowhere/patches', patchBytes(1, 5));
  assert.equal(refusal(elsewhere), '404 MODEL_UNKNOWN');
  // The folder is none: nothing is applied that a restart would lose.
  writeFileSync(patches, 'in the way');
  assert.match(refusal(await send(client, patchBytes(1, 5))), /FILE_UNREADABLE/);
  assert.equal(await score(client), before);
});

test('those of the folder are applied as they come, and what is wrong there waits for its like', async () => {
  const { folder, file, patches } = await repository();
  const wanted = await expected(file, [5, 7, 9]);
  mkdirSync(patches);
  writeFileSync(join(patches, '1.safetensors'), patchBytes(1, 5));
  writeFileSync(join(patches, 'README'), 'no patch');
  await using served = await start(folder);
  using client = new Client(served.port);
  assert.equal(await score(client), wanted[1]);
  writeFileSync(join(patches, '0003.safetensors'), patchBytes(3, 9));
  const told = () => served.events.flatMap((event) => (event.kind === 'error' ? [event.error.message] : []));
  await until(async () => told().length > 0);
  assert.match(told()[0] as string, /has patch 3, and patch 2 is missing/);
  assert.equal(await score(client), wanted[1]);
  // What is missing comes by a request.
  assert.equal((await send(client, patchBytes(2, 7))).status, 200);
  await until(async () => (await score(client)) === wanted[3]);
  assert.equal(await patchFigure(client), 3);
  // One that is for something else stands in the way, until it is right.
  const fourth = join(patches, '0004.safetensors');
  writeFileSync(fourth, patchBytes(5, 9));
  await until(async () => told().some((message) => message.includes('0004.safetensors')));
  rmSync(fourth);
  symlinkSync(join(patches, '1.safetensors'), fourth);
  await until(async () => told().some((message) => message.includes('is no file')));
  rmSync(fourth);
  writeFileSync(fourth, patchBytes(4, 5));
  await until(async () => (await score(client)) === wanted[1]);
});

test('a server does not start over patches that do not fit', async () => {
  const { folder, patches } = await repository();
  mkdirSync(patches);
  writeFileSync(join(patches, '0002.safetensors'), patchBytes(2, 5));
  await assert.rejects(start(folder), { code: 'PATCH_GAP', message: /patch 1 is missing/ });
  writeFileSync(join(patches, '0001.safetensors'), patchBytes(1, 5, { version: '9' }));
  await assert.rejects(start(folder), { code: 'PATCH_INVALID', message: /0001\.safetensors: .*version 9/ });
});

test('a batch has all of a patch or nothing, while models are loaded again', async () => {
  const { folder, file } = await repository();
  const count = 12;
  const steps = Array.from({ length: count }, (_, i) => i + 1);
  const wanted = await expected(file, steps);
  await using served = await start(folder);
  using admin = new Client(served.port);
  const samples = 40;
  const many = bodyOf(samples);
  let isDone = false;
  const users = Array.from({ length: 4 }, async () => {
    using client = new Client(served.port, 1);
    let last = 0;
    let seen = 0;
    while (!isDone) {
      const scores = outputsIn(await client.infer('rows', many)).outputs.probability as number[];
      assert.equal(new Set(scores).size, 1);
      const step = wanted.indexOf(scores[0] as number);
      // Both tables are of one patch, and no patch is lost again.
      assert.ok(step >= last, `${step} after ${last}`);
      last = step;
      seen += 1;
    }
    return seen;
  });
  const load = () => admin.ask('POST', '/v2/repository/models/rows/load', '');
  let loading = load();
  for (const step of steps) {
    assert.equal((await send(admin, patchBytes(step, step))).status, 200);
    if (step === 6) {
      assert.equal((await loading).status, 200);
      loading = load();
    }
  }
  assert.equal((await loading).status, 200);
  assert.equal(await score(admin), wanted.at(-1));
  isDone = true;
  for (const seen of await Promise.all(users)) assert.ok(seen > 0);
});

/** What requests hold, decoded from their messages. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { UsageError } from '../../src/errors.ts';
import { bagLengthsOf, picker, type RequestSpec, requestPool } from '../../src/load/request-pool.ts';
import { type ServedModel, serverUrl } from '../../src/load/served-model.ts';
import { writeRequest } from '../../src/model/request/safetensors-request.ts';
import { decodeMessage } from './decode-message.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrow-load-'));
after(() => rmSync(folder, { recursive: true }));

const server = serverUrl('http://me:secret@example.test:8000/at/');
const model: ServedModel = {
  name: 'a/b',
  denseFeatures: 3,
  features: [
    { name: 'ads', rows: 10, kind: 'rows' },
    { name: 'city', rows: 1000, kind: 'hash' },
    { name: 'history', rows: 5, kind: 'rows' },
  ],
};
const SPEC: RequestSpec = { pattern: 'random', indexType: 'int64', bodies: 8, poolBytes: 2 ** 20 };
const pool = (spec: Partial<RequestSpec>, own = model, seed = 1) =>
  requestPool(server, own, { ...SPEC, ...spec }, seed);

test('URLs: path, credentials, port', () => {
  assert.deepEqual(server, {
    target: { host: 'example.test', port: 8000, tls: false },
    url: 'http://example.test:8000/at',
    path: '/at',
    headers: { Host: 'example.test:8000', Authorization: `Basic ${btoa('me:secret')}` },
  });
  const { headers } = serverUrl('http://me:secret@example.test', 'of-mine');
  assert.deepEqual(headers, { Host: 'example.test', Authorization: 'Bearer of-mine' });
  assert.deepEqual(serverUrl('https://[::1]').target, { host: '::1', port: 443, tls: true });
  for (const text of ['localhost:8000', 'ftp://x', '', 'http://'])
    assert.throws(() => serverUrl(text), UsageError);
});

test('drawn requests: dense, values and lengths in one piece, ids within their tables', async () => {
  const { messages, samples } = await pool({ samples: '4', bagLengths: '2/1/uniform:0:3' });
  assert.equal(messages.length, 8);
  assert.deepEqual(samples, Array(8).fill(4));
  const seen = new Set<string>();
  for (const message of messages) {
    const { line, headers, json, tensors } = decodeMessage(message);
    assert.equal(line, 'POST /at/v2/models/a%2Fb/infer HTTP/1.1');
    assert.equal(headers.authorization, `Basic ${btoa('me:secret')}`);
    assert.equal(Number(headers['inference-header-content-length']) % 8, 0);
    assert.deepEqual(json.parameters, { binary_data_output: true });
    assert.deepEqual([...tensors.keys()], ['dense', 'values', 'lengths']);
    assert.deepEqual(tensors.get('dense')?.shape, [4, 3]);
    const lengths = tensors.get('lengths');
    assert.deepEqual([lengths?.datatype, lengths?.shape], ['INT32', [3, 4]]);
    const each = [...(lengths?.data ?? [])].map(Number);
    assert.deepEqual(each.slice(0, 8), [2, 2, 2, 2, 1, 1, 1, 1]);
    const values = tensors.get('values');
    const sum = each.reduce((total, length) => total + length, 0);
    assert.deepEqual([values?.datatype, values?.shape], ['INT64', [sum]]);
    const ids = [...(values?.data ?? [])].map(Number);
    assert.ok(ids.slice(0, 8).every((id) => id >= 0 && id < 10));
    assert.ok(ids.slice(8, 12).every((id) => id >= 0));
    assert.ok(
      ids.slice(8, 12).some((id) => id >= 1000),
      'hashed ids may be any',
    );
    assert.ok(ids.slice(12).every((id) => id >= 0 && id < 5));
    seen.add(ids.join());
  }
  assert.ok(seen.size >= 7, 'requests differ');
});

test('int32, deadline and priority; equal seeds, equal requests', async () => {
  const spec = { indexType: 'int32', timeoutUs: 10_000, priority: 2 } as const;
  const { messages } = await pool(spec);
  const { json, tensors } = decodeMessage(messages[0] as Buffer);
  assert.deepEqual(json.parameters, { binary_data_output: true, timeout: 10_000, priority: 2 });
  assert.equal(tensors.get('values')?.datatype, 'INT32');
  assert.deepEqual((await pool(spec)).messages, messages);
  assert.notDeepEqual((await pool(spec, model, 2)).messages, messages);
});

test("a user's features once, with lists of who stands where", async () => {
  const { messages, samples } = await pool({
    samples: '4',
    bagLengths: '2/1/12',
    userFeatures: 'auto',
    userDense: 2,
  });
  assert.equal(samples[0], 4);
  const { json, tensors } = decodeMessage(messages[0] as Buffer);
  assert.deepEqual(json.parameters, {
    binary_data_output: true,
    features: '["ads","city"]',
    'user.features': '["history"]',
  });
  const shapes = Object.fromEntries([...tensors].map(([name, { shape }]) => [name, shape]));
  assert.deepEqual(shapes, {
    'user.dense': [1, 2],
    dense: [4, 1],
    'user.values': [12],
    'user.lengths': [1, 1],
    values: [12],
    lengths: [2, 4],
  });
  assert.deepEqual([...(tensors.get('user.lengths')?.data ?? [])], [12]);
});

test("all dense features are the user's by default; without own lookups, users say how many candidates", async () => {
  const { messages } = await pool({ samples: '4', userFeatures: 'ads,1,history' });
  const { tensors, json } = decodeMessage(messages[0] as Buffer);
  assert.deepEqual([...tensors.keys()], ['user.dense', 'user.values', 'user.lengths', 'users']);
  // A list of features goes with values alone.
  assert.deepEqual(json.parameters, {
    binary_data_output: true,
    'user.features': '["ads","city","history"]',
  });
  assert.deepEqual([...(tensors.get('users')?.data ?? [])], [4]);
});

test('what cannot be drawn, or does not fit, is refused', async () => {
  const refused: [Partial<RequestSpec>, ServedModel, RegExp][] = [
    [{}, { ...model, features: [{ name: 'v', rows: 3, kind: 'vocabulary' }] }, /entries of a vocabulary/],
    [{ indexType: 'int32' }, { ...model, features: [{ name: 'v', rows: 2 ** 33, kind: 'rows' }] }, /int32/],
    [{ userFeatures: 'age' }, model, /no feature age/],
    [{ userFeatures: '3' }, model, /no feature 3/],
    [{ userFeatures: 'auto' }, model, /none is taken/],
    [{ userFeatures: '0', userDense: 4 }, model, /takes 3 dense/],
    [{ bagLengths: '1/2' }, model, /2 tables, and there are 3/],
    [{ trace: ['x'] }, model, /feature city takes ids of a hash/],
  ];
  for (const [spec, own, message] of refused)
    await assert.rejects(
      pool(spec, own),
      (error: Error) => error instanceof UsageError && message.test(error.message),
    );
});

test('the pool stays within its bytes, and MLPerf’s sizes keep their shares', async () => {
  const { messages } = await pool({ samples: '100', bodies: 1000, poolBytes: 100_000 });
  const bytes = messages.reduce((sum, { length }) => sum + length, 0);
  assert.ok(bytes <= 100_000 && bytes > 50_000, `${bytes}`);
  const { samples } = await pool({ samples: 'mlperf', bodies: 50, poolBytes: 2 ** 24 });
  assert.equal(samples.length, 40);
  const few = await pool({ samples: 'mlperf', bodies: 1000, poolBytes: 500_000 });
  assert.equal(few.samples.length % 20, 0);
  assert.equal(few.samples.reduce((sum, size) => sum + size, 0) / few.samples.length, 270);
  assert.equal(bagLengthsOf({ samples: 'mlperf' }, 26).split('/')[20], '100');
  assert.equal(bagLengthsOf({ samples: 'mlperf' }, 3), '1');
  assert.equal(bagLengthsOf({ samples: 'mlperf', bagLengths: '7' }, 26), '7');
});

test('recorded requests: as they are, in their order', async () => {
  const rows: ServedModel = {
    ...model,
    denseFeatures: 1,
    features: model.features.map((own) => ({ ...own, kind: 'rows' })),
  };
  const bags = [
    { indices: Int32Array.of(1, 2, 9), offsets: Int32Array.of(0, 2) },
    { indices: Int32Array.of(7), offsets: Int32Array.of(0, 0) },
    {
      indices: Int32Array.of(4, 4),
      offsets: Int32Array.of(0),
      perUser: true,
      weights: Float32Array.of(0.5, 2),
    },
  ];
  const dense = Float32Array.of(0.25, 0.5);
  const file = join(folder, 'request.safetensors');
  await writeRequest(file, { batchSize: 2, dense, denseFeatures: 1, bags, users: Int32Array.of(0, 2) });
  const { messages, inOrder, samples } = await pool({ trace: [file], bodies: 3 }, rows);
  assert.equal(inOrder, true);
  assert.deepEqual(samples, [2, 2, 2]);
  const { tensors, json } = decodeMessage(messages[2] as Buffer);
  assert.equal(json.parameters['user.features'], '["history"]');
  const data = Object.fromEntries([...tensors].map(([name, own]) => [name, [...own.data].map(Number)]));
  assert.deepEqual(data, {
    dense: [0.25, 0.5],
    'user.values': [4, 4],
    'user.lengths': [2],
    'user.weights': [0.5, 2],
    values: [1, 2, 9, 7],
    lengths: [2, 1, 0, 1],
  });
  const next = picker({ messages, samples, inOrder, notes: [] }, 1);
  const first = next();
  assert.deepEqual([next(), next(), next()], [(first + 1) % 3, (first + 2) % 3, first]);
  await assert.rejects(pool({ trace: [file], samples: 'uniform:1:2' }, rows), UsageError);
  await assert.rejects(pool({ trace: [file], bagLengths: '3' }, rows), UsageError);
});

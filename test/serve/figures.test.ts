/** What a server counts of its requests, as its documents and its access log say it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { readRequest } from '../../src/model/request/safetensors-request.ts';
import { Client, jsonIn } from '../support/http-client.ts';
import { protocolBody } from '../support/infer-bodies.ts';
import { NAMES } from '../support/request-forms.ts';
import { f32, i32, i64 } from '../support/request-tensors.ts';
import { type Served, serve } from '../support/served.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrow-figures-'));
const recorded = join(folder, 'traffic');
const SAMPLES = 3;
const GOOD = 20;
let served: Served;
let client: Client;

/** Each sample looks row 1 of each table up once. */
const good = protocolBody({
  dense: f32([SAMPLES, 2], new Array(2 * SAMPLES).fill(1)),
  values: i64([SAMPLES * NAMES.length], new Array(SAMPLES * NAMES.length).fill(1)),
  lengths: i32([NAMES.length, SAMPLES], new Array(SAMPLES * NAMES.length).fill(1)),
});
const bad = protocolBody({
  dense: f32([1, 2], [1, 1]),
  values: i64([NAMES.length], new Array(NAMES.length).fill(999)),
  lengths: i32([NAMES.length, 1], new Array(NAMES.length).fill(1)),
});

before(async () => {
  served = await serve({ recording: { folder: recorded, every: 1, diskBytes: 1 << 20 } });
  client = new Client(served.port);
  for (let i = 0; i < GOOD; i++) assert.equal((await client.infer('rows', good)).status, 200);
  assert.equal((await client.infer('rows', bad)).status, 400);
  assert.equal((await client.infer('nowhere', good)).status, 404);
});
after(async () => {
  client[Symbol.dispose]();
  await served[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

describe('metrics', () => {
  let text: string;
  before(async () => {
    text = (await client.get('/metrics')).body.toString();
  });
  const figure = (series: string) =>
    Number(
      text
        .split('\n')
        .find((line) => line.startsWith(`${series} `))
        ?.split(' ')
        .at(-1),
    );

  test('count the requests of clients alone, by what became of them', () => {
    const requests = (model: string, outcome: string) =>
      figure(`hotrow_requests_total{model="${model}",protocol="http",outcome="${outcome}"}`);
    assert.equal(requests('rows', 'ok'), GOOD);
    assert.equal(requests('rows', 'bad_request'), 1);
    assert.equal(requests('', 'bad_request'), 1);
    assert.equal(figure('hotrow_samples_total{model="rows"}'), GOOD * SAMPLES);
    for (const phase of ['queue', 'merge', 'compute', 'copy', 'answer'])
      assert.equal(figure(`hotrow_request_phase_seconds_count{model="rows",phase="${phase}"}`), GOOD, phase);
    assert.equal(figure('hotrow_slots_capacity_bytes'), 32 << 20);
    assert.equal(figure('hotrow_connections{protocol="http"}') >= 1, true);
  });

  test('are as promtool likes them', (t) => {
    const ran = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' });
    if (ran.error !== undefined) return t.skip('there is no promtool: install the package prometheus');
    assert.equal(ran.stdout + ran.stderr, '');
  });
});

test('statistics are the same in Triton’s form', async () => {
  const { model_stats: models } = jsonIn(await client.get('/v2/models/stats'));
  assert.equal(models.length, 1);
  const [{ name, version, inference_count: samples, inference_stats: stats }] = models;
  assert.deepEqual([name, version, samples], ['rows', '1', GOOD * SAMPLES]);
  assert.equal(stats.success.count, GOOD);
  assert.equal(stats.fail.count, 1);
  assert.equal(stats.compute_infer.count, GOOD);
  assert.ok(stats.success.ns > stats.compute_infer.ns);
});

test('what is recorded are requests of clients', async () => {
  await served[Symbol.asyncDispose]();
  const files = readdirSync(recorded);
  assert.ok(files.length > 0 && files.length <= GOOD, `${files.length}`);
  for (const file of files) {
    const { batchSize, bags } = await readRequest(join(recorded, file));
    assert.equal(batchSize % SAMPLES, 0);
    for (const { indices } of bags) assert.ok(Array.from(indices, Number).every((row) => row === 1));
  }
});

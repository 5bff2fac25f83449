import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { DlrmArchitecture } from '../../../src/model/architecture.ts';
import type { DlrmRequest } from '../../../src/model/request/request.ts';
import { TrafficRecorder } from '../../../src/serve/recording/traffic-recorder.ts';
import { readRequestFile } from '../../../src/workload/request-file.ts';
import { trafficSources } from '../../../src/workload/traffic/sources.ts';
import { readTraffic } from '../../../src/workload/traffic/traffic.ts';
import { smallModel } from '../../support/models.ts';
import { Random } from '../../support/random.ts';

let root = '';
let made = 0;
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'hotrow-recorded-'));
});
after(() => rm(root, { recursive: true }));
const newFolder = () => join(root, String(made++));

/** Tables of 30, 31 and 32 rows; 5 dense features. */
const model: DlrmArchitecture = { ...smallModel(new Random(1), 'cat'), naming: 'dlrm' };
const OF = { tables: 3, denseFeatures: 5 };

/** Samples whose first dense feature is `mark`, and whose rows are `mark` modulo 30. */
function request(mark: number, batchSize = 2): DlrmRequest {
  const own = () => ({
    indices: new Int32Array(batchSize).fill(mark % 30),
    offsets: Int32Array.from({ length: batchSize }, (_, b) => b),
  });
  return {
    batchSize,
    denseFeatures: 5,
    dense: Float32Array.from({ length: 5 * batchSize }, () => mark),
    bags: [own(), own(), own()],
  };
}

/** Two users with a bag each in t0, of three and one candidates. */
function withUsers(mark: number): DlrmRequest {
  const { bags, ...rest } = request(mark, 4);
  const perUser = { indices: Int32Array.of(mark % 30, 1), offsets: Int32Array.of(0, 1), perUser: true };
  return { ...rest, bags: [perUser, ...bags.slice(1)], users: Int32Array.of(0, 3, 4) };
}

async function marksIn(folder: string): Promise<number[]> {
  const marks: number[] = [];
  for (const name of await readdir(folder)) {
    const { request: own } = await readRequestFile(join(folder, name), model);
    marks.push(own.dense[0] as number);
  }
  return marks;
}

async function bytesIn(folder: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(folder)) bytes += (await stat(join(folder, name))).size;
  return bytes;
}

test('every n-th request is kept, and reads as traffic again', async () => {
  const folder = newFolder();
  const recorder = await TrafficRecorder.open({ folder, every: 3 }, OF);
  for (let mark = 1; mark <= 10; mark++) {
    const own = request(mark);
    recorder.offer(own);
    // What was kept is a copy.
    own.dense.fill(-1);
    own.bags[0]?.indices.fill(0 as never);
  }
  await recorder.close();
  assert.deepEqual(await marksIn(folder), [3, 6, 9]);
  assert.deepEqual({ ...recorder.recorded, bytes: 0 }, { offered: 10, files: 3, bytes: 0, passedOver: 0 });
  const [source] = await trafficSources([folder]);
  assert.ok(source);
  const shape = { usualBatchSize: 4, bagLengths: '2', seed: 1, batches: 3, batchSize: 2 };
  const { batches, recorded } = await readTraffic(source, model, shape);
  assert.ok(recorded);
  assert.deepEqual(
    batches.map(({ bags }) => [...(bags[0]?.indices ?? [])]),
    [
      [3, 3],
      [6, 6],
      [9, 9],
    ],
  );
  for (let mark = 11; mark <= 14; mark++) recorder.offer(request(mark));
  await recorder.flush();
  assert.equal((await readdir(folder)).length, 3);
});

test('requests with users and without stand in one workload', async () => {
  for (const [first, second] of [
    [withUsers(7), request(8, 4)],
    [request(8, 4), withUsers(7)],
  ] as const) {
    const folder = newFolder();
    const recorder = await TrafficRecorder.open({ folder, every: 1 }, OF);
    recorder.offer(first);
    recorder.offer(second);
    await recorder.close();
    const [source] = await trafficSources([folder]);
    assert.ok(source);
    const shape = { usualBatchSize: 8, bagLengths: '2', seed: 1, batches: 1, batchSize: 8 };
    const { batches } = await readTraffic(source, model, shape);
    const [batch] = batches as [DlrmRequest];
    assert.equal(batch.batchSize, 8);
    assert.equal(batch.bags[0]?.perUser === true, first.users !== undefined);
    const rows = [...(batch.bags[0]?.indices ?? [])].map(Number).sort((a, b) => a - b);
    // The user's bag of three candidates stands once, or thrice.
    assert.deepEqual(rows, first.users === undefined ? [1, 7, 7, 7, 8, 8, 8, 8] : [1, 7, 8, 8, 8, 8]);
  }
});

test('the folder never holds more than it may, and a sample of all that came', async () => {
  const folder = newFolder();
  const diskBytes = 40_000;
  const random = new Random(5);
  const recorder = await TrafficRecorder.open({ folder, every: 1, diskBytes }, OF, () => random.next());
  for (let mark = 1; mark <= 400; mark++) {
    recorder.offer(request(mark, 1 + (mark % 5)));
    if (mark % 10 === 0) {
      await recorder.flush();
      assert.ok((await bytesIn(folder)) <= recorder.recorded.bytes);
      assert.ok(recorder.recorded.bytes <= diskBytes);
    }
  }
  await recorder.close();
  const marks = await marksIn(folder);
  assert.ok(marks.length >= 10, String(marks.length));
  assert.equal(recorder.recorded.files, marks.length);
  const mean = marks.reduce((sum, mark) => sum + mark, 0) / marks.length;
  assert.ok(mean > 120 && mean < 280, `a mean of ${mean}`);
});

test('what waits is bounded, and so is one request', async () => {
  const folder = newFolder();
  const recorder = await TrafficRecorder.open({ folder, every: 1, memoryBytes: 8000 }, OF);
  for (let mark = 1; mark <= 20; mark++) recorder.offer(request(mark));
  const { passedOver } = recorder.recorded;
  assert.ok(passedOver >= 10 && passedOver < 20, String(passedOver));
  await recorder.flush();
  assert.equal((await readdir(folder)).length, 20 - passedOver);
  // Written, it makes room.
  recorder.offer(request(21));
  await recorder.close();
  assert.ok((await marksIn(folder)).includes(21));
  const small = await TrafficRecorder.open({ folder: newFolder(), every: 1, diskBytes: 4000 }, OF);
  small.offer(request(1));
  small.offer(request(1, 0));
  await small.close();
  assert.deepEqual(small.recorded, { offered: 2, files: 0, bytes: 0, passedOver: 1 });
});

test('a later run goes on with the folder of an earlier one', async () => {
  const folder = newFolder();
  const first = await TrafficRecorder.open({ folder, every: 1 }, OF);
  first.offer(withUsers(1));
  await first.close();
  await writeFile(join(folder, 'request-00000002.safetensors.0123456789ab.partial'), 'x');
  const second = await TrafficRecorder.open({ folder, every: 1 }, OF);
  assert.equal(second.recorded.files, 1);
  second.offer(request(2));
  await second.close();
  assert.deepEqual((await readdir(folder)).sort(), [
    'request-00000001.safetensors',
    'request-00000002.safetensors',
  ]);
  // In the form of the first.
  const { request: own } = await readRequestFile(join(folder, 'request-00000002.safetensors'), model);
  assert.equal(own.bags[0]?.perUser, true);
});

test('folders of something else are refused', async () => {
  const refused = (folder: string, of: typeof OF, message: RegExp) =>
    assert.rejects(TrafficRecorder.open({ folder }, of), { code: 'FILE_UNWRITABLE', message });
  const folder = newFolder();
  await mkdir(folder);
  await writeFile(join(folder, 'notes.txt'), 'x');
  await refused(folder, OF, /holds notes.txt, which was not recorded/);
  await refused(join(folder, 'notes.txt'), OF, /notes.txt/);
  const other = newFolder();
  const recorder = await TrafficRecorder.open({ folder: other, every: 1 }, OF);
  recorder.offer(request(1));
  await recorder.close();
  await refused(other, { ...OF, tables: 4 }, /another model: 3 tables/);
  await refused(other, { ...OF, denseFeatures: 4 }, /another model/);
  await assert.rejects(TrafficRecorder.open({ folder: other, every: 0 }, OF), { code: 'OPTION_INVALID' });
});

test('a folder that is gone ends recording, and nothing else', async () => {
  const folder = newFolder();
  const recorder = await TrafficRecorder.open({ folder, every: 1 }, OF);
  await rm(folder, { recursive: true });
  recorder.offer(request(1));
  recorder.offer(request(2));
  await assert.rejects(recorder.flush(), { code: 'FILE_UNWRITABLE' });
  assert.notEqual(recorder.failure, undefined);
  recorder.offer(request(3));
  assert.equal(recorder.recorded.offered, 2);
  await assert.rejects(recorder.close(), { code: 'FILE_UNWRITABLE' });
});

test('only the user may look into the folder', async () => {
  const folder = newFolder();
  await TrafficRecorder.open({ folder }, OF);
  assert.equal((await stat(folder)).mode & 0o077, 0);
});

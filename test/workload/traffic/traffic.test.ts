/** A user's own traffic, from files: batches of requests, traces of tables, and what is refused. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type HotrowError, RequestError } from '../../../src/errors.ts';
import type { DlrmArchitecture } from '../../../src/model/architecture.ts';
import type { DlrmRequest } from '../../../src/model/request/request.ts';
import { writeRequest } from '../../../src/model/request/safetensors-request.ts';
import { trafficSources } from '../../../src/workload/traffic/sources.ts';
import { tableLookups } from '../../../src/workload/traffic/table-lookups.ts';
import { readTraffic, type TrafficShape } from '../../../src/workload/traffic/traffic.ts';
import { smallModel } from '../../support/models.ts';
import { Random } from '../../support/random.ts';
import { numbers } from '../../support/trace-files.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-traffic-'));
});
after(() => rm(folder, { recursive: true }));

/** Tables of 30, 31 and 32 rows, t0 to t2; 5 dense features. */
const model: DlrmArchitecture = { ...smallModel(new Random(1), 'cat'), naming: 'dlrm' };

const shape: TrafficShape = { usualBatchSize: 4, bagLengths: '2', seed: 1, batches: 2 };

/** A request whose sample b looks up row `first` + b of every table, b + 1 times in t1. */
function request(first: number, batchSize: number): DlrmRequest {
  const one = Int32Array.from({ length: batchSize }, (_, b) => first + b);
  const many = Array.from(one).flatMap((row, b) => Array.from({ length: b + 1 }, () => row));
  const starts = Int32Array.from({ length: batchSize }, (_, b) => (b * (b + 1)) / 2);
  const single = { indices: one, offsets: Int32Array.from({ length: batchSize }, (_, b) => b) };
  return {
    batchSize,
    denseFeatures: 5,
    dense: Float32Array.from({ length: batchSize * 5 }, (_, i) => first + Math.floor(i / 5)),
    bags: [single, { indices: BigInt64Array.from(many, BigInt), offsets: starts }, single],
  };
}

/** Bags per user in t0: user u has the bag [u, u]. */
function usersRequest(...candidates: number[]): DlrmRequest {
  const batchSize = candidates.reduce((sum, count) => sum + count, 0);
  let end = 0;
  const users = Int32Array.from([0, ...candidates.map((count) => (end += count))]);
  const { bags, ...rest } = request(0, batchSize);
  const common = {
    indices: Int32Array.from(candidates.flatMap((_, u) => [u, u])),
    offsets: Int32Array.from(candidates, (_, u) => 2 * u),
    perUser: true,
  };
  return { ...rest, users, bags: [common, ...bags.slice(1)] };
}

async function folderOf(
  name: string,
  files: Readonly<Record<string, DlrmRequest | string>>,
): Promise<string> {
  const path = join(folder, name);
  await mkdir(path);
  for (const [file, content] of Object.entries(files)) {
    if (typeof content === 'string') await writeFile(join(path, file), content);
    else await writeRequest(join(path, file), content);
  }
  return path;
}

async function read(paths: string | readonly string[], change: Partial<TrafficShape> = {}, of = model) {
  const sources = await trafficSources(typeof paths === 'string' ? [paths] : paths);
  assert.equal(sources.length, 1);
  const [source] = sources as [(typeof sources)[number]];
  return readTraffic(source, of, { ...shape, ...change });
}

async function refuses(reading: Promise<unknown>, code: string, message: RegExp): Promise<HotrowError> {
  const error = await reading.then(
    () => assert.fail('was read'),
    (cause: HotrowError) => cause,
  );
  assert.equal(error.code, code, String(error));
  assert.match(error.message, message);
  return error;
}

/** The samples of t0, batch by batch. */
const samples = ({ batches }: Awaited<ReturnType<typeof readTraffic>>) =>
  batches.map(({ bags }) => numbers(bags[0]?.indices));

describe('requests', () => {
  test('samples are batched in their order, whatever the files they came in', async () => {
    const path = await folderOf('parts', {
      'part-10.safetensors': request(9, 2),
      'part-9.safetensors': request(6, 3),
      'part-1.safetensors': request(0, 6),
      '.hidden': 'left aside',
    });
    const traffic = await read(path, { batchSize: 4, batches: 3 });
    assert.deepEqual([traffic.name, traffic.recorded], ['parts', true]);
    assert.deepEqual(samples(traffic), [
      [0, 1, 2, 3],
      [4, 5, 6, 7],
      [8, 9, 10, 0],
    ]);
    const [, second, last] = traffic.batches as [DlrmRequest, DlrmRequest, DlrmRequest];
    assert.deepEqual(numbers(second.bags[1]?.indices), [4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 6, 7, 7]);
    assert.deepEqual(numbers(second.bags[1]?.offsets), [0, 5, 11, 12]);
    assert.deepEqual(Array.from(second.dense.filter((_, i) => i % 5 === 0)), [4, 5, 6, 7]);
    assert.deepEqual(numbers(last.bags[1]?.offsets), [0, 3, 4, 6]);
    assert.match(traffic.notes.join(), /11 samples are fewer than 3 batches of 4/);
  });

  test('a batch is as large as the request, unless another size is asked for', async () => {
    const path = await folderOf('own', { 'a.safetensors': request(0, 7) });
    const own = await read(join(path, 'a.safetensors'));
    assert.deepEqual([own.name, own.batches[0]?.batchSize], ['a', 7]);
    const wrapped = await read(join(path, 'a.safetensors'), { batchSize: 9, batches: 1 });
    assert.deepEqual(samples(wrapped), [[0, 1, 2, 3, 4, 5, 6, 0, 1]]);
    assert.match(wrapped.notes.join(), /7 samples are fewer than a batch of 9: .*hotter than they are/);
    assert.deepEqual((await read(join(path, 'a.safetensors'), { batchSize: 3 })).notes, []);
  });

  test('bags of users stay theirs', async () => {
    const path = await folderOf('users', {
      'a.safetensors': usersRequest(2, 0, 3),
      'b.safetensors': usersRequest(4),
    });
    const { batches } = await read(path, { batchSize: 3, batches: 3 });
    const part = ({ users, bags }: (typeof batches)[number]) => [
      Array.from(users ?? []),
      bags[0]?.perUser,
      numbers(bags[0]?.indices),
      numbers(bags[0]?.offsets),
    ];
    assert.deepEqual(batches.map(part), [
      [[0, 2, 2, 3], true, [0, 0, 1, 1, 2, 2], [0, 2, 4]],
      [[0, 2, 3], true, [2, 2, 0, 0], [0, 2]],
      [[0, 3], true, [0, 0], [0]],
    ]);
  });

  test('lookups by table, all of them', async () => {
    const path = await folderOf('hotness', {
      'a.safetensors': request(0, 2),
      'b.safetensors': request(2, 2),
    });
    const [source] = await trafficSources([path]);
    assert.ok(source !== undefined);
    for (const of of [{}, { model }]) {
      const { tables, format } = await tableLookups(source, { ...of, limit: 100 });
      assert.equal(format, 'safetensors');
      assert.deepEqual(
        tables.map(({ indices }) => numbers(indices)),
        [
          [0, 1, 2, 3],
          [0, 1, 1, 2, 3, 3],
          [0, 1, 2, 3],
        ],
      );
    }
  });

  test('of another model are refused, with file, table and position', async () => {
    const path = await folderOf('other', {
      'rows.safetensors': request(28, 3),
      'tables.safetensors': { ...request(0, 2), bags: request(0, 2).bags.slice(1) },
      'dense.safetensors': { ...request(0, 2), dense: new Float32Array(8), denseFeatures: 4 },
    });
    const error = await refuses(
      read(join(path, 'rows.safetensors')),
      'INDEX_OUT_OF_RANGE',
      /rows\.safetensors: table 0 \(t0\): indices\[2\] = 30 is not a row of \[0, 30\)/,
    );
    assert.deepEqual([error.details.table, error.details.position, error.details.value], [0, 2, 30]);
    await refuses(read(join(path, 'tables.safetensors')), 'TABLE_MISSING', /tables\.safetensors/);
    await refuses(read(join(path, 'dense.safetensors')), 'TENSOR_SHAPE', /dense\.safetensors.*\[2, 4\]/);
  });

  test('for a preset’s tables, the hint is to pass the model', async () => {
    const path = await folderOf('preset', { 'a.safetensors': request(28, 3) });
    const synthetic = { ...model, naming: 'synthetic' as const };
    const error = await refuses(read(path, {}, synthetic), 'INDEX_OUT_OF_RANGE', /a\.safetensors/);
    assert.ok(error instanceof RequestError);
    assert.match(error.hint, /pass the MODEL/);
  });
});

describe('bad folders', () => {
  test('empty', async () => {
    await refuses(read(await folderOf('empty', { '.hidden': 'x' })), 'TRACE_EMPTY', /is an empty folder/);
  });

  test('requests of several forms', async () => {
    const path = await folderOf('mixed', {
      'a.safetensors': request(0, 2),
      'b.json': '{"dense": [0, 0, 0, 0, 0], "features": {"t0": [1], "t1": [1], "t2": [1]}}',
    });
    await refuses(
      read(path),
      'TRACE_MIXED',
      /b\.json is JSON, and .*a\.safetensors before it is safetensors/,
    );
  });

  test('bags per user in one, per sample in another', async () => {
    const path = await folderOf('mixed-users', {
      'a.safetensors': usersRequest(2),
      'b.safetensors': request(0, 2),
    });
    await refuses(
      read(path),
      'TRACE_MIXED',
      /b\.safetensors: table 0 has a bag per sample, and one per user before/,
    );
  });

  test('what is no request', async () => {
    const path = await folderOf('others', { 'a.safetensors': request(0, 2), 'b.txt': '1\n2\n' });
    await refuses(read(path), 'FORMAT_UNKNOWN', /b\.txt is a text trace/);
  });

  test('nothing there', async () => {
    await refuses(read(join(folder, 'nowhere')), 'FILE_NOT_FOUND', /nowhere/);
  });

  test('no samples', async () => {
    const path = await folderOf('none', { 'a.safetensors': request(0, 0) });
    await refuses(read(path), 'TRACE_EMPTY', /holds no samples/);
  });
});

describe('traces named for tables', () => {
  test('by name or number; tables without one draw like the longest', async () => {
    const path = await folderOf('named', { 'a.txt': '1\n2\n3\n4\n', 'c.txt': '9\n9\n' });
    const traffic = await read([`t0=${join(path, 'a.txt')}`, `2=${join(path, 'c.txt')}`], {
      batchSize: 2,
      batches: 1,
    });
    assert.deepEqual([traffic.name, traffic.recorded], ['t0+2', false]);
    const [batch] = traffic.batches;
    assert.deepEqual(numbers(batch?.bags[0]?.indices), [1, 2, 3, 4]);
    assert.deepEqual(numbers(batch?.bags[2]?.indices), [9, 9, 9, 9]);
    assert.ok(numbers(batch?.bags[1]?.indices).every((row) => row < 31));
    assert.match(traffic.notes.join('\n'), /no trace is given for table 1 \(t1\): .* drawn from/);
    assert.match(traffic.notes.join('\n'), /c\.txt: 2 lookups are fewer than the 4/);
  });

  test('by the name of the table, for all features on it', async () => {
    const path = await folderOf('shared', { 'a.txt': '1\n2\n3\n4\n' });
    const features = model.tables.map(({ name }, t) => ({
      ...({ name, ids: { kind: 'rows' }, unknown: 'error', missing: 'error' } as const),
      ...(t < 2 ? { table: 'items' } : {}),
    }));
    const described = { ...model, inputs: { features, dense: [] } };
    const traffic = await read([`items=${join(path, 'a.txt')}`], { batchSize: 1, batches: 1 }, described);
    assert.deepEqual(
      traffic.batches[0]?.bags.slice(0, 2).map(({ indices }) => numbers(indices)),
      [
        [1, 2],
        [3, 4],
      ],
    );
  });

  test('for tables that are not there, twice, or of other rows are refused', async () => {
    const path = await folderOf('unknown', { 'a.txt': '1\n29\n30\n' });
    const file = join(path, 'a.txt');
    await refuses(read(`ads=${file}`), 'FEATURE_UNKNOWN', /ads=.*a\.txt: the model has no feature "ads"/);
    await refuses(read(`7=${file}`), 'TABLE_UNEXPECTED', /table 7 of a model of 3 tables/);
    await refuses(read([`t1=${file}`, `1=${file}`]), 'TABLE_UNEXPECTED', /table 1 has a trace already/);
    const error = await refuses(
      read(`t0=${file}`),
      'INDEX_OUT_OF_RANGE',
      /a\.txt: table 0 \(t0\): indices\[2\] = 30 is not a row of \[0, 30\)/,
    );
    assert.equal(error.details.position, 2);
    await refuses(read(`t0=${join(path, 'b.txt')}`), 'FILE_NOT_FOUND', /b\.txt/);
  });
});

test('files are told apart by their contents; each is a workload, named apart', async () => {
  const [a, b] = [
    await folderOf('one', { 'x.txt': '1\n', 'y.txt': '2\n' }),
    await folderOf('two', { 'x.txt': '1\n' }),
  ];
  const sources = await trafficSources([
    join(a, 'x.txt'),
    `t0=${join(a, 'x.txt')}`,
    join(b, 'x.txt'),
    `t1=${join(a, 'y.txt')}`,
    join(a, 'y.txt'),
  ]);
  assert.deepEqual(
    sources.map(({ kind, name }) => [kind, name]),
    [
      ['trace', join(a, 'x.txt')],
      ['named', 't0+t1'],
      ['trace', join(b, 'x.txt')],
      ['trace', 'y'],
    ],
  );
});

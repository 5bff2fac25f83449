/** What `hotrow predict` takes as a request, whatever the file is called. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import type { DlrmArchitecture } from '../../src/model/architecture.ts';
import type { FeatureInput, Preprocessing } from '../../src/model/inputs.ts';
import { writeRequest } from '../../src/model/request/safetensors-request.ts';
import { readRequestFile } from '../../src/workload/request-file.ts';
import { CRITEO_ROW, FILES } from '../support/file-kinds.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-request-file-'));
});
after(() => rm(folder, { recursive: true }));

async function put(bytes: Uint8Array | string, name: string): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, bytes);
  return path;
}

const model = (naming: DlrmArchitecture['naming']) => ({
  naming,
  denseFeatures: 13,
  tables: Array.from({ length: 26 }, (_, t) => ({
    name: `emb_l.${t}`,
    rows: 10 + t,
    dim: 4,
    rowFormat: 'float32' as const,
    mode: 'sum' as const,
  })) as unknown as DlrmArchitecture['tables'],
});
const ROWS = `${CRITEO_ROW.join('\t')}\n`;
const CATEGORY = 0x05db9164;

describe('Criteo rows', () => {
  for (const name of ['day_0', 'day_0.gz', 'train.txt', 'rows.safetensors', 'x.json']) {
    test(`as ${name}`, async () => {
      const content = name.endsWith('.gz') ? gzipSync(ROWS) : ROWS;
      const { request } = await readRequestFile(await put(content, name), model('dlrm'), { hash: true });
      assert.equal(request.batchSize, 1);
      assert.equal(Number(request.bags[3]?.indices[0]), CATEGORY % 13);
    });
  }

  for (const [naming, preprocessing, value] of [
    ['dlrm', 'log(1 + max(x, 0))', Math.log(3)],
    ['synthetic', 'log(1 + max(x, 0))', Math.log(3)],
    ['torchrec', 'log(x + 3)', Math.log(5)],
  ] as const) {
    test(`numbers of a ${naming} model`, async () => {
      const path = await put(ROWS, 'rows');
      const { request, notes } = await readRequestFile(path, model(naming), { hash: true });
      assert.equal(request.dense[0], Math.fround(value));
      assert.equal(notes.length, 1);
      assert.ok(notes[0]?.includes(`become ${preprocessing}, as`), notes[0]);
    });
  }

  test('a chosen preprocessing goes before', async () => {
    const path = await put(ROWS, 'rows');
    const { request, notes } = await readRequestFile(path, model('torchrec'), {
      hash: true,
      preprocessing: 'none',
    });
    assert.equal(request.dense[0], 2);
    assert.match(notes[0] as string, /become none, as asked for$/);
  });

  test("a description's preprocessing goes before the code base's", async () => {
    const path = await put(ROWS, 'rows');
    const described = (...rules: readonly Preprocessing[]) => ({
      ...model('torchrec'),
      inputs: { features: [], dense: rules.map((preprocessing, i) => ({ name: `I${i}`, preprocessing })) },
    });
    const { request, notes } = await readRequestFile(
      path,
      described('log(1 + max(x, 0))', 'log(1 + max(x, 0))'),
      {
        hash: true,
      },
    );
    assert.equal(request.dense[0], Math.fround(Math.log(3)));
    assert.match(notes[0] as string, /as the model's description says$/);
    const silent = await readRequestFile(path, described(), { hash: true });
    assert.equal(silent.request.dense[0], Math.fround(Math.log(5)));
    const plain = await readRequestFile(path, described('none'), { hash: true });
    assert.equal(plain.request.dense[0], 2);
    await assert.rejects(readRequestFile(path, described('none', 'log(x + 3)'), { hash: true }), {
      code: 'USAGE',
    });
  });

  test("a description's ids and numbers are those of the columns, empty categories missing", async () => {
    const described = {
      ...model('torchrec'),
      inputs: {
        features: Array.from(
          { length: 26 },
          (_, t): FeatureInput => ({
            name: `f${t}`,
            ids:
              t === 0
                ? { kind: 'vocabulary', values: ['x', CRITEO_ROW[14] as string] }
                : { kind: 'hash', hash: 'xxhash64', seed: 0, modulus: 10 },
            unknown: 'error',
            missing: 'empty',
          }),
        ),
        dense: Array.from({ length: 13 }, (_, i) => ({ name: `n${i}`, preprocessing: 'none' as const })),
      },
    };
    const holed = CRITEO_ROW.with(15, '');
    const path = await put(`${ROWS}${holed.join('\t')}\n`, 'described');
    const { request, notes } = await readRequestFile(path, described);
    assert.match(notes[0] ?? '', /as the model's description says/);
    assert.deepEqual([request.batchSize, Number(request.bags[0]?.indices[0])], [2, 1]);
    assert.equal(request.dense[0], Number(CRITEO_ROW[1]));
    assert.equal(request.bags[1]?.indices.length, 1, 'the empty category is an empty bag');
    const stranger = await put(`${CRITEO_ROW.with(14, 'nobody').join('\t')}\n`, 'unknown');
    await assert.rejects(readRequestFile(stranger, described), { code: 'UNKNOWN_ID', message: /line 1/ });
  });

  test('nothing says which rows categories are', async () =>
    assert.rejects(readRequestFile(await put(ROWS, 'rows'), model('dlrm')), { code: 'USAGE' }));

  test('a table of other columns says what is wrong with it', async () =>
    assert.rejects(readRequestFile(await put('a,b\n1,2\n', 'x.csv'), model('dlrm'), { hash: true }), {
      code: 'CRITEO_INVALID',
      message: /line 1: has 2 fields and is no header/,
    }));
});

test('safetensors under any name', async () => {
  const path = join(folder, 'request.csv');
  await writeRequest(path, { batchSize: 1, denseFeatures: 2, dense: Float32Array.of(1, 2), bags: [] });
  const { request, notes } = await readRequestFile(path, { naming: 'dlrm', denseFeatures: 2, tables: [] });
  assert.deepEqual([...request.dense], [1, 2]);
  assert.deepEqual(notes, []);
});

for (const name of ['request.json', 'request.csv', 'request.gz']) {
  test(`JSON as ${name}`, async () => {
    const json = '{"samples": [{"dense": [1, 2], "features": {"genre": [3]}}]}';
    const tables = [{ ...(model('dlrm').tables[0] as DlrmArchitecture['tables'][number]), name: 'genre' }];
    const path = await put(name.endsWith('.gz') ? gzipSync(json) : json, name);
    const { request } = await readRequestFile(path, { naming: 'dlrm', denseFeatures: 2, tables });
    assert.deepEqual([...request.dense], [1, 2]);
    assert.deepEqual(Array.from(request.bags[0]?.indices as Iterable<number | bigint>, Number), [3]);
  });
}

for (const kind of ['torch', 'npz', 'parquet', 'trace', 'html', 'safetensors'] as const) {
  test(`${kind} is refused by its name`, async () =>
    assert.rejects(readRequestFile(await put(FILES[kind][0] as Buffer, 'rows.csv'), model('dlrm')), {
      code: 'FORMAT_UNKNOWN',
      message: /not a request$/,
    }));
}

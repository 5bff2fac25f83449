/** Models that are given up while they are read, placed or converted leave nothing behind. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { CpuBackend } from '../../src/backend/cpu/cpu-backend.ts';
import { readDcp } from '../../src/formats/dcp/dcp.ts';
import { readShards } from '../../src/formats/sharded-index.ts';
import {
  DlrmModel,
  EmbeddingCollection,
  loadModel,
  openBackend,
  quantizeCheckpoint,
} from '../../src/index.ts';
import { loadCheckpoint } from '../../src/model/checkpoint/checkpoint.ts';
import { headOf } from '../../src/model/head.ts';
import { inferArchitecture } from '../../src/model/infer-architecture.ts';
import { PlacedHead } from '../../src/model/placed-head.ts';
import { heuristicPlan, plainPlan } from '../../src/plan/plan.ts';
import { refuseEmulation } from '../emulation/emulator.ts';
import { abortedAfter, assertAbortedAt, assertAbortedBefore, type Watch } from '../support/abort.ts';
import { randomTable } from '../support/cases.ts';
import { facebookTensors, writeCheckpoint } from '../support/checkpoints.ts';
import { smallModel, smallRequest } from '../support/models.ts';
import { Random } from '../support/random.ts';

const skip = refuseEmulation();
const folder = mkdtempSync(join(tmpdir(), 'hotrow-abort-'));
after(() => rmSync(folder, { recursive: true }));
const file = join(folder, 'model.safetensors');
before(() => writeCheckpoint(file, facebookTensors()));

/** How often the checkpoint is mapped into this process. */
const mappings = () =>
  readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.endsWith(file)).length;
const isMapped = () => assert.equal(mappings(), 1, 'not vacuous: the file is mapped by then');

describe('on a CPU', () => {
  const load = ({ signal, onProgress }: Watch) =>
    loadModel(file, { device: 'cpu', threads: 1, signal, onProgress });

  test('loadModel', async () => {
    await assertAbortedBefore(load);
    await assertAbortedAt(/^placing tables$/, 2, load, isMapped);
    assert.equal(mappings(), 0);
    const model = await abortedAfter(load);
    const request = smallRequest(new Random(1), model.architecture, 2);
    assert.equal((await model.predict(request)).probabilities.length, 2);
    isMapped();
    await model.close();
    assert.equal(mappings(), 0);
  });

  test('DlrmModel.create and EmbeddingCollection.create; the backend stays', async () => {
    const architecture = await inferArchitecture((await loadCheckpoint(file)).tensors);
    using backend = new CpuBackend({ threads: 1 });
    const create = (watch: Watch) => DlrmModel.create(backend, architecture, watch);
    await assertAbortedBefore(create);
    await assertAbortedAt(/^placing tables$/, 3, create, isMapped);
    assert.equal(mappings(), 0);

    // A collection tells nobody what it places.
    const collect = ({ signal }: Watch) =>
      EmbeddingCollection.create(backend, architecture.tables, { signal });
    await assertAbortedBefore(collect);
    assert.equal(mappings(), 0);
    await (await abortedAfter(collect)).close();
    await (await abortedAfter(create)).close();
    assert.equal(mappings(), 0);
  });

  test('an abort while the last table is placed is heard before the head is', async () => {
    const architecture = smallModel(new Random(2), 'dot-lower');
    using backend = new CpuBackend({ threads: 1 });
    const controller = new AbortController();
    const [table] = architecture.tables;
    assert.ok(table);
    const weight = {
      dtype: 'float32',
      shape: [table.rows, table.dim],
      byteLength: 4 * table.rows * table.dim,
      files: [],
      read: async () => controller.abort('why'),
    } as const;
    const tables = [{ ...table, weight, rowFormat: 'float32' as const }];
    const placing = backend.placeTables(tables, plainPlan('cpu'), { signal: controller.signal });
    await assert.rejects(placing, { code: 'ABORTED', message: 'placing tables was aborted' });
  });

  test('a head is not placed any further, from block to block', async () => {
    using backend = new CpuBackend({ threads: 1 });
    const head = headOf(smallModel(new Random(7), 'cat'));
    const placing = PlacedHead.place({ backend, precision: 'float32' }, head, AbortSignal.abort());
    await assert.rejects(placing, { code: 'ABORTED', message: 'placing the head was aborted' });
  });

  test('placeTables of callers takes a signal, and nothing else in its place', async () => {
    const { backend } = openBackend({ device: 'cpu', threads: 1 });
    using _ = backend;
    const tables = [randomTable(new Random(3), { rows: 5, dim: 4 })];
    const place = ({ signal, onProgress }: Watch) =>
      backend.placeTables(tables, plainPlan('cpu'), { signal, onProgress });
    await assertAbortedBefore(async (watch) => place({ ...watch, onProgress: () => {} }));
    await assertAbortedAt(/^placing tables$/, 1, place);
    (await abortedAfter(place))[Symbol.dispose]();
    await assert.rejects(backend.placeTables(tables, plainPlan('cpu'), { signal: {} as AbortSignal }), {
      code: 'OPTION_INVALID',
    });
  });
});

describe('on an emulated GPU', { skip }, async () => {
  if (skip !== undefined) return;
  const { fake, openFakeBackend } = await import('../fake-driver/open-backend.ts');

  test('memory is given back; the backend goes on', async () => {
    const architecture = smallModel(new Random(4), 'dot-lower');
    using backend = openFakeBackend();
    const create = (watch: Watch) => DlrmModel.create(backend, architecture, watch);
    const before = fake.live();
    await assertAbortedBefore(create);
    await assertAbortedAt(/^placing tables$/, 2, create, () =>
      assert.notDeepEqual(fake.live(), before, 'not vacuous: tables are on the device by then'),
    );
    assert.deepEqual(fake.live(), before);
    await using model = await abortedAfter(create);
    const request = smallRequest(new Random(5), architecture, 2);
    assert.equal((await model.predict(request)).probabilities.length, 2);
  });

  test('nobody waits for a compiler that has not finished; what it makes is there for the next', async () => {
    const { emulatingCompiler } = await import('../fake-driver/emulating-compiler.ts');
    const { KernelCache } = await import('../../src/jit/kernel-cache.ts');
    let begin = (): void => {};
    const began = new Promise<void>((resolve) => {
      begin = resolve;
    });
    let goOn = (): void => {};
    const going = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    let compilations = 0;
    const compiler = {
      ...emulatingCompiler,
      identity: emulatingCompiler.identity,
      compile: async (...source: Parameters<typeof emulatingCompiler.compile>) => {
        compilations += 1;
        begin();
        await going;
        return emulatingCompiler.compile(...source);
      },
    };
    const cache = new KernelCache({ folder: join(folder, 'kernels') });
    using backend = openFakeBackend({ compiler, cache });
    const synthetic = { dtype: 'float32', shape: [8, 4], seed: 1 } as const;
    const table = {
      ...randomTable(new Random(6), { rows: 8, dim: 4, rowFormat: 'float32' }),
      weight: synthetic,
    };
    const plan = heuristicPlan({ device: backend.device, tables: [table] });
    const controller = new AbortController();
    const before = fake.live();
    const placing = backend.placeTables([table], plan, { signal: controller.signal });
    placing.catch(() => {});
    await began;
    controller.abort('why');
    await assert.rejects(placing, { code: 'ABORTED' });
    assert.deepEqual(fake.live(), before);
    goOn();
    (await backend.placeTables([table], plan))[Symbol.dispose]();
    assert.equal(compilations, 1);
  });

  after(() => assert.deepEqual(fake.live(), {}, 'everything was given back'));
});

describe('files', () => {
  test('a checkpoint is not read any further, from shard to shard', async () => {
    await assertAbortedBefore(({ signal }) => loadCheckpoint(file, { signal }));
    const index = join(folder, 'model.safetensors.index.json');
    writeFileSync(index, JSON.stringify({ metadata: {}, weight_map: { a: 'missing.safetensors' } }));
    await assert.rejects(readShards(index), { code: 'FILE_NOT_FOUND' });
    await assert.rejects(readShards(index, AbortSignal.abort()), { code: 'ABORTED' });
    const saved = new URL('../fixtures/dcp/two/.metadata', import.meta.url).pathname;
    await assert.rejects(readDcp(saved, AbortSignal.abort()), { code: 'ABORTED' });
  });

  test('quantizeCheckpoint writes all or nothing', async () => {
    const { tensors } = await loadCheckpoint(file);
    const { tables } = await inferArchitecture(tensors);
    const own = mkdtempSync(join(folder, 'out-'));
    const out = join(own, 'out.safetensors');
    const convert = (watch: Watch) => quantizeCheckpoint({ tensors, tables, rows: 'int8', out, ...watch });
    await assertAbortedBefore(convert);
    await assertAbortedAt(/^converting /, 2, convert, () =>
      assert.match(readdirSync(own).join(), /^out\.safetensors\.[0-9a-f]+\.partial$/),
    );
    assert.deepEqual(readdirSync(own), []);
    assert.equal((await abortedAfter(convert)).length, 3);
    assert.deepEqual(readdirSync(own), ['out.safetensors']);
  });

  test('… and no further piece of a large table is read', async () => {
    const controller = new AbortController();
    let reads = 0;
    const [rows, dim] = [1 << 18, 32];
    const tensor = {
      dtype: 'float32',
      shape: [rows, dim],
      byteLength: 4 * rows * dim,
      files: [],
      read: async () => {
        reads += 1;
        if (reads === 2) controller.abort('why');
      },
    } as const;
    const table = {
      ...randomTable(new Random(8), { rows, dim }),
      rowFormat: 'float32',
      weight: tensor,
    } as const;
    const own = mkdtempSync(join(folder, 'out-'));
    const converting = quantizeCheckpoint({
      tensors: new Map([[table.name, tensor]]),
      tables: [table],
      rows: 'int8',
      out: join(own, 'out.safetensors'),
      signal: controller.signal,
    });
    await assert.rejects(converting, { code: 'ABORTED' });
    assert.equal(reads, 2);
    assert.deepEqual(readdirSync(own), []);
  });
});

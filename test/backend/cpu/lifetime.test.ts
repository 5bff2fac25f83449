/** Who may use what, and until when. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Backend, matrix } from '../../../src/backend/backend.ts';
import { CpuBackend } from '../../../src/backend/cpu/cpu-backend.ts';
import { GuardedBackend } from '../../../src/backend/guarded/backend.ts';
import { nativeCounts } from '../../../src/ffi/owned-handles.ts';
import { bestIsa, ISA, type Isa } from '../../../src/ffi/thread-pool.ts';
import { EmbeddingCollection } from '../../../src/model/collection.ts';
import { DlrmModel } from '../../../src/model/dlrm.ts';
import { plainPlan, withTechniques } from '../../../src/plan/plan.ts';
import { bagsOf, mixedProblem, randomTable } from '../../support/cases.ts';
import { assertSameBits } from '../../support/compare.ts';
import { smallModel, smallRequest } from '../../support/models.ts';
import { Random } from '../../support/random.ts';
import { type Pooled, poolOn, poolPlaced } from '../../support/run-operators.ts';

const disposed = { name: 'DeviceError', code: 'DISPOSED' };
const table = randomTable(new Random(1), { rows: 50, dim: 16 });
const batch = { batchSize: 2, bags: [bagsOf([[1, 2], [3]])] };

describe('after the end', () => {
  test('a closed backend refuses everything; closing twice is allowed', async () => {
    const backend = new CpuBackend({ threads: 2 });
    const placed = await backend.placeTables([table], plainPlan('cpu'));
    const buffer = backend.allocate(10);
    backend[Symbol.dispose]();
    backend[Symbol.dispose]();
    assert.throws(() => backend.allocate(1), disposed);
    assert.throws(() => backend.placeLinear(new Float32Array(1), undefined, 1, 1, 'float32'), disposed);
    await assert.rejects(backend.run([]), disposed);
    await assert.rejects(backend.placeTables([table], plainPlan('cpu')), disposed);
    await assert.rejects(backend.measureCeilings(), disposed);
    // What it gave out can still be given back.
    placed[Symbol.dispose]();
    buffer[Symbol.dispose]();
  });

  test('closing a backend waits for programs under way', async () => {
    const random = new Random(2);
    const { tables, batch: large } = mixedProblem(random, 400, 30);
    const plan = withTechniques(plainPlan('cpu'), { threads: { count: 2 } });
    using other = new CpuBackend({ threads: 2 });
    const expected = await poolOn(other, tables, large, { plan });
    const backend = new CpuBackend({ threads: 2 });
    using placed = await backend.placeTables(tables, plan);
    const underWay = poolPlaced(backend, placed, large);
    backend[Symbol.dispose]();
    assertSameBits((await underWay).pooled, expected.pooled, 'closed meanwhile');
    await assert.rejects(backend.run([]), disposed);
  });

  test('closing a backend waits for whatever is under way on its pool, and returns at once', async () => {
    const large = { name: 's', weight: { dtype: 'float32', shape: [300_000, 64], seed: 1 } } as const;
    const seeded = { ...large, rows: 300_000, dim: 64, rowFormat: 'float32', mode: 'sum' } as const;
    const before = nativeCounts();
    const uses: Readonly<Record<string, (backend: CpuBackend) => Promise<unknown>>> = {
      'tables of seeds': async (backend) =>
        (await backend.placeTables([seeded], plainPlan('cpu')))[Symbol.dispose](),
      ceilings: (backend) => backend.measureCeilings(),
    };
    for (const [name, use] of Object.entries(uses)) {
      for (const wrap of [
        (backend: CpuBackend): Backend => backend,
        (backend: CpuBackend) => new GuardedBackend(backend),
      ]) {
        const backend = wrap(new CpuBackend({ threads: 2 })) as CpuBackend;
        const underWay = use(backend);
        // Some of it is in native code by now.
        await new Promise((resolve) => setTimeout(resolve, 5));
        backend[Symbol.dispose]();
        await underWay;
        assert.deepEqual(nativeCounts(), before, name);
        await assert.rejects(use(backend), disposed, name);
      }
    }
  });

  test('close() resolves when all is given back, however and how often a backend is closed', async () => {
    const { tables, batch: large } = mixedProblem(new Random(7), 400, 30);
    const empty = nativeCounts();
    for (const open of [
      () => new CpuBackend({ threads: 2 }),
      () => new GuardedBackend(new CpuBackend({ threads: 2 })),
    ]) {
      for (const disposesFirst of [true, false]) {
        const backend: Backend = open();
        const placed = await backend.placeTables(tables, plainPlan('cpu'));
        const underWay = poolPlaced(backend, placed, large);
        if (disposesFirst) backend[Symbol.dispose]();
        const first = backend.close();
        await assert.rejects(backend.run([]), disposed);
        assert.equal(nativeCounts().pools, empty.pools + 1, 'the run is under way');
        await backend.close();
        assert.equal(nativeCounts().pools, empty.pools);
        await Promise.all([first, backend[Symbol.asyncDispose](), underWay]);
        backend[Symbol.dispose]();
        placed[Symbol.dispose]();
        assert.deepEqual(nativeCounts(), empty);
      }
      const idle: Backend = open();
      idle[Symbol.dispose]();
      await idle.close();
      assert.deepEqual(nativeCounts(), empty);
    }
  });

  test('a run that waits for an update of rows keeps the backend', async () => {
    const backend = new CpuBackend({ threads: 2 });
    using placed = await backend.placeTables([table], plainPlan('cpu'));
    const updating = placed.updateRows(0, Int32Array.of(1), new Float32Array(16));
    const underWay = poolPlaced(backend, placed, batch);
    backend[Symbol.dispose]();
    await updating;
    assert.equal((await underWay).pooled.length, 32);
  });

  test('memory that is gone between two runs of a program', async () => {
    using backend = new CpuBackend({ threads: 1 });
    using some = backend.allocate(4);
    const other = backend.allocate(4);
    using executable = backend.prepare([
      { op: 'copy', input: matrix(other, 1, 4), output: matrix(some, 1, 4) },
    ]);
    await executable.run();
    other[Symbol.dispose]();
    await assert.rejects(executable.run(), { code: 'DISPOSED' });
  });

  test('a buffer, a layer and tables refuse work once disposed, and so do views of the tables', async () => {
    using backend = new CpuBackend({ threads: 1 });
    const buffer = backend.allocate(4);
    const target = new Float32Array(4);
    const download = () => backend.run([{ op: 'download', input: matrix(buffer, 1, 4), target }]);
    await download();
    buffer[Symbol.dispose]();
    buffer[Symbol.dispose]();
    await assert.rejects(download(), disposed);

    const layer = backend.placeLinear(new Float32Array(4), undefined, 2, 2, 'float32');
    using work = backend.allocate(8);
    const linear = () =>
      backend.run([
        { op: 'linear', layer, input: matrix(work, 2, 2), output: matrix(work, 2, 2, 4), activation: 'none' },
      ]);
    await linear();
    layer[Symbol.dispose]();
    await assert.rejects(linear(), disposed);

    const placed = await backend.placeTables([table], plainPlan('cpu'));
    const view = placed.withPlan(
      withTechniques(plainPlan('cpu'), { prefetch: { distance: 4, level: 'L1' } }),
    );
    await poolPlaced(backend, view, batch);
    view[Symbol.dispose](); // the memory is not the view's to give back
    await poolPlaced(backend, placed, batch);
    placed[Symbol.dispose]();
    placed[Symbol.dispose]();
    await assert.rejects(poolPlaced(backend, placed, batch), disposed);
    await assert.rejects(poolPlaced(backend, view, batch), disposed);
  });

  test('a closed collection and a closed model refuse work', async () => {
    const backend = new CpuBackend({ threads: 1 });
    const collection = await EmbeddingCollection.create(backend, [table]);
    const underWay = collection.forward(batch);
    await collection.close();
    assert.equal((await underWay).pooled.length, 32);
    await assert.rejects(collection.forward(batch), disposed);

    const architecture = smallModel(new Random(3), 'dot-lower');
    const model = await DlrmModel.create(backend, architecture, { closesBackend: true });
    await model.close();
    await assert.rejects(model.predict(smallRequest(new Random(4), architecture, 2)), disposed);
    assert.throws(() => backend.allocate(1), disposed, 'the model closed its backend');
  });

  test('closing again resolves when the first closing does', async () => {
    using backend = new CpuBackend({ threads: 1 });
    const { tables, batch: large } = mixedProblem(new Random(7), 400, 30);
    const collection = await EmbeddingCollection.create(backend, tables);
    const architecture = smallModel(new Random(3), 'dot-lower');
    const model = await DlrmModel.create(backend, architecture);
    const calls = [
      { closes: collection, call: () => collection.forward(large) },
      { closes: model, call: () => model.predict(smallRequest(new Random(4), architecture, 40)) },
    ];
    for (const { closes, call } of calls) {
      let done = false;
      const underWay = call().then(() => {
        done = true;
      });
      const first = closes.close();
      await closes.close();
      assert.ok(done, 'the call under way came first');
      await closes[Symbol.asyncDispose]();
      await Promise.all([first, underWay]);
    }
  });

  test('backends, tables, models and buffers leave nothing behind, nor does what fails', async () => {
    const before = nativeCounts();
    const architecture = smallModel(new Random(3), 'dot-lower');
    const request = smallRequest(new Random(4), architecture, 2);
    const bad = { ...request, dense: request.dense.subarray(1) };
    const missing = {
      dtype: 'float32',
      shape: [50, 16],
      file: '/nonexistent/rows',
      byteOffset: 0,
      byteLength: 3200,
    } as const;
    for (let i = 0; i < 200; i++) {
      using backend = new CpuBackend({ threads: 3 });
      using buffer = backend.allocate(1 << 18);
      await backend.run([{ op: 'download', input: matrix(buffer, 1, 1024), target: new Float32Array(1024) }]);
      const placing = backend.placeTables([table, { ...table, weight: missing }], plainPlan('cpu'));
      await assert.rejects(placing, { code: 'FILE_NOT_FOUND' });
      await using model = await DlrmModel.create(backend, architecture);
      await model.predict(request);
      await assert.rejects(model.predict(bad));
      assert.ok(nativeCounts().pools === before.pools + 1);
    }
    assert.deepEqual(nativeCounts(), before);
  });
});

describe('at once', () => {
  test('programs that overlap give the results of each alone', async () => {
    using backend = new CpuBackend({ threads: 2 });
    const plan = withTechniques(plainPlan('cpu'), { threads: { count: 2 } });
    const problems = [1, 30, 300].map((size) => mixedProblem(new Random(size), size));
    const alone: Pooled[] = [];
    for (const { tables, batch: bags } of problems) alone.push(await poolOn(backend, tables, bags, { plan }));
    const rounds = Array.from({ length: 8 }, (_, i) => i % problems.length);
    const together = await Promise.all(
      rounds.map((i) => {
        const { tables, batch: bags } = problems[i] as (typeof problems)[number];
        return poolOn(backend, tables, bags, { plan });
      }),
    );
    rounds.forEach((i, round) => {
      const [one, other] = [together[round], alone[i]].map((result) => result?.pooled ?? new Float32Array());
      assertSameBits(one as Float32Array, other as Float32Array, `round ${round}`);
    });
  });

  test('a refused batch beside good ones does not disturb them', async () => {
    using backend = new CpuBackend({ threads: 2 });
    using placed = await backend.placeTables([table], plainPlan('cpu'));
    const bad = { batchSize: 2, bags: [bagsOf([[1, 50], [3]])] };
    const { pooled } = await poolPlaced(backend, placed, batch);
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, (_, i) => poolPlaced(backend, placed, i % 2 ? bad : batch)),
    );
    results.forEach((result, i) => {
      assert.equal(result.status, i % 2 ? 'rejected' : 'fulfilled');
      if (result.status === 'fulfilled') assertSameBits(result.value.pooled, pooled, `batch ${i}`);
      else assert.equal(result.reason.code, 'INDEX_OUT_OF_RANGE');
    });
  });

  test('a large program does not hold up the event loop', async () => {
    using backend = new CpuBackend({ threads: 1 });
    const { tables, batch: bags } = mixedProblem(new Random(5), 2000, 40, false);
    using placed = await backend.placeTables(tables, plainPlan('cpu'));
    using output = backend.allocate(2000 * tables.reduce((sum, { dim }) => sum + dim, 0));
    using lookups = backend.placeBags(placed, bags);
    const width = output.length / 2000;
    let ticks = 0;
    const timer = setInterval(() => {
      ticks += 1;
    }, 1);
    const program = Array.from({ length: 10 }, () => ({
      op: 'embeddingBags' as const,
      tables: placed,
      bags: lookups,
      output: matrix(output, 2000, width),
      checking: 'error' as const,
    }));
    const { seconds } = await backend.run(program);
    clearInterval(timer);
    const totalMs = seconds.reduce((sum, s) => sum + s, 0) * 1e3;
    assert.ok(totalMs < 10 || ticks > 0, `${ticks} ticks in ${totalMs} ms`);
  });
});

describe('options', () => {
  test('thread counts and instruction sets that cannot be are refused', () => {
    for (const threads of [0, -1, 1.5, Number.NaN, 1025]) {
      assert.throws(() => new CpuBackend({ threads }), { code: 'DEVICE_UNAVAILABLE' }, String(threads));
    }
    const missing = (Object.keys(ISA) as Isa[]).filter((isa) => ISA[isa] > ISA[bestIsa()]);
    for (const isa of missing) assert.throws(() => new CpuBackend({ isa }), { code: 'DEVICE_UNAVAILABLE' });
  });

  test('the device says what it is', () => {
    using backend = new CpuBackend({ threads: 3, isa: 'portable' });
    const { kind, id, threads, architecture, memoryBytes } = backend.device;
    assert.deepEqual(
      { kind, id, threads, architecture },
      {
        kind: 'cpu',
        id: 'cpu',
        threads: 3,
        architecture: 'portable',
      },
    );
    assert.ok(memoryBytes > 0);
  });

  test('the reported time of each operation is there, the check counted in', async () => {
    using backend = new CpuBackend({ threads: 1 });
    using placed = await backend.placeTables([table], plainPlan('cpu'));
    using bags = backend.placeBags(placed, batch);
    using output = backend.allocate(32);
    for (const checking of ['error', 'warn', 'ignore', 'none'] as const) {
      const { seconds } = await backend.run([
        { op: 'upload', source: new Float32Array(32), output: matrix(output, 2, 16) },
        { op: 'embeddingBags', tables: placed, bags, output: matrix(output, 2, 16), checking },
        { op: 'download', input: matrix(output, 2, 16), target: new Float32Array(32) },
      ]);
      assert.equal(seconds.length, 3);
      assert.ok(seconds.every((s) => s >= 0 && s < 1));
    }
  });

  test('memory that cannot be had is OUT_OF_MEMORY', () => {
    using backend = new CpuBackend({ threads: 1 });
    assert.throws(() => backend.allocate(2 ** 50), { name: 'DeviceError', code: 'OUT_OF_MEMORY' });
  });
});

/** Memory for rows on their way: all of it goes, and none is filled again before the device has read it. */
import assert from 'node:assert/strict';
import { afterEach, describe, type TestContext, test } from 'node:test';
import { CudaEvent } from '../../../../src/cuda/event.ts';
import { CudaStream } from '../../../../src/cuda/stream.ts';
import { type EmbeddingTable, ROW_FORMATS } from '../../../../src/embedding/bag.ts';
import { plainPlan } from '../../../../src/plan/plan.ts';
import type { AssembledTensor } from '../../../../src/tensor.ts';
import { refuseEmulation } from '../../../emulation/emulator.ts';
import { fake, openFakeBackend } from '../../../fake-driver/open-backend.ts';
import { randomTable } from '../../../support/cases.ts';
import { Random } from '../../../support/random.ts';

const skip = refuseEmulation();
const OUT_OF_MEMORY = 2;
const MIB = 2 ** 20;
const plan = plainPlan('cuda');
const taken = () => ({ ...fake.live(), bytes: fake.liveBytes() });

describe('rows on their way to a GPU', { skip: skip ?? false }, () => {
  if (skip !== undefined) return;
  afterEach(() => {
    fake.setWorkMs(0);
    assert.equal(fake.emulatorError(), '');
    assert.deepEqual(fake.live(), {}, 'everything was given back');
  });

  const tables = (): EmbeddingTable[] =>
    ROW_FORMATS.map((rowFormat) =>
      randomTable(new Random(1), {
        rows: 30,
        dim: 8,
        rowFormat,
        name: rowFormat,
        mode: 'sum',
        rowWeights: true,
      }),
    );

  test('tables go when they are disposed, and what brought them went before', async () => {
    using backend = openFakeBackend();
    // Kernels that are compiled once stay.
    (await backend.placeTables(tables(), plan))[Symbol.dispose]();
    const before = taken();
    const placed = await backend.placeTables(tables(), plan);
    assert.deepEqual({ ...taken(), memory: 0, bytes: 0 }, { ...before, memory: 0, bytes: 0 });
    assert.equal(taken().bytes - before.bytes, placed.allocatedBytes);
    placed[Symbol.dispose]();
    placed[Symbol.dispose]();
    assert.deepEqual(taken(), before);
  });

  test('row weights of several features lie there once', async () => {
    using backend = openFakeBackend();
    const [table] = tables() as [EmbeddingTable];
    const before = taken().memory ?? 0;
    using _placed = await backend.placeTables([table, { ...table }, { ...table }], plan);
    assert.equal((taken().memory ?? 0) - before, 2);
  });

  test('where placing fails at any call, everything goes', async () => {
    using backend = openFakeBackend();
    (await backend.placeTables(tables(), plan))[Symbol.dispose]();
    const before = taken();
    for (const [call, times] of [
      ['cuMemAlloc', ROW_FORMATS.length + 1],
      ['cuMemHostAlloc', 2],
      ['cuEventCreate', 2],
    ] as const)
      for (let nth = 1; nth <= times; nth++) {
        fake.fail(call, nth, OUT_OF_MEMORY);
        await assert.rejects(backend.placeTables(tables(), plan), { name: 'CudaError' }, `${call} ${nth}`);
        assert.deepEqual(taken(), before, `${call} ${nth}`);
      }
    const unread: AssembledTensor = {
      ...{ dtype: 'float32', shape: [30, 8], files: [], byteLength: 960 },
      read: async () => {
        throw new Error('cannot be read');
      },
    };
    const bad = { ...(tables()[0] as EmbeddingTable), weight: unread };
    await assert.rejects(backend.placeTables([...tables(), bad], plan), /cannot be read/);
    assert.deepEqual(taken(), before);
  });

  test('what pads a row is 0 when it is read, whatever was in the block', async () => {
    using backend = openFakeBackend();
    const table = randomTable(new Random(3), { rows: 30, dim: 5, rowFormat: 'int4' });
    using placed = await backend.placeTables([table], plan);
    const rows = Int32Array.of(4, 5);
    const before = await placed.readRows(0, rows);
    const width = before.length / 2;
    assert.ok(width > 4 + 3);
    const dirty = new Uint8Array(before.length).fill(0xff);
    await placed.updateRows(0, Int32Array.of(6, 7), dirty);
    assert.deepEqual(await placed.readRows(0, rows), before);
    const read = (await placed.readRows(0, Int32Array.of(6, 7))) as Uint8Array;
    for (const row of [0, 1])
      assert.ok(read.subarray(row * width + 4 + 4, (row + 1) * width).every((byte) => byte === 0));
  });

  test('updates and reads give their blocks back, whether they go well or not', async () => {
    using backend = openFakeBackend();
    const [table] = tables() as [EmbeddingTable];
    using placed = await backend.placeTables([table], plan);
    const rows = Int32Array.of(1, 2, 3);
    const values = new Float32Array(3 * 8).fill(5);
    const good = async () => {
      await placed.updateRows(0, rows, values);
      assert.deepEqual(await placed.readRows(0, rows), values);
    };
    const failing = async () => {
      for (const [call, nth] of [
        ['cuEventCreate', 1],
        ['cuEventCreate', 2],
        ['cuMemcpyHtoDAsync', 2],
      ] as const) {
        fake.fail(call, nth, 1);
        await assert.rejects(placed.updateRows(0, rows, values), { name: 'CudaError' }, `${call} ${nth}`);
      }
      fake.fail('cuMemcpyHtoDAsync', 1, 1);
      await assert.rejects(placed.updateRows(0, rows, values), { name: 'CudaError' });
      fake.fail('cuMemcpyDtoHAsync', 1, 1);
      await assert.rejects(placed.readRows(0, rows), { name: 'CudaError' });
      fake.fail('', 0, 0);
      await assert.rejects(placed.updateRows(0, Int32Array.of(1, 30, 2), values), {
        code: 'INDEX_OUT_OF_RANGE',
      });
    };
    await good();
    await failing();
    await good();
    const before = taken();
    for (let i = 0; i < 4; i++) {
      await failing();
      await good();
    }
    assert.deepEqual(taken(), before);
  });

  test('an update for whose blocks there is no memory leaves no events', async () => {
    const [table] = tables() as [EmbeddingTable];
    /** Events after an update that goes well, where one may have failed before. */
    const eventsAfter = async (call?: string, nth = 0) => {
      using backend = openFakeBackend();
      using placed = await backend.placeTables([table], plan);
      const update = () => placed.updateRows(0, Int32Array.of(1), new Float32Array(8));
      if (call !== undefined) {
        fake.fail(call, nth, OUT_OF_MEMORY);
        await assert.rejects(update(), { code: 'OUT_OF_MEMORY' }, `${call} ${nth}`);
      }
      await update();
      return fake.live().event;
    };
    const usual = await eventsAfter();
    for (const [call, nth] of [
      ['cuMemHostAlloc', 1],
      ['cuMemHostAlloc', 2],
      ['cuMemAlloc', 1],
    ] as const)
      assert.equal(await eventsAfter(call, nth), usual, `${call} ${nth}`);
  });

  /** Checks that memory which copies come from is copied from again only when an event after the copy before was waited for. */
  function watchBlocks(t: TestContext): () => number {
    const pending = new Map<bigint, CudaEvent | undefined>();
    let reused = 0;
    const copy = CudaStream.prototype.copyToDevice;
    t.mock.method(
      CudaStream.prototype,
      'copyToDevice',
      function (this: CudaStream, ...given: Parameters<typeof copy>) {
        const [, source] = given;
        if (pending.has(source)) assert.fail(`${source} is copied from again before the device has read it`);
        pending.set(source, undefined);
        return copy.apply(this, given);
      },
    );
    const record = CudaEvent.prototype.record;
    t.mock.method(
      CudaEvent.prototype,
      'record',
      function (this: CudaEvent, ...given: Parameters<typeof record>) {
        for (const [source, event] of pending) if (event === undefined) pending.set(source, this);
        return record.apply(this, given);
      },
    );
    const wait = CudaEvent.prototype.wait;
    t.mock.method(CudaEvent.prototype, 'wait', function (this: CudaEvent, ...given: Parameters<typeof wait>) {
      for (const [source, event] of pending)
        if (event === this) {
          pending.delete(source);
          reused++;
        }
      return wait.apply(this, given);
    });
    return () => reused;
  }

  test('a block is filled again only when the device has read it: placing', async (t) => {
    // Three pieces through two blocks.
    const rows = (66 * MIB) / 64;
    const table: EmbeddingTable = {
      ...{ name: 't', rows, dim: 16, rowFormat: 'float32', mode: 'sum' },
      weight: { dtype: 'float32', shape: [rows, 16], data: new Float32Array(rows * 16) },
    };
    using backend = openFakeBackend();
    const reused = watchBlocks(t);
    using _placed = await backend.placeTables([table], plan);
    assert.ok(reused() >= 1);
  });

  test('a block is filled again only when the device has read it: updates', async (t) => {
    const rows = 4 * (1 << 16);
    const table: EmbeddingTable = {
      ...{ name: 't', rows, dim: 1, rowFormat: 'float32', mode: 'sum' },
      weight: { dtype: 'float32', shape: [rows, 1], data: new Float32Array(rows) },
    };
    using backend = openFakeBackend();
    using placed = await backend.placeTables([table], plan);
    const reused = watchBlocks(t);
    const all = Int32Array.from({ length: rows }, (_, i) => i);
    await placed.updateRows(0, all, Float32Array.from(all));
    assert.ok(reused() >= 4);
    t.mock.restoreAll();
    const some = Int32Array.of(0, 1, 1 << 16, 3 << 15, 2 << 16, rows - 1);
    assert.deepEqual(await placed.readRows(0, some), Float32Array.from(some));
  });
});

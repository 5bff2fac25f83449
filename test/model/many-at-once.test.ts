/** More calls at once than a device takes on: all are answered or refused by name, and nothing grows with their number. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { DeviceBuffer } from '../../src/backend/backend.ts';
import { CpuBackend } from '../../src/backend/cpu/cpu-backend.ts';
import { type OpenOptions, openBackend } from '../../src/backend/open-backend.ts';
import { EmbeddingCollection } from '../../src/model/collection.ts';
import { DlrmModel } from '../../src/model/dlrm.ts';
import { refuseEmulation } from '../emulation/emulator.ts';
import { fake, openFakeBackend } from '../fake-driver/open-backend.ts';
import { smallModel, smallRequest } from '../support/models.ts';
import { Random } from '../support/random.ts';

const architecture = smallModel(new Random(5), 'dot-lower');
const request = smallRequest(new Random(6), architecture, 1);
/** Of the model's number of tables; its samples do not matter. */
const batch = { batchSize: request.batchSize, bags: request.bags };

function open(limits: NonNullable<OpenOptions['limits']> = {}) {
  return openBackend({ device: 'cpu', threads: 2, limits }).backend;
}

/** A CPU that counts the blocks of matrices that it was asked for. */
class CountingCpu extends CpuBackend {
  blocks = 0;

  override allocate(length: number): DeviceBuffer {
    this.blocks += 1;
    return super.allocate(length);
  }
}

test('6,000 predictions at once are all answered over the matrices of 16', async () => {
  using backend = new CountingCpu({ threads: 2 });
  const model = await DlrmModel.create(backend, architecture);
  const alone = await model.predict(request);
  const results = await Promise.all(Array.from({ length: 6000 }, () => model.predict(request)));
  for (const { probabilities } of results) assert.deepEqual(probabilities, alone.probabilities);
  assert.equal(backend.blocks, 16);
  assert.deepEqual(backend.admission.state, { programs: 0, bytes: 0, waiting: 0 });
  await model.close();
});

test('past the queue predictions are refused, and the others are answered', async () => {
  using backend = open({ programs: 1, waiting: 3 });
  const model = await DlrmModel.create(backend, architecture);
  const results = await Promise.allSettled(Array.from({ length: 10 }, () => model.predict(request)));
  const codes = results.map((result) => (result.status === 'fulfilled' ? 'ok' : result.reason.code));
  assert.deepEqual(codes, [...Array(4).fill('ok'), ...Array(6).fill('OVERLOADED')]);
  await model.predict(request);
  await model.close();
});

test('models and collections of one backend share its limits', async () => {
  using backend = open({ programs: 1, waiting: 0 });
  const model = await DlrmModel.create(backend, architecture);
  const other = await DlrmModel.create(backend, architecture);
  const collection = await EmbeddingCollection.create(backend, architecture.tables);
  const placed = await model.place(request);
  const calls = [
    () => model.predict(request),
    () => other.predict(request),
    () => model.predict(placed),
    async () => (await model.place(request))[Symbol.dispose](),
    () => collection.forward(batch),
    () => backend.run([]),
    () => backend.prepare([]).run(),
  ];
  for (const first of calls)
    for (const second of calls) {
      const [one, two] = await Promise.allSettled([first(), second()]);
      assert.equal(one?.status, 'fulfilled');
      assert.ok(two?.status === 'rejected' && two.reason.code === 'OVERLOADED');
    }
  placed[Symbol.dispose]();
  await Promise.all([model.close(), other.close(), collection.close()]);
});

test('a bad request does not take a place in the queue for long: it fails, and the next goes on', async () => {
  using backend = open({ programs: 1 });
  const model = await DlrmModel.create(backend, architecture);
  const bad = { ...request, bags: request.bags.slice(1) };
  const results = await Promise.allSettled([bad, request, bad, request].map((one) => model.predict(one)));
  assert.deepEqual(
    results.map(({ status }) => status),
    ['rejected', 'fulfilled', 'rejected', 'fulfilled'],
  );
  await assert.rejects(model.predict({ ...request, batchSize: 2.5 }), { code: 'TENSOR_SHAPE' });
  const unreadable = Object.defineProperty({ ...request }, 'batchSize', {
    get() {
      throw new Error('a getter of the caller');
    },
  });
  await assert.rejects(model.predict(unreadable), { code: 'OPTION_INVALID' });
  await model.close();
});

test('calls that wait keep their order: predictions before an update see the rows before it', async () => {
  using backend = open({ programs: 2 });
  const model = await DlrmModel.create(backend, architecture);
  const collection = await EmbeddingCollection.create(backend, architecture.tables);
  const { rows, dim } = architecture.tables[0] as (typeof architecture.tables)[number];
  const every = Int32Array.from({ length: rows }, (_, row) => row);
  const filled = (value: number) => new Float32Array(rows * dim).fill(value);
  const firstOf = async (call: Promise<{ readonly pooled: Float32Array }>) => (await call).pooled[0];
  const bags = architecture.tables.map(() => ({ indices: Int32Array.of(0), offsets: Int32Array.of(0) }));
  const one = { batchSize: 1, bags };
  const seen: Promise<number | undefined>[] = [];
  const updates: Promise<void>[] = [];
  for (let value = 1; value <= 40; value++) {
    updates.push(collection.updateRows(0, every, filled(value)));
    for (let i = 0; i < 3; i++) seen.push(firstOf(collection.forward(one)));
  }
  // Lookups go on while an update's values come over, so that the first may still see what was there before.
  let last = 0;
  for (const [i, value] of (await Promise.all(seen)).entries()) {
    assert.ok((value as number) >= last && (value as number) <= 1 + Math.floor(i / 3), `${i}: ${value}`);
    last = value as number;
  }
  await Promise.all(updates);
  assert.equal(await firstOf(collection.forward(one)), 40);
  await Promise.all([model.close(), collection.close()]);
});

test('updates and reads wait like predictions, and are refused like them', async () => {
  using backend = open({ programs: 1, waiting: 0 });
  const model = await DlrmModel.create(backend, architecture);
  const collection = await EmbeddingCollection.create(backend, architecture.tables);
  const row = Int32Array.of(0);
  const values = new Float32Array(architecture.tables[0]?.dim ?? 0);
  const calls = [
    () => model.updateRows(0, row, values),
    () => model.readRows(0, row),
    () => collection.updateRows(0, row, values),
    () => collection.readRows(0, row),
  ];
  for (const call of calls) {
    const [one, two] = await Promise.allSettled([model.predict(request), call()]);
    assert.equal(one?.status, 'fulfilled');
    assert.ok(two?.status === 'rejected' && two.reason.code === 'OVERLOADED');
    await call();
  }
  await Promise.all([model.close(), collection.close()]);
});

describe('AbortSignal', () => {
  test('predict, score and forward take one', async () => {
    using backend = open({ programs: 1 });
    const model = await DlrmModel.create(backend, architecture);
    const collection = await EmbeddingCollection.create(backend, architecture.tables);
    const placed = await model.place(request);
    const [first, ...others] = request.bags.map((bags, table) => [table, bags] as const);
    const user = { bags: new Map([first as NonNullable<typeof first>]) };
    const candidates = {
      batchSize: 1,
      dense: request.dense,
      denseFeatures: architecture.denseFeatures,
      bags: new Map(others),
    };
    const calls = [
      (signal: AbortSignal) => model.predict(request, { signal }),
      (signal: AbortSignal) => model.predict(placed, { signal }),
      (signal: AbortSignal) => model.score(user, candidates, { signal }),
      (signal: AbortSignal) => collection.forward(batch, { signal }),
    ];
    for (const call of calls) {
      await assert.rejects(call(AbortSignal.abort()), { code: 'ABORTED' });
      const controller = new AbortController();
      const running = model.predict(request);
      const waits = call(controller.signal);
      controller.abort('why');
      await assert.rejects(waits, { code: 'ABORTED', cause: 'why' });
      await running;
      await call(new AbortController().signal);
      const late = new AbortController();
      const underWay = call(late.signal);
      assert.deepEqual(backend.admission.state, { ...backend.admission.state, programs: 1, waiting: 0 });
      late.abort('late');
      assert.equal(backend.admission.state.programs, 1, 'it ends first');
      await assert.rejects(underWay, { code: 'ABORTED', cause: 'late' });
      assert.equal(backend.admission.state.programs, 0);
      await assert.rejects(call({ aborted: true } as AbortSignal), { code: 'OPTION_INVALID' });
    }
    placed[Symbol.dispose]();
    await Promise.all([model.close(), collection.close()]);
  });

  test('a model that closes waits for those that wait', async () => {
    using backend = open({ programs: 1 });
    const model = await DlrmModel.create(backend, architecture);
    const results = Array.from({ length: 5 }, () => model.predict(request));
    const closed = model.close();
    assert.equal((await Promise.all(results)).length, 5);
    await closed;
  });
});

test('on a GPU predictions at once take device memory for so many as are under way', {
  skip: refuseEmulation(),
}, async () => {
  const blocks = async (calls: number): Promise<number> => {
    using backend = openFakeBackend();
    const model = await DlrmModel.create(backend, architecture);
    await Promise.all(Array.from({ length: calls }, () => model.predict(request)));
    const { memory } = fake.live();
    await model.close();
    return memory as number;
  };
  const few = await blocks(16);
  assert.ok(few > 16);
  assert.equal(await blocks(200), few);
  assert.deepEqual(fake.live(), {});
});

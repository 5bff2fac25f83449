/** What models and collections take of a backend goes with them, with each prediction, and where making one fails. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EmbeddingCollection } from '../../src/model/collection.ts';
import { DlrmModel } from '../../src/model/dlrm.ts';
import { devicePlacement } from '../../src/plan/placement.ts';
import { countParts } from '../support/counted-parts.ts';
import { smallModel, smallRequest } from '../support/models.ts';
import { Random } from '../support/random.ts';
import { ReferenceBackend } from '../support/reference-backend.ts';

const architecture = smallModel(new Random(5), 'dot-lower');
const request = smallRequest(new Random(6), architecture, 3);
const batch = { batchSize: request.batchSize, bags: request.bags };
/** The first index of the first table is none of its rows. */
const bad = {
  ...request,
  bags: request.bags.map((own, t) =>
    t === 0 ? { ...own, indices: own.indices.map(() => 1e6 as never) } : own,
  ),
} as typeof request;

function open() {
  const backend = new ReferenceBackend();
  return { backend, live: countParts(backend) };
}

/** Makes the nth call of a method fail from now on. */
function failAt(
  backend: ReferenceBackend,
  name: 'placeTables' | 'placeLinear' | 'prepare' | 'run',
  nth: number,
) {
  const own = backend[name].bind(backend) as (...given: unknown[]) => unknown;
  let calls = 0;
  Object.defineProperty(backend, name, {
    configurable: true,
    value: (...given: unknown[]) => {
      if (++calls === nth) throw new Error(`${name} fails`);
      return own(...given);
    },
  });
}

test('a model gives everything back when it is closed, and bags after each prediction', async () => {
  const { backend, live } = open();
  const model = await DlrmModel.create(backend, architecture);
  const placed = live();
  await Promise.all(Array.from({ length: 5 }, () => model.predict(request)));
  await assert.rejects(model.predict(bad), { code: 'INDEX_OUT_OF_RANGE' });
  assert.equal(live().placeBags, undefined);
  assert.deepEqual({ ...live(), allocate: 0, prepare: 0 }, { ...placed, allocate: 0, prepare: 0 });
  await model.close();
  assert.deepEqual(live(), {});
  await model.close();
  assert.ok(backend.allocate(1), 'the backend stays the caller’s');
});

test('a model closes its backend where it was told to', async () => {
  const { backend } = open();
  const model = await DlrmModel.create(backend, architecture, { closesBackend: true });
  const running = model.predict(request);
  await model.close();
  assert.equal((await running).probabilities.length, 3);
  assert.throws(() => backend.allocate(1), { code: 'DISPOSED' });
});

test('a model that cannot be made leaves nothing, wherever that shows', async () => {
  for (const interaction of ['dot-lower', 'cross'] as const) {
    const own = smallModel(new Random(5), interaction);
    const counting = open();
    await using _model = await DlrmModel.create(counting.backend, own);
    const layers = counting.live().placeLinear as number;
    assert.ok(layers >= 4);
    const failing = [
      ['placeTables', 1],
      ...Array.from({ length: layers }, (_, i) => ['placeLinear', i + 1] as const),
    ] as const;
    for (const [name, nth] of failing) {
      const { backend, live } = open();
      failAt(backend, name, nth);
      await assert.rejects(DlrmModel.create(backend, own), new RegExp(`${name} fails`));
      assert.deepEqual(live(), {}, `${interaction}: ${name} ${nth}`);
    }
  }
});

test('a program that cannot be made leaves nothing', async () => {
  const { backend, live } = open();
  const model = await DlrmModel.create(backend, architecture);
  const before = live();
  failAt(backend, 'prepare', 1);
  await assert.rejects(model.predict(request), /prepare fails/);
  assert.deepEqual(live(), before);
  await model.close();
});

test('a placed request goes when it is disposed, after predictions, and one that cannot be placed at once', async () => {
  const { backend, live } = open();
  const model = await DlrmModel.create(backend, architecture);
  const before = live();
  const placed = await model.place(request);
  assert.deepEqual(
    [live().placeBags, live().allocate, live().prepare],
    [1, (before.allocate ?? 0) + 1, (before.prepare ?? 0) + 1],
  );
  const both = live();
  const running = model.predict(placed);
  placed[Symbol.dispose]();
  placed[Symbol.dispose]();
  assert.deepEqual(live(), both, 'while it is scored');
  await running;
  assert.deepEqual(live(), before);
  await assert.rejects(model.predict(placed), { code: 'DISPOSED', message: /a placed request was used/ });

  const other = await DlrmModel.create(backend, architecture);
  const own = await other.place(request);
  await assert.rejects(model.predict(own), { code: 'OPTION_INVALID', message: /placed for another model/ });
  own[Symbol.dispose]();
  await other.close();

  const short = { ...request, dense: request.dense.subarray(1) };
  await assert.rejects(model.place(short), { code: 'TENSOR_SHAPE' });
  await assert.rejects(model.place(bad), { code: 'INDEX_OUT_OF_RANGE' });
  assert.deepEqual(live(), before);
  for (const name of ['run', 'prepare'] as const) {
    failAt(backend, name, 1);
    await assert.rejects(model.place(request), new RegExp(`${name} fails`));
    assert.deepEqual(live(), before, name);
  }
  await model.close();
  assert.deepEqual(live(), {});
});

test('calls count what they take: matrices of predictions, values of updates', async () => {
  const { backend } = open();
  const model = await DlrmModel.create(backend, architecture);
  await model.predict(request);
  const taken: number[] = [];
  const own = backend.admission.enter.bind(backend.admission);
  backend.admission.enter = (turn) => {
    taken.push(turn.bytes);
    return own(turn);
  };
  await model.predict(request);
  const [table] = architecture.tables;
  assert.ok(table !== undefined && (taken[0] as number) > 0);
  const values = new Float32Array(2 * table.dim);
  await model.updateRows(0, Int32Array.of(0, 1), values);
  assert.equal(taken[1], values.byteLength);
  await model.close();
});

test('a collection gives everything back, in every format', async () => {
  const { backend, live } = open();
  const collection = await EmbeddingCollection.create(backend, architecture.tables);
  for (const output of ['float32', 'float16', 'bfloat16'] as const)
    await collection.forward(batch, { output });
  await assert.rejects(collection.forward({ ...batch, bags: bad.bags }), { code: 'INDEX_OUT_OF_RANGE' });
  assert.equal(live().placeBags, undefined);
  assert.ok(live().prepare !== undefined);
  await collection.close();
  await collection.close();
  assert.deepEqual(live(), {});
});

test('a placement of other tables is refused', async () => {
  const { backend, live } = open();
  const placement = devicePlacement([{ name: 'another' }]);
  await assert.rejects(EmbeddingCollection.create(backend, architecture.tables, { placement }), {
    code: 'PLACEMENT_ILLEGAL',
  });
  assert.deepEqual(live(), {});
});

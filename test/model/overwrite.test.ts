/** Another model's weights over those of one that is placed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openBackend } from '../../src/backend/open-backend.ts';
import type { EmbeddingTable } from '../../src/embedding/bag.ts';
import { nativeCounts } from '../../src/ffi/owned-handles.ts';
import type { ModelArchitecture } from '../../src/model/architecture.ts';
import { DlrmModel } from '../../src/model/dlrm.ts';
import { overwriteRows } from '../../src/model/overwrite.ts';
import type { HostTensor } from '../../src/tensor.ts';
import { randomTable } from '../support/cases.ts';
import { branchingModel, INTERACTIONS, smallModel, smallRequest } from '../support/models.ts';
import { Random } from '../support/random.ts';
import { SEED } from '../support/seed.ts';

const open = () => openBackend({ device: 'cpu', threads: 2 }).backend;
/** Values of what a model gives. */
const bits = (prediction: Awaited<ReturnType<DlrmModel['predict']>>) =>
  JSON.stringify({ ...prediction, latencyMs: 0 }, (_, value) =>
    ArrayBuffer.isView(value) ? [...(value as unknown as Float32Array)] : value,
  );

const MAKERS: [string, (random: Random) => ModelArchitecture][] = [
  ...INTERACTIONS.map((kind): [string, (random: Random) => ModelArchitecture] => [
    kind,
    (random) => smallModel(random, kind),
  ]),
  ['branching', branchingModel],
];
for (const [name, make] of MAKERS)
  test(`what is written over answers as if it had been placed: ${name}`, async () => {
    const [before, after] = [make(new Random(SEED)), make(new Random(SEED + 1))];
    const request = smallRequest(new Random(SEED), before, 9);
    const held = nativeCounts();
    const backend = open();
    const model = await DlrmModel.create(backend, before);
    const alone = await DlrmModel.create(backend, after);
    const [old, wanted] = [bits(await model.predict(request)), bits(await alone.predict(request))];
    assert.notEqual(old, wanted);
    const overwrite = await model.prepareOverwrite(after);
    assert.equal(bits(await model.predict(request)), old);
    // A call under way ends with the old weights.
    const last = model.predict(request);
    const told: string[] = [];
    const written = await overwrite.run((text) => told.push(text));
    assert.equal(bits(await last), old);
    assert.equal(told.length, before.tables.length);
    assert.equal(bits(await written.predict(request)), wanted);
    assert.deepEqual(written.architecture.tables, alone.architecture.tables);
    await assert.rejects(model.predict(request), { code: 'DISPOSED' });
    await assert.rejects(overwrite.run(), { code: 'DISPOSED' });
    // And back again, twice made ready: what is not begun is given up.
    (await written.prepareOverwrite(before))[Symbol.dispose]();
    const back = await (await written.prepareOverwrite(before)).run();
    assert.equal(bits(await back.predict(request)), old);
    await Promise.all([model.close(), written.close(), back.close(), alone.close()]);
    await backend.close();
    assert.deepEqual(nativeCounts(), held);
  });

test('weights of another shape are refused with both figures, and the model goes on', async () => {
  const random = new Random(SEED);
  const own = smallModel(random, 'dot-lower');
  await using backend = open();
  await using model = await DlrmModel.create(backend, own);
  const request = smallRequest(random, own, 3);
  const before = bits(await model.predict(request));
  const [first, ...others] = own.tables as [EmbeddingTable, ...EmbeddingTable[]];
  const { name, dim, rowFormat, mode } = first;
  const longer = randomTable(random, { name, dim, rowFormat, mode, rows: 31, paddingIdx: 7 });
  const { paddingIdx: _, ...unpadded } = first;
  const cases: [ModelArchitecture, RegExp][] = [
    [{ ...own, tables: [longer, ...others] }, /table t0: shape 31 rows .*, where 30 rows .* is served/],
    [{ ...own, tables: [unpadded, ...others] }, /table t0: .*, where .* padding row 7 is served/],
    [{ ...own, tables: [{ ...first, name: 'x' }, ...others] }, /feature 0: name x, where t0 is served/],
    [{ ...own, output: 'logit' }, /output logit, where probability is served/],
    [smallModel(random, 'dot-diagonal'), /the head: blocks .* is served/],
  ];
  for (const [other, message] of cases)
    await assert.rejects(model.prepareOverwrite(other), { code: 'WEIGHTS_MISFIT', message });
  assert.equal(bits(await model.predict(request)), before);
});

test('where rows cannot be read, neither model is left, and all is given back', async () => {
  const own = smallModel(new Random(SEED), 'cat');
  const held = nativeCounts();
  const backend = open();
  const model = await DlrmModel.create(backend, own);
  const tables = own.tables.map((table, t) => {
    const { dtype, shape, data } = table.weight as HostTensor;
    const read = async (into: Uint8Array) => {
      if (t > 0) throw new Error('the disk is gone');
      into.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    };
    return { ...table, weight: { dtype, shape, byteLength: data.byteLength, files: ['a'], read } };
  });
  const overwrite = await model.prepareOverwrite({ ...own, tables });
  await assert.rejects(overwrite.run(), /the disk is gone/);
  await assert.rejects(model.predict(smallRequest(new Random(SEED), own, 2)), { code: 'DISPOSED' });
  await model.close();
  await backend.close();
  assert.deepEqual(nativeCounts(), held);
});

test('rows are written a piece at a time, each once, those of a file as they lie there', async () => {
  const { tables } = smallModel(new Random(SEED), 'cross');
  const bytes = tables.map(({ weight }) => {
    const { data } = weight as HostTensor;
    return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  });
  const stored = tables.map((table, t): EmbeddingTable => {
    const own = bytes[t] as Buffer;
    const { dtype, shape } = table.weight;
    const read = async (into: Uint8Array, at: number) => void own.copy(into, 0, at);
    return { ...table, weight: { dtype, shape, byteLength: own.length, files: ['a'], read } };
  });
  for (const own of [tables, stored]) {
    const [numbers, values]: [number[][], Buffer[][]] = [tables.map(() => []), tables.map(() => [])];
    const placed = {
      updateRows: async (table: number, rows: ArrayLike<number | bigint>, piece: ArrayBufferView) => {
        assert.ok(rows.length <= 20);
        numbers[table]?.push(...Array.from(rows, Number));
        values[table]?.push(Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength).subarray());
      },
    };
    await overwriteRows(placed as never, own, () => {}, 10 * 12);
    for (const [t, { rows }] of tables.entries()) {
      assert.deepEqual(
        numbers[t],
        Array.from({ length: rows }, (_, row) => row),
      );
      assert.deepEqual(Buffer.concat(values[t] ?? []), bytes[t]);
    }
  }
});

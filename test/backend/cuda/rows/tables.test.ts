/** Tables on CUDA, over the fake driver: what several features on one table take. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { deviceTableBytes } from '../../../../src/backend/cuda/rows/row-layout.ts';
import { type EmbeddingTable, ROW_FORMATS } from '../../../../src/embedding/bag.ts';
import { weightShape } from '../../../../src/embedding/row-format.ts';
import { plainPlan } from '../../../../src/plan/plan.ts';
import type { SyntheticTensor } from '../../../../src/tensor.ts';
import { refuseEmulation } from '../../../emulation/emulator.ts';
import { fake, openFakeBackend } from '../../../fake-driver/open-backend.ts';
import { hostWeight, randomTable } from '../../../support/cases.ts';
import { Random } from '../../../support/random.ts';

const skip = refuseEmulation();

describe('tables of several features', { skip }, () => {
  if (skip !== undefined) return;
  after(() => {
    assert.equal(fake.emulatorError(), '');
    assert.deepEqual(fake.live(), {}, 'everything was given back');
  });
  const plan = plainPlan('cuda');

  for (const rowFormat of ROW_FORMATS) {
    test(`a table of ${rowFormat} is placed once, whatever it comes from`, async () => {
      using backend = openFakeBackend();
      const table = randomTable(new Random(1), { rows: 300, dim: 20, rowFormat });
      const shape = { rows: 300, dim: 20, rowFormat };
      const synthetic: SyntheticTensor = { ...weightShape(shape), seed: 3 };
      const { dtype, shape: of, data } = hostWeight(table);
      const assembled = {
        ...{ dtype, shape: of, files: [], byteLength: data.byteLength },
        read: async (into: Uint8Array, at: number) =>
          into.set(new Uint8Array(data.buffer, data.byteOffset + at, into.length)),
      };
      for (const weight of [table.weight, synthetic, assembled]) {
        const feature = { ...table, weight };
        const before = fake.liveBytes();
        const features = [feature, { ...feature, mode: 'mean' }, { ...feature, paddingIdx: 3 }] as const;
        using placed = await backend.placeTables(features, plan);
        assert.equal(placed.allocatedBytes, deviceTableBytes(table));
        const [alone, another] = [
          { ...feature, weight: { ...weight } },
          { ...feature, weight: { ...weight } },
        ];
        const shared = fake.liveBytes() - before;
        using copies = await backend.placeTables([alone, another], plan);
        assert.equal(copies.allocatedBytes, 2 * deviceTableBytes(table));
        assert.equal(fake.liveBytes() - before, 3 * shared);
      }
    });
  }

  test('row weights are placed once an array', async () => {
    using backend = openFakeBackend();
    const table = randomTable(new Random(2), { rows: 50, dim: 8, rowWeights: true });
    const other: EmbeddingTable = { ...table, rowWeights: new Float32Array(50).fill(2) };
    using placed = await backend.placeTables([table, { ...table }, other], plan);
    assert.equal(placed.allocatedBytes, 50 * 8 * 4 + 2 * 50 * 4);
  });

  test('too large a table is told of with the bytes of one', async () => {
    using backend = openFakeBackend();
    const rows = 2 ** 22;
    const weight: SyntheticTensor = { dtype: 'float32', shape: [rows, 128], seed: 1 };
    const table: EmbeddingTable = {
      name: 'large',
      weight,
      rows,
      dim: 128,
      rowFormat: 'float32',
      mode: 'sum',
    };
    await assert.rejects(backend.placeTables([table, { ...table }, { ...table }], plan), {
      code: 'OUT_OF_MEMORY',
      message: new RegExp(`need ${rows * 128 * 4} bytes`),
    });
  });
});

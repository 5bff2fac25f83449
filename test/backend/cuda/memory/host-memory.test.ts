/** Arrays in pinned memory, over the fake driver. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { placeCollection } from '../../../../src/model/collection.ts';
import { plainPlan } from '../../../../src/plan/plan.ts';
import { refuseEmulation } from '../../../emulation/emulator.ts';
import { fake, openFakeBackend } from '../../../fake-driver/open-backend.ts';
import { mixedProblem } from '../../../support/cases.ts';
import { assertSameBits } from '../../../support/compare.ts';
import { Random } from '../../../support/random.ts';
import { inHostMemory, poolOn, poolPlaced } from '../../../support/run-operators.ts';

describe('host memory of a GPU', { skip: refuseEmulation() ?? false }, () => {
  const { tables, batch } = mixedProblem(new Random(4), 40);

  test('neighbours come over in one copy', async () => {
    using backend = openFakeBackend();
    using placed = await placeCollection(backend, tables, plainPlan('cuda'));
    const callsOf = async (own: typeof batch) => {
      await poolPlaced(backend, placed, own);
      const before = fake.calls();
      await poolPlaced(backend, placed, own);
      return fake.calls() - before;
    };
    using together = inHostMemory(backend, batch);
    using apart = inHostMemory(backend, { ...batch, bags: batch.bags.toReversed() });
    const staged = await callsOf(batch);
    assert.equal((await callsOf(together.batch)) - staged, 1);
    const reversed = { ...batch, bags: apart.batch.bags.toReversed() };
    assert.ok((await callsOf(reversed)) - staged > 1);
  });

  test('disposed while it is read: the results are right, it is given back afterwards, the arrays stay', async () => {
    {
      using backend = openFakeBackend();
      const plain = await poolOn(backend, tables, batch);
      using placed = await placeCollection(backend, tables, plainPlan('cuda'));
      await poolPlaced(backend, placed, batch);
      const moved = inHostMemory(backend, batch);
      fake.setWorkMs(5);
      const pooling = poolPlaced(backend, placed, moved.batch);
      await new Promise((resolve) => setImmediate(resolve));
      moved[Symbol.dispose]();
      const { pooled } = await pooling;
      fake.setWorkMs(0);
      assertSameBits(pooled, plain.pooled, 'disposed meanwhile');
      const { pooled: copied } = await poolPlaced(backend, placed, moved.batch);
      assertSameBits(copied, plain.pooled, 'as arrays like any other');
    }
    assert.deepEqual(fake.live(), {}, 'everything was given back');
  });

  test('disposed before it is read: DISPOSED', async () => {
    using backend = openFakeBackend();
    using placed = await placeCollection(backend, tables, plainPlan('cuda'));
    const moved = inHostMemory(backend, batch);
    using bags = backend.placeBags(placed, moved.batch);
    moved[Symbol.dispose]();
    using output = backend.allocate(batch.batchSize * 4096);
    const width = tables.reduce((sum, { dim }) => sum + dim, 0);
    const matrix = { buffer: output, offset: 0, rows: batch.batchSize, cols: width, stride: width } as const;
    const running = backend.run([
      { op: 'embeddingBags', tables: placed, bags, output: matrix, checking: 'error' },
    ]);
    await assert.rejects(running, { code: 'DISPOSED' });
  });
});

/** Plans of the artifact's kernel on the fake driver, their kernels in emulation. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { matrix } from '../../../../src/backend/backend.ts';
import { placeCollection } from '../../../../src/model/collection.ts';
import { type Plan, plainPlan, planLabel, withKernel, withTechniques } from '../../../../src/plan/plan.ts';
import { refuseEmulation } from '../../../emulation/emulator.ts';
import { fake, openFakeBackend } from '../../../fake-driver/open-backend.ts';
import { mixedProblem, type Problem } from '../../../support/cases.ts';
import { assertSameBits } from '../../../support/compare.ts';
import { Random } from '../../../support/random.ts';
import { poolPlaced } from '../../../support/run-operators.ts';

/** Of a mixed problem a few tables, each of whose kernels is compiled for this. */
function someTables(batchSize: number): Problem {
  const { tables, batch } = mixedProblem(new Random(3), batchSize);
  return { tables: tables.slice(0, 3), batch: { ...batch, bags: batch.bags.slice(0, 3) } };
}

const ARTIFACT = withKernel(plainPlan('cuda'), 'artifact');

test('tables of several kinds are pooled to the bits of the standard kernel, and all memory is given back', {
  skip: refuseEmulation(),
}, async () => {
  const { tables, batch } = someTables(20);
  const plans: readonly Plan[] = [
    ARTIFACT,
    withTechniques(ARTIFACT, {
      occupancy: { maxRegisters: 42 },
      prefetch: { into: 'registers', distance: 2 },
      pinning: { bytes: 1 << 16, by: 'prefetch', when: 'before' },
    }),
  ];
  {
    using backend = openFakeBackend();
    using placed = await placeCollection(backend, tables, 'plain');
    const plain = await poolPlaced(backend, placed, batch);
    for (const plan of plans) {
      const { pooled } = await poolPlaced(backend, placed.withPlan(plan), batch);
      assertSameBits(pooled, plain.pooled, planLabel(plan));
    }
    assert.equal(fake.emulatorError(), '');
  }
  assert.deepEqual(fake.live(), {}, 'everything was given back');
});

test('notes of a batch are taken once, by plans that need them, and given back with it', {
  skip: refuseEmulation(),
}, async () => {
  const { tables, batch } = someTables(8);
  using backend = openFakeBackend();
  using placed = await placeCollection(backend, tables, 'plain');
  const width = tables.reduce((sum, { dim }) => sum + dim, 0);
  using output = backend.allocate(batch.batchSize * width);
  const pool = (plan: Plan, bags: ReturnType<typeof backend.placeBags>) =>
    backend.run([
      {
        op: 'embeddingBags',
        tables: placed.withPlan(plan),
        bags,
        output: matrix(output, batch.batchSize, width),
        checking: 'error',
      },
    ]);
  const once = async (plan: Plan) => {
    const bags = backend.placeBags(placed, batch);
    await pool(plan, bags);
    const first = fake.liveBytes();
    await pool(plan, bags);
    assert.deepEqual(fake.liveBytes(), first, 'a second run takes nothing more');
    bags[Symbol.dispose]();
    return first;
  };
  await once(plainPlan('cuda'));
  const plain = await once(plainPlan('cuda'));
  await once(ARTIFACT);
  // The pool lends the notes of the batch before.
  const noted = await once(ARTIFACT);
  assert.notDeepEqual(noted, plain, 'the kernel has room to note what it pooled');
  assert.deepEqual(await once(ARTIFACT), noted);
});

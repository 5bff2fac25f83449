/** Pooled rows in 8 bits for the layer that multiplies them so, on the fake driver: who writes them, and that results stay. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import type { EmbeddingTable } from '../../../../src/embedding/bag.ts';
import { totalDim } from '../../../../src/model/collection.ts';
import { plainPlan, withKernel } from '../../../../src/plan/plan.ts';
import { refuseEmulation } from '../../../emulation/emulator.ts';
import { fake, openFakeBackend } from '../../../fake-driver/open-backend.ts';
import { integers, randomTable, type TableSpec } from '../../../support/cases.ts';
import { BESIDE, type PooledCase, pooledBatch, runPooled } from '../../../support/pooled-copies.ts';
import { Random } from '../../../support/random.ts';
import { usersProblem } from '../../../support/users.ts';

const skip = refuseEmulation();

describe('pooled rows in 8 bits', { skip }, () => {
  if (skip !== undefined) return;
  after(() => {
    assert.equal(fake.emulatorError(), '');
    assert.deepEqual(fake.live(), {}, 'everything was given back');
  });

  const LOOKED_UP: readonly TableSpec[] = [
    { rows: 30, dim: 20 },
    { rows: 30, dim: 16, rowFormat: 'float16', mode: 'mean', paddingIdx: 2 },
    { rows: 30, dim: 12, rowFormat: 'int8', mode: 'max' },
  ];
  const tablesOf = (specs: readonly TableSpec[]) => specs.map((spec) => randomTable(new Random(7), spec));
  /** Of several sizes, so that the second and third follow in a graph. */
  const batchesOf = (tables: readonly EmbeddingTable[]) =>
    [8, 5, 8, 1].map((batchSize, seed) => pooledBatch(tables, batchSize, seed));

  const run = (pooledCopies: boolean, own: Omit<PooledCase, 'capacity'>) =>
    runPooled((switches) => openFakeBackend({ switches }), { pooledCopies }, { ...own, capacity: 8 });

  test('the pooling kernel writes them: only the layer beside them is rounded by itself', async () => {
    const tables = tablesOf(LOOKED_UP);
    const batches = batchesOf(tables);
    const [own, plain] = [await run(true, { tables, batches }), await run(false, { tables, batches })];
    assert.deepEqual(own.results, plain.results);
    assert.deepEqual(new Set(own.rounded), new Set([BESIDE]));
    assert.deepEqual(new Set(plain.rounded), new Set([BESIDE + totalDim(tables)]));
    assert.ok(
      own.kernels.every((id) => id.includes('.tof16.toe4m3.')),
      `${own.kernels}`,
    );
    assert.ok(plain.kernels.every((id) => id.includes('.tof16.') && !id.includes('e4m3')));
  });

  test('long bags, bags of users, and batches of both kinds in turns', async () => {
    const tables = tablesOf(LOOKED_UP);
    const long = pooledBatch(tables, 3, 11);
    const [first, ...others] = long.bags;
    const indices = integers(Array.from({ length: 700 }, (_, i) => (i * 7) % 30));
    const cut = { ...long, bags: [{ ...first, indices, offsets: integers([0, 650, 650]) }, ...others] };
    const users = (perUser: (t: number) => boolean) =>
      usersProblem(new Random(12), tables, { starts: [0, 2, 2, 7], perUser }).batch;
    const batches = [cut, users((t) => t !== 1), users(() => true), pooledBatch(tables, 8, 13), cut];
    const [own, plain] = [await run(true, { tables, batches }), await run(false, { tables, batches })];
    assert.deepEqual(own.results, plain.results);
    assert.deepEqual(new Set(own.rounded), new Set([BESIDE]));
  });

  test('where they are not written, the layer rounds its inputs', async () => {
    const tables = tablesOf(LOOKED_UP);
    for (const [what, given] of Object.entries({
      'kernels that are launched table by table': { tables, plan: 'plain' },
      'another family': { tables, plan: withKernel(plainPlan('cuda'), 'artifact') },
      'zeros behind the last column': { tables: tablesOf([{ rows: 30, dim: 20 }]) },
      'layers in 16 bits': { tables, precision: 'float16' },
    } satisfies Record<string, Omit<PooledCase, 'batches' | 'capacity'>>)) {
      const own = { ...given, batches: batchesOf(given.tables) };
      const [made, plain] = [await run(true, own), await run(false, own)];
      assert.deepEqual(made.results, plain.results, what);
      assert.deepEqual(made.rounded, plain.rounded, what);
      assert.equal(made.rounded.length > 0, what !== 'layers in 16 bits');
    }
  });

  test('a cross layer’s output that is needed in 8 bits alone', async () => {
    const tables = tablesOf(LOOKED_UP);
    const own: PooledCase = { tables, batches: batchesOf(tables), capacity: 8, topped: true };
    for (const candidates of [2, 0]) {
      const linearSearch = { candidates, rounds: 0, runs: 0 };
      const run = (copiesAlone: boolean) =>
        runPooled((switches) => openFakeBackend({ switches, linearSearch }), { copiesAlone }, own);
      assert.deepEqual((await run(true)).results, (await run(false)).results, `${candidates} candidates`);
    }
  });
});

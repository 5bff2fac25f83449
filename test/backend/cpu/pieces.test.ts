/** Bags that the CPU copies in several pieces, or alone because they are longer than one: the reference's values. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CpuBackend } from '../../../src/backend/cpu/cpu-backend.ts';
import { type Bags, INDEX_CHECKING } from '../../../src/embedding/bag.ts';
import { referenceCheckBags, referenceEmbeddingBags } from '../../../src/embedding/reference.ts';
import { plainPlan, withTechniques } from '../../../src/plan/plan.ts';
import { integers, randomTable } from '../../support/cases.ts';
import { assertSameBits } from '../../support/compare.ts';
import { Random } from '../../support/random.ts';
import { poolOn } from '../../support/run-operators.ts';

/** Lookups and bags of a piece (kernels/cpu/bag_piece.h). */
const LOOKUPS = 8192;
const BAGS = 2048;
const ROWS = 30;

const LENGTHS: Readonly<Record<string, readonly number[]>> = {
  'around a piece': [LOOKUPS - 1, 0, LOOKUPS, 1, LOOKUPS + 1, 3, 2 * LOOKUPS + 5, 0],
  'filling pieces exactly': [LOOKUPS / 2, LOOKUPS / 2, LOOKUPS, 7],
  'many bags': Array.from({ length: 2 * BAGS + 3 }, (_, b) => b % 4),
  'many empty ones': [...new Array<number>(BAGS + 1).fill(0), 5],
};

for (const [name, lengths] of Object.entries(LENGTHS)) {
  test(name, async () => {
    const random = new Random(7);
    const modes = ['sum', 'mean', 'max'] as const;
    const tables = modes.map((mode, t) =>
      randomTable(random, { name: mode, rows: ROWS, dim: [16, 5, 300][t] as number, mode, exact: true }),
    );
    const lookups = lengths.reduce((sum, length) => sum + length, 0);
    const starts = lengths.map((_, b) => lengths.slice(0, b).reduce((sum, length) => sum + length, 0));
    const indices = Array.from({ length: lookups }, () => random.integer(0, ROWS - 1));
    const bags: Bags[] = tables.map((_, t) => ({
      indices: integers(indices, t === 1 ? 'int32' : 'int64'),
      offsets: integers(t === 1 ? starts : [...starts, lookups], t === 0 ? 'int32' : 'int64'),
      ...(t === 0 ? { weights: Float32Array.from({ length: lookups }, () => random.integer(-2, 2)) } : {}),
    }));
    const batch = { batchSize: lengths.length, bags };
    const expected = Float32Array.from(referenceEmbeddingBags(tables, batch).pooled);
    using backend = new CpuBackend({ threads: 2 });
    const twoThreads = withTechniques(plainPlan('cpu'), { threads: { count: 2 } });
    for (const plan of [
      plainPlan('cpu'),
      withTechniques(twoThreads, { prefetch: { distance: 3, level: 'L2' } }),
    ]) {
      for (const checking of INDEX_CHECKING) {
        const { pooled } = await poolOn(backend, tables, batch, { plan, checking });
        assertSameBits(pooled, expected, checking);
      }
    }

    // Bags that begin anywhere, and hold each other's lookups.
    const wild = starts.map((start, b) =>
      b % 97 === 6 ? random.integer(0, lookups) : start + random.integer(-5, 5),
    );
    const bad = {
      ...batch,
      bags: bags.map((own) => ({ ...own, offsets: integers(wild), indices: own.indices.slice() })),
    };
    (bad.bags[1]?.indices as Int32Array)[lookups - 1] = -1;
    const repaired = Float32Array.from(referenceEmbeddingBags(tables, bad, 'ignore').pooled);
    const found = referenceCheckBags(tables, bad);
    for (const checking of ['warn', 'ignore'] as const) {
      const { pooled, findings } = await poolOn(backend, tables, bad, { plan: twoThreads, checking });
      assertSameBits(pooled, repaired, checking);
      if (checking === 'warn') assert.equal(findings.badOffsets, found.badOffsets);
    }
    await assert.rejects(poolOn(backend, tables, bad, { plan: twoThreads, checking: 'error' }), {
      message: found.first?.message as string,
    });
  });
}

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { distinctShare, lookedUpRows, planTrafficOf, trafficOf } from '../../src/workload/batch-traffic.ts';
import { randomTable } from '../support/cases.ts';
import { Random } from '../support/random.ts';

const table = (dim: number) => randomTable(new Random(dim), { rows: 10, dim });
const bags = (...indices: readonly number[]) => ({
  indices: Int32Array.from(indices),
  offsets: Int32Array.of(0, 1),
});

test('bytes of lookups, of distinct rows, and of all else', () => {
  const [narrow, wide] = [table(2), table(8)];
  const batch = { batchSize: 2, bags: [bags(1, 1, 0, 3), bags(4, 4)] };
  const traffic = trafficOf(batch, [narrow, wide]);
  assert.deepEqual(traffic, {
    lookups: 6,
    distinct: 4,
    distinctRowBytes: 3 * 2 * 4 + 8 * 4,
    lookupRowBytes: 4 * 2 * 4 + 2 * 8 * 4,
    otherBytes: 6 * 4 + 2 * 2 * 4 + 2 * (2 + 8) * 4,
  });
  assert.equal(distinctShare(traffic), 4 / 6);
  assert.deepEqual(planTrafficOf(batch, [narrow, wide]), { distinctShare: 4 / 6, batchSize: 2 });
  assert.equal(distinctShare(trafficOf({ batchSize: 1, bags: [bags()] }, [narrow])), 0);
});

test('rows of a table that several features read are counted once', () => {
  const own = table(2);
  const shared = trafficOf({ batchSize: 2, bags: [bags(1, 2), bags(2, 3, 3)] }, [
    own,
    { ...own, mode: 'mean' },
  ]);
  assert.deepEqual([shared.lookups, shared.distinct], [5, 3]);
});

test('marks of pruned rows are no rows, row 0 is one', () => {
  assert.deepEqual(lookedUpRows(Int32Array.of(-1, 0, 5, -1)), Int32Array.of(0, 5));
  const all = Int32Array.of(0, 5);
  assert.equal(lookedUpRows(all), all);
});

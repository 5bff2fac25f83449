import assert from 'node:assert/strict';
import { test } from 'node:test';
import { syntheticModel, syntheticTables } from '../../src/bench/synthetic-model.ts';
import { MOST_DRAWN, patternWorkload } from '../../src/bench/workload.ts';
import type { EmbeddingTable } from '../../src/embedding/bag.ts';

function drawFor(tableCount: number, indexType: 'int32' | 'int64', bagLengths = '3') {
  const tables = syntheticTables({ tables: tableCount, rows: 50, dim: 4, rowFormat: 'float32' });
  const architecture = syntheticModel(tables);
  const shape = { architecture, batchSize: 8, bagLengths, batches: 2, seed: 1, indexType };
  return patternWorkload('random', shape).embedding;
}

test('of many equal tables, those past the first few get the same lookups again', () => {
  for (const indexType of ['int64', 'int32'] as const) {
    const { batches, traffic } = drawFor(MOST_DRAWN + 3, indexType);
    for (const { bags } of batches) {
      assert.equal(bags.length, MOST_DRAWN + 3);
      assert.equal(bags[MOST_DRAWN + 2], bags[2]);
      assert.notDeepEqual(bags[1]?.indices, bags[2]?.indices);
      assert.equal(bags[0]?.indices instanceof Int32Array, indexType === 'int32');
    }
    assert.notDeepEqual(batches[0]?.bags[0]?.indices, batches[1]?.bags[0]?.indices);
    assert.equal(traffic.lookups, (MOST_DRAWN + 3) * 8 * 3);
  }
});

test('distinct rows of features on one table are those of the table', () => {
  const [first, ...others] = syntheticTables({ tables: 3, rows: 5, dim: 4, rowFormat: 'float32' });
  const shape = { batchSize: 20, bagLengths: '5', batches: 1, seed: 1, indexType: 'int64' } as const;
  const drawn = (tables: readonly EmbeddingTable[]) =>
    patternWorkload('random', { ...shape, architecture: syntheticModel(tables) }).embedding.traffic;
  const table = first as EmbeddingTable;
  // A hundred lookups name each of five rows, of one table or of three.
  assert.equal(drawn([table, { ...table }, { ...table }]).distinctRowBytes, 5 * 4 * 4);
  assert.equal(drawn([table, ...others]).distinctRowBytes, 3 * 5 * 4 * 4);
});

test('tables whose bags differ are all drawn for', () => {
  const lengths = Array.from({ length: MOST_DRAWN + 1 }, (_, t) => 1 + (t % 2)).join('/');
  const { batches } = drawFor(MOST_DRAWN + 1, 'int64', lengths);
  assert.notEqual(batches[0]?.bags[MOST_DRAWN], batches[0]?.bags[0]);
});

/** Rows of mapped files are updated in private copies of their pages. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { CpuBackend } from '../../../src/backend/cpu/cpu-backend.ts';
import type { EmbeddingTable } from '../../../src/embedding/bag.ts';
import { EmbeddingCollection } from '../../../src/model/collection.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrow-updates-'));
after(() => rmSync(folder, { recursive: true }));

const [ROWS, DIM] = [4096, 33];
const START = 100;
const values = Float32Array.from({ length: ROWS * DIM }, (_, i) => i % 1001);

/** Two tables in one file, neither of which begins at a page. */
function tablesIn(name: string): { file: string; tables: EmbeddingTable[] } {
  const file = join(folder, name);
  writeFileSync(
    file,
    Buffer.concat([Buffer.alloc(START), Buffer.from(values.buffer), Buffer.from(values.buffer)]),
  );
  const tables = [0, 1].map((t): EmbeddingTable => {
    const byteOffset = START + t * values.byteLength;
    const weight = {
      dtype: 'float32',
      shape: [ROWS, DIM],
      file,
      byteOffset,
      byteLength: values.byteLength,
    } as const;
    return { name: `table ${t}`, weight, rows: ROWS, dim: DIM, rowFormat: 'float32', mode: 'sum' };
  });
  return { file, tables };
}

const rows = Int32Array.of(0, ROWS - 1, 17);
const updated = Float32Array.from({ length: rows.length * DIM }, (_, i) => -1 - i);
const every = Int32Array.from({ length: ROWS }, (_, row) => row);

test('the file stays as it is, and so do its other tables and whoever else maps it', async () => {
  using backend = new CpuBackend({ threads: 2 });
  const { file, tables } = tablesIn('stays');
  const before = readFileSync(file);
  await using own = await EmbeddingCollection.create(backend, tables);
  await using other = await EmbeddingCollection.create(backend, tables);
  await own.updateRows(0, rows, updated);
  const expected = values.slice();
  for (const [i, row] of rows.entries()) expected.set(updated.subarray(i * DIM, (i + 1) * DIM), row * DIM);
  assert.deepEqual(await own.readRows(0, every), expected);
  assert.deepEqual(await own.readRows(1, every), values);
  assert.deepEqual(await other.readRows(0, every), values);
  assert.deepEqual(readFileSync(file), before);
  // A file that was touched is looked into: what was written to the mapping is no change of it.
  utimesSync(file, 1, 1);
  const batch = {
    batchSize: 1,
    bags: [0, 1].map(() => ({ indices: Int32Array.of(0), offsets: Int32Array.of(0) })),
  };
  const { pooled } = await own.forward(batch);
  assert.deepEqual(pooled.subarray(0, DIM), updated.subarray(0, DIM));
  await own.updateRows(1, rows, updated);
  assert.deepEqual(await own.readRows(1, rows), updated);
});

for (const [what, change] of [
  ['was cut to nothing', (file: string) => truncateSync(file, 0)],
  ['was cut in its middle', (file: string) => truncateSync(file, values.byteLength / 2)],
  ['was written', (file: string) => writeFileSync(file, Buffer.alloc(START + 2 * values.byteLength, 1))],
] as const) {
  for (const updatesBefore of [false, true]) {
    test(`a file that ${what}, ${updatesBefore ? 'after an update' : 'before any'}, is told`, async () => {
      using backend = new CpuBackend({ threads: 2 });
      const { file, tables } = tablesIn(`${what} ${updatesBefore}`);
      await using own = await EmbeddingCollection.create(backend, tables);
      if (updatesBefore) await own.updateRows(0, rows, updated);
      change(file);
      const changed = { code: 'FILE_CHANGED' };
      await assert.rejects(own.updateRows(0, rows, updated), changed);
      await assert.rejects(own.readRows(0, every), changed);
      await assert.rejects(own.readRows(1, every), changed);
    });
  }
}

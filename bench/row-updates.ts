/**
 * How long updates of rows take beyond the copy of their values, and what lookups notice of them:
 * `npx tsx bench/row-updates.ts [--device cuda] [--rows 4000000] [--dim 128] [--updates 1,1000,100000,1000000] [--repeats 7] [--json FILE]`.
 * The copy: the same values, uploaded by a program. Every update is read back and compared before it counts.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { matrix } from '../src/backend/backend.ts';
import { timing } from '../src/bench/statistics.ts';
import { syntheticTables } from '../src/bench/synthetic-model.ts';
import { EmbeddingCollection, openBackend } from '../src/index.ts';
import { createRandom } from '../src/workload/random.ts';

const { values: options } = parseArgs({
  options: {
    device: { type: 'string', default: 'cpu' },
    rows: { type: 'string', default: '4000000' },
    dim: { type: 'string', default: '128' },
    updates: { type: 'string', default: '1,1000,100000,1000000' },
    repeats: { type: 'string', default: '7' },
    json: { type: 'string' },
  },
});
const [rows, dim, repeats] = [Number(options.rows), Number(options.dim), Number(options.repeats)];
const WARM_REPEATS = 2;
/** Compiled and captured by then. */
const WARM_LOOKUPS = 50;
const LOOKUPS = 32;
const BATCH = 64;

const { backend } = openBackend({ device: options.device });
const tables = syntheticTables({ tables: 1, rows, dim, rowFormat: 'float32' });
await using collection = await EmbeddingCollection.create(backend, tables);
const random = createRandom(1);
const any = (count: number) => Int32Array.from({ length: count }, () => Math.floor(random.float() * rows));

async function msOf(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

/** Seconds of `work`, some of them not counted. */
async function times(work: () => Promise<unknown>): Promise<number[]> {
  const all: number[] = [];
  for (let i = 0; i < WARM_REPEATS + repeats; i++) all.push(await msOf(work));
  return all.slice(WARM_REPEATS);
}

const batch = {
  batchSize: BATCH,
  bags: [
    { indices: any(BATCH * LOOKUPS), offsets: Int32Array.from({ length: BATCH }, (_, b) => b * LOOKUPS) },
  ],
};
for (let i = 0; i < WARM_LOOKUPS; i++) await collection.forward(batch);
const forwardMs = timing(await times(() => collection.forward(batch)));

const measured: unknown[] = [];
for (const count of options.updates.split(',').map(Number)) {
  const numbers = any(count);
  const values = Float32Array.from({ length: count * dim }, (_, i) => i % 1009);
  using buffer = backend.allocate(count * dim);
  const program = backend.prepare([{ op: 'upload', source: 'values', output: matrix(buffer, count, dim) }]);
  const copies = await times(() => program.run({ values }, { timing: 'none' }));
  program[Symbol.dispose]();
  const updates = await times(() => collection.updateRows(0, numbers, values));
  // The last of equal numbers counts.
  const last = new Map(Array.from(numbers, (row, i) => [row, i]));
  const sample = Int32Array.from([...last.keys()].slice(0, 1000));
  const read = await collection.readRows(0, sample);
  for (const [s, row] of sample.entries()) {
    const i = last.get(row) as number;
    assert.deepEqual(read.slice(s * dim, (s + 1) * dim), values.slice(i * dim, (i + 1) * dim), `row ${row}`);
  }
  // Lookups one after the other while an update is on its way.
  const besideMs: number[] = [];
  let isUpdating = true;
  const updating = collection.updateRows(0, numbers, values).finally(() => {
    isUpdating = false;
  });
  while (isUpdating) besideMs.push(await msOf(() => collection.forward(batch)));
  await updating;
  const [copyMs, updateMs] = [timing(copies), timing(updates)];
  measured.push({
    rows: count,
    bytes: values.byteLength,
    copyMs,
    updateMs,
    beyondCopyMs: updateMs.medianMs - copyMs.medianMs,
    lookupsBeside: besideMs.length,
    lookupsBesideMs: timing(besideMs),
  });
}
const result = {
  createdAt: new Date().toISOString(),
  device: backend.device,
  table: { rows, dim, rowFormat: 'float32' },
  protocol: `wall clock of whole calls, ${repeats} after ${WARM_REPEATS} that are not counted; random rows, pageable arrays; lookups: ${BATCH} bags of ${LOOKUPS}`,
  forwardMs,
  updates: measured,
};
console.log(JSON.stringify(result, null, 2));
if (options.json !== undefined) await writeFile(options.json, `${JSON.stringify(result, null, 2)}\n`);
await collection.close();
backend[Symbol.dispose]();

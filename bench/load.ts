/**
 * How long a checkpoint with one large table takes to load, and what it costs in memory:
 * `npx tsx bench/load.ts [--gib 4] [--json FILE]`. Writes the checkpoint to the temporary folder and deletes it.
 */
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { loadModel } from '../src/index.ts';

const { values } = parseArgs({
  options: { gib: { type: 'string', default: '4' }, json: { type: 'string' } },
});
const DIM = 128;
const rows = (Number(values.gib) * 2 ** 30) / (DIM * 4);

const folder = await mkdtemp(join(tmpdir(), 'hotrow-load-'));
try {
  const file = join(folder, 'model.safetensors');
  await writeCheckpoint(file);
  const began = performance.now();
  const model = await loadModel(file);
  const loaded = performance.now();
  const last = { indices: BigInt64Array.of(BigInt(rows - 1)), offsets: BigInt64Array.of(0n) };
  await model.predict({ batchSize: 1, denseFeatures: 4, dense: new Float32Array(4), bags: [last] });
  const predicted = performance.now();
  const result = {
    createdAt: new Date().toISOString(),
    device: model.device,
    tableBytes: rows * DIM * 4,
    loadMs: loaded - began,
    firstPredictionMs: predicted - loaded,
    residentBytes: process.memoryUsage().rss,
  };
  await model.close();
  console.log(JSON.stringify(result, null, 2));
  if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(result, null, 2)}\n`);
} finally {
  await rm(folder, { recursive: true });
}

/** A DLRM with one table of `rows` rows, every byte written: no sparse file. */
async function writeCheckpoint(file: string): Promise<void> {
  const shapes: Record<string, number[]> = {
    'emb_l.0.weight': [rows, DIM],
    'bot_l.0.weight': [DIM, 4],
    'bot_l.0.bias': [DIM],
    'top_l.0.weight': [1, DIM + 1],
    'top_l.0.bias': [1],
  };
  let end = 0;
  const entries = Object.entries(shapes).map(([name, shape]) => {
    const begin = end;
    end += shape.reduce((product, extent) => product * extent, 4);
    return [name, { dtype: 'F32', shape, data_offsets: [begin, end] }];
  });
  const header = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(header.length));
  const handle = await open(file, 'w');
  await handle.write(prefix);
  await handle.write(header);
  const chunk = Buffer.alloc(64 << 20, 1);
  for (let left = end; left > 0; left -= chunk.length)
    await handle.write(chunk.subarray(0, Math.min(left, chunk.length)));
  await handle.close();
}

/**
 * The fused kernel on short bags of narrow rows: `node --import tsx bench/cuda-kernels/short-bags.ts OUT.json [--rounds 8]`. Each
 * variant in turns, µs of a launch with launches back to back, and the share of the speed of light; then what bounds the
 * fastest, the first variant beside it: the same bags with a part of the work taken away.
 *
 *   random      rows drawn uniformly
 *   one row     all lookups of one row a table: rows come from L1; what is left is instructions, indices, offsets, outputs
 *   in a row    rows one behind the other: memory is read in its own order, and few pages at once
 *   no lookups  empty bags: offsets and outputs alone
 *   one bag     a single sample: a launch
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { at } from '../../src/at.ts';
import { measureCeilings } from '../../src/backend/cuda/ceilings.ts';
import { syntheticTables } from '../../src/bench/synthetic-model.ts';
import type { CudaKernel } from '../../src/cuda/module.ts';
import type { BagBatch, EmbeddingTable } from '../../src/embedding/bag.ts';
import { quantile } from '../../src/tuner/quantile.ts';
import { trafficOf } from '../../src/workload/batch-traffic.ts';
import { createRandom } from '../../src/workload/random.ts';
import {
  device,
  environment,
  kernelOf,
  kernels,
  launchUs,
  type Placed,
  place,
  type Setting,
  stream,
} from './fused-launches.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: 'string', default: '8' }, rows: { type: 'string', default: '500000' } },
});
const [out] = positionals;
if (out === undefined) throw new Error('name a file for the results');
const ROUNDS = Number(values.rounds);
const ROWS = Number(values.rows);
const BATCHES = 4;
/** Launches of each batch in a pair of events. */
const TIMES = 5;

interface Shape {
  readonly name: string;
  readonly rowFormat: 'float16' | 'float32';
  readonly dim: number;
  readonly bag: number;
  readonly batch: number;
  /** The first is what a plan with register prefetch of 8 rows ran before there were longer turns. */
  readonly settings: readonly Setting[];
}

const settings = (base: Partial<Setting>, ...changes: readonly Partial<Setting>[]): Setting[] =>
  changes.map((change) => ({ inFlight: 8, threads: 128, ...base, ...change }));

const SHAPES: readonly Shape[] = [
  {
    name: '100 tables × 32 float16, bags of 10, batch 2,048',
    ...{ rowFormat: 'float16', dim: 32, bag: 10, batch: 2048 },
    settings: [
      ...settings({}, {}, { pipelined: true, inFlight: 4 }, { threads: 64 }, { threads: 256 }),
      ...[1, 2, 4, 8].flatMap((bagsPerGroup) =>
        settings({ bagsPerGroup }, { inFlight: 4 }, { turn: 8, inFlight: 4 }, { turn: 8 }, { turn: 16 }),
      ),
      ...settings({ turn: 16 }, { inFlight: 16 }, { inFlight: 4 }, { inFlight: 4, pipelined: true }),
      ...[8, 4].flatMap((laneBytes) =>
        settings({ laneBytes }, { bagsPerGroup: 1 }, { bagsPerGroup: 2 }, { bagsPerGroup: 4, turn: 16 }),
      ),
    ],
  },
  {
    name: '100 tables × 64 float32, bags of 20, batch 256',
    ...{ rowFormat: 'float32', dim: 64, bag: 20, batch: 256 },
    settings: [
      ...settings({}, {}, { inFlight: 4 }, { inFlight: 16 }, { inFlight: 4, pipelined: true }),
      ...settings({}, { threads: 32 }, { threads: 64 }, { threads: 256 }),
      ...settings({ turn: 32 }, {}, { inFlight: 4 }, { inFlight: 16 }, { threads: 64 }, { threads: 32 }),
      ...settings({ turn: 32, bagsPerGroup: 2 }, {}, { inFlight: 4 }, { threads: 64 }),
      ...settings({ laneBytes: 8 }, {}, { inFlight: 16 }, { threads: 64 }),
    ],
  },
];

/** Batches over equal tables, each with rows of its own. */
function batchesOf({ bag, batch }: Shape, tables: number, rowOf: (lookup: number) => number): BagBatch[] {
  return Array.from({ length: BATCHES }, () => ({
    batchSize: batch,
    bags: Array.from({ length: tables }, () => ({
      indices: Int32Array.from({ length: bag * batch }, (_, lookup) => rowOf(lookup)),
      offsets: Int32Array.from({ length: batch }, (_, b) => b * bag),
    })),
  }));
}

interface Variant {
  readonly setting: Setting;
  readonly kernel: CudaKernel;
  readonly us: number[];
}

async function race(placed: Placed, all: readonly Setting[]): Promise<Variant[]> {
  const variants = await Promise.all(
    all.map(
      async (setting): Promise<Variant> => ({ setting, kernel: await kernelOf(placed, setting), us: [] }),
    ),
  );
  for (let round = -1; round < ROUNDS; round++)
    for (const { setting, kernel, us } of variants) {
      const own = await launchUs(placed, kernel, setting, TIMES);
      if (round >= 0) us.push(own);
    }
  return variants;
}

const medianOf = ({ us }: Variant) =>
  quantile(
    [...us].sort((a, b) => a - b),
    0.5,
  );

async function bounds(shape: Shape, tables: readonly EmbeddingTable[], compared: readonly Setting[]) {
  const random = createRandom(9);
  const kinds: Record<string, BagBatch[]> = {
    random: batchesOf(shape, tables.length, () => random.integer(ROWS)),
    'one row': batchesOf(shape, tables.length, () => 7),
    'in a row': batchesOf(shape, tables.length, (lookup) => lookup % ROWS),
    'no lookups': batchesOf({ ...shape, bag: 0 }, tables.length, () => 0),
    'one bag': batchesOf({ ...shape, batch: 1 }, tables.length, () => random.integer(ROWS)),
  };
  const found: Record<string, number[]> = {};
  for (const [kind, batches] of Object.entries(kinds)) {
    using placed = await place(tables, batches);
    // The layout's number of bags would differ with the bags.
    const variants = await race(placed, compared);
    found[kind] = variants.map(medianOf);
    console.log(`  ${kind}: ${found[kind].map((us) => `${us.toFixed(1)} µs`).join(' and ')}`);
  }
  return found;
}

const ceilings = await measureCeilings(device, stream, kernels);
const { readBytesPerSecond: memory, cacheReadBytesPerSecond: cache = memory } = ceilings;
const results: Record<string, unknown>[] = [];
for (const shape of SHAPES) {
  const { name, rowFormat, dim } = shape;
  const tables = syntheticTables({ tables: 100, rows: ROWS, dim, rowFormat });
  const random = createRandom(9);
  const batches = batchesOf(shape, tables.length, () => random.integer(ROWS));
  const { distinctRowBytes, lookupRowBytes, otherBytes } = trafficOf(at(batches, 0), tables);
  const limitUs =
    1e6 * Math.max((distinctRowBytes + otherBytes) / memory, (lookupRowBytes + otherBytes) / cache);
  console.log(`${name}: at least ${limitUs.toFixed(1)} µs`);
  using placed = await place(tables, batches);
  const variants = await race(placed, shape.settings);
  const sorted = [...variants].sort((a, b) => medianOf(a) - medianOf(b));
  const told = sorted.map((variant) => {
    const us = medianOf(variant);
    const { registers } = variant.kernel.resources;
    return { ...variant.setting, registers, medianUs: us, limitShare: limitUs / us };
  });
  for (const { medianUs, limitShare, ...setting } of told)
    console.log(
      `  ${medianUs.toFixed(1)} µs, ${(100 * limitShare).toFixed(1)} %: ${JSON.stringify(setting)}`,
    );
  const bagsPerGroup = placed.bags[0]?.fused.layout.bagsPerGroup ?? 1;
  const compared = [at(sorted, 0).setting, at(shape.settings, 0)].map((setting) => ({
    bagsPerGroup,
    ...setting,
  }));
  results.push({ name, limitUs, variants: told, bounds: await bounds(shape, tables, compared) });
}
const command = `node --import tsx bench/cuda-kernels/short-bags.ts ${process.argv.slice(2).join(' ')}`;
writeFileSync(out, `${JSON.stringify({ ...environment, command, results }, null, 2)}\n`);
device[Symbol.dispose]();

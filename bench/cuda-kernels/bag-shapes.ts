/**
 * The fused kernel on bags that are unlike the paper's: `node --import tsx bench/cuda-kernels/bag-shapes.ts OUT.json`. One
 * bag of 100,000 lookups among 2,047 of 10, beside the same lookups spread evenly; a thousand small tables in one launch.
 * µs of a launch, launches back to back, over rows in flight and threads of a block.
 */
import { writeFileSync } from 'node:fs';
import { syntheticModel, syntheticTables } from '../../src/bench/synthetic-model.ts';
import { patternWorkload } from '../../src/bench/workload.ts';
import type { BagBatch, Bags } from '../../src/embedding/bag.ts';
import { addressOf } from '../../src/ffi/host-memory.ts';
import { quantile } from '../../src/tuner/quantile.ts';
import { createRandom } from '../../src/workload/random.ts';
import {
  device,
  environment,
  kernelOf,
  launchUs,
  type Placed,
  place,
  type Setting,
  stream,
} from './fused-launches.ts';

const [out] = process.argv.slice(2);
if (out === undefined) throw new Error('name a file for the results');

const REPEATS = 12;

interface Measured extends Setting {
  readonly registers: number;
  readonly localBytes: number;
  readonly medianUs: number;
  readonly minUs: number;
}

/** µs of a launch over all tables: several launches in one pair of events, several times. */
async function measure(
  placed: Placed,
  setting: Setting,
): Promise<Measured | ({ readonly failed: string } & Setting)> {
  try {
    const kernel = await kernelOf(placed, setting);
    const samples: number[] = [];
    for (let repeat = -2; repeat < REPEATS; repeat++) {
      const us = await launchUs(placed, kernel, setting);
      if (repeat >= 0) samples.push(us);
    }
    samples.sort((a, b) => a - b);
    const { registers, localBytes } = kernel.resources;
    return {
      ...setting,
      registers,
      localBytes,
      medianUs: quantile(samples, 0.5),
      minUs: quantile(samples, 0),
    };
  } catch (error) {
    return { ...setting, failed: (error as Error).message };
  }
}

async function pooledOf(placed: Placed, setting: Setting): Promise<Float32Array> {
  await measure(placed, setting);
  const host = new Float32Array(placed.output.bytes / 4);
  stream.copyToHost(addressOf(host), placed.output.address(), host.byteLength);
  await stream.finished();
  return host;
}

/** Where results differ by more than another order of additions can bring about; bags cut into segments have one. */
function differenceOf(pooled: Float32Array, reference: Float32Array): number {
  return pooled.findIndex((value, i) => !(Math.abs(value - (reference[i] as number)) <= 1e-2));
}

const results: Record<string, unknown>[] = [];

async function measureAll(pattern: string, placed: Placed, settings: readonly Setting[]): Promise<void> {
  const reference = await pooledOf(placed, { inFlight: 1, threads: 128 });
  for (const setting of settings) {
    const differs = differenceOf(await pooledOf(placed, setting), reference);
    if (differs >= 0) throw new Error(`${pattern}: ${JSON.stringify(setting)} differs at ${differs}`);
    results.push({ pattern, ...(await measure(placed, setting)) });
  }
}

/** Bags of given lengths over one table, rows drawn uniformly. */
function oneTable(lengths: readonly number[]): BagBatch[] {
  const random = createRandom(5);
  return Array.from({ length: 4 }, () => {
    let end = 0;
    const offsets = BigInt64Array.from(lengths, (length) => {
      end += length;
      return BigInt(end - length);
    });
    const indices = BigInt64Array.from({ length: end }, () => BigInt(random.integer(500_000)));
    const bags: Bags = { indices, offsets };
    return { batchSize: lengths.length, bags: [bags] };
  });
}
const one = syntheticTables({ tables: 1, rows: 500_000, dim: 128, rowFormat: 'float32' });
const lookups = 2047 * 10 + 100_000;
const even = Array.from(
  { length: 2048 },
  (_, b) => Math.floor(((b + 1) * lookups) / 2048) - Math.floor((b * lookups) / 2048),
);
const skewed = Array.from({ length: 2048 }, (_, b) => (b === 777 ? 100_000 : 10));
for (const [pattern, lengths] of [
  ['even bags', even],
  ['one bag of 100,000 among 2,047 of 10', skewed],
] as const) {
  using placed = await place(one, oneTable(lengths));
  const flights = [{ inFlight: 8 }, { inFlight: 16 }, { inFlight: 8, pipelined: true }];
  const settings = flights.flatMap((flight) => [128, 256].map((threads) => ({ ...flight, threads })));
  await measureAll(pattern, placed, settings);
}
for (const dim of [16, 64, 128]) {
  const small = syntheticTables({ tables: 1000, rows: 1000, dim, rowFormat: 'float32' });
  const shape = { architecture: syntheticModel(small), batchSize: 128, bagLengths: '3', batches: 4, seed: 1 };
  using placed = await place(small, patternWorkload('random', shape).embedding.batches);
  const flights = [1, 2, 4, 8].flatMap((inFlight) => [{ inFlight }, { inFlight, pipelined: true }]);
  const settings = flights.flatMap((flight) => [64, 128, 256].map((threads) => ({ ...flight, threads })));
  await measureAll(`1,000 tables of 1,000 × ${dim}`, placed, settings);
}

const command = 'node --import tsx bench/cuda-kernels/bag-shapes.ts h200-bag-shapes.json';
writeFileSync(out, `${JSON.stringify({ ...environment, command, results })}\n`);
device[Symbol.dispose]();

/**
 * The fused kernel on bags that are unlike the paper's: `node --import tsx bench/cuda-kernels/bag-shapes.ts OUT.json`. One
 * bag of 100,000 lookups among 2,047 of 10, beside the same lookups spread evenly; a thousand small tables in one launch.
 * µs of a launch, launches back to back, over rows in flight and threads of a block.
 */
import { writeFileSync } from 'node:fs';
import { CudaBags } from '../../src/backend/cuda/embedding/bags.ts';
import { blocksPerTable } from '../../src/backend/cuda/embedding/fused-layout.ts';
import { FusedBagsParams } from '../../src/backend/cuda/embedding/fused-params.ts';
import { fusedSource } from '../../src/backend/cuda/embedding/fused-source.ts';
import { placeTables } from '../../src/backend/cuda/embedding/tables.ts';
import { launch } from '../../src/backend/cuda/kernels/launcher.ts';
import { KernelLibrary } from '../../src/backend/cuda/kernels/library.ts';
import { InFlight } from '../../src/backend/in-flight.ts';
import { syntheticModel, syntheticTables } from '../../src/bench/synthetic-model.ts';
import { patternWorkload } from '../../src/bench/workload.ts';
import { BlockPool } from '../../src/cuda/block-pool.ts';
import { CudaDevice } from '../../src/cuda/device.ts';
import { cudaDriver, describe } from '../../src/cuda/discover.ts';
import { CudaEvent } from '../../src/cuda/event.ts';
import { DeviceMemory } from '../../src/cuda/memory.ts';
import type { CudaKernel } from '../../src/cuda/module.ts';
import { CudaStream } from '../../src/cuda/stream.ts';
import type { BagBatch, Bags, EmbeddingTable } from '../../src/embedding/bag.ts';
import { addressOf } from '../../src/ffi/host-memory.ts';
import { Nvrtc } from '../../src/ffi/nvrtc.ts';
import { KernelCache } from '../../src/jit/kernel-cache.ts';
import { plainPlan } from '../../src/plan/plan.ts';
import { quantile } from '../../src/tuner/quantile.ts';
import { createRandom } from '../../src/workload/random.ts';

const [out] = process.argv.slice(2);
if (out === undefined) throw new Error('name a file for the results');

const REPEATS = 12;

const driver = cudaDriver();
const device = new CudaDevice(driver);
const stream = new CudaStream(device);
const compiler = new Nvrtc({ majorVersion: Math.floor(driver.version / 1000) });
const kernels = new KernelLibrary(device, compiler, new KernelCache());
const tools = { device, stream, kernels };
const pools = { device: BlockPool.ofDevice(device, 2 ** 32), pinned: BlockPool.ofPinned(device, 2 ** 30) };
const inFlight = new InFlight('the GPU', () => device[Symbol.dispose]());
const events = [new CudaEvent(device, { timing: true }), new CudaEvent(device, { timing: true })] as const;

interface Setting {
  readonly inFlight: number;
  readonly pipelined?: boolean;
  readonly threads: number;
}

interface Measured extends Setting {
  readonly registers: number;
  readonly localBytes: number;
  readonly medianUs: number;
  readonly minUs: number;
}

/** Batches on the device, ready to be launched in rotation. */
async function place(tables: readonly EmbeddingTable[], batches: readonly BagBatch[]) {
  const placed = await placeTables({ ...tools, aside: stream, pools, inFlight }, tables, plainPlan('cuda'));
  const bags = batches.map((batch) => new CudaBags(placed, batch, pools));
  for (const one of bags) {
    await one.stage();
    one.upload(stream);
  }
  const width = tables.reduce((sum, { dim }) => sum + dim, 0);
  const output = new DeviceMemory(device, (batches[0]?.batchSize ?? 0) * width * 4);
  await stream.finished();
  return {
    tables,
    bags,
    output,
    width,
    [Symbol.dispose]() {
      for (const one of bags) one[Symbol.dispose]();
      output[Symbol.dispose]();
      placed[Symbol.dispose]();
    },
  };
}
type Placed = Awaited<ReturnType<typeof place>>;

function enqueue({ bags, output, width }: Placed, turn: number, kernel: CudaKernel, setting: Setting) {
  const batch = bags[turn % bags.length] as CudaBags;
  const { fused, batchSize, tableCount, total } = batch;
  const { threads } = setting;
  const perTable = blocksPerTable(
    batch.kinds.shapes.map((shape) => ({ count: batchSize, shape })),
    fused.layout.bagsPerGroup,
    threads,
  );
  const words = FusedBagsParams.encode({
    tables: fused.tables,
    batch: batchSize,
    blocksPerTable: perTable,
    bagsPerGroup: fused.layout.bagsPerGroup,
    output: output.address(),
    outputStride: width,
    findings: total,
    split: fused.layout.split,
    segments: fused.segments,
    segmentCount: fused.layout.segments.length,
    partials: fused.partials,
    partialWidth: fused.layout.partialWidth,
    arrivals: fused.arrivals,
    users: 0,
    userOutput: 0,
    userOutputStride: 0,
  });
  launch(stream, kernel, words, [fused.layout.segments.length + tableCount * perTable], [threads]);
}

function kernelOf({ bags }: Placed, setting: Setting): Promise<CudaKernel> {
  const [first] = bags as [CudaBags];
  return kernels.get(
    fusedSource({
      kinds: first.kinds.distinct,
      checking: 'stop',
      splits: bags.some(({ fused }) => fused.layout.segments.length > 0),
      several: first.fused.layout.bagsPerGroup > 1,
      flight: { rows: setting.inFlight, pipelined: setting.pipelined ?? false },
      threads: setting.threads,
    }),
  );
}

/** µs of a launch over all tables: several launches in one pair of events, several times. */
async function measure(
  placed: Placed,
  setting: Setting,
): Promise<Measured | ({ readonly failed: string } & Setting)> {
  try {
    const kernel = await kernelOf(placed, setting);
    const samples: number[] = [];
    const each = placed.bags.length;
    for (let repeat = -2; repeat < REPEATS; repeat++) {
      events[0].record(stream);
      for (let i = 0; i < each; i++) enqueue(placed, i, kernel, setting);
      events[1].record(stream);
      await events[1].wait();
      if (repeat >= 0) samples.push((events[1].msSince(events[0]) * 1e3) / each);
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

const environment = { createdAt: new Date().toISOString(), device: describe(driver, device.properties) };
const command = 'node --import tsx bench/cuda-kernels/bag-shapes.ts h200-bag-shapes.json';
writeFileSync(out, `${JSON.stringify({ ...environment, command, results })}\n`);
device[Symbol.dispose]();

/**
 * The fused kernel over its variants: `node --import tsx bench/cuda-kernels/fused-grid.ts OUT.json [TRACES [FORMATS]]`.
 * Rows in flight, bytes of a row a lane, threads of a block, row formats and index widths, on the paper's tables, in µs per table with
 * launches back to back; skewed bags; a thousand small tables. TRACES: a folder with med_hot.500K.txt and
 * low_hot.500K.txt, else drawn patterns stand for them.
 */
import { writeFileSync } from 'node:fs';
import { CudaBags } from '../../src/backend/cuda/bags.ts';
import { blocksPerTable } from '../../src/backend/cuda/fused-layout.ts';
import {
  type FusedKind,
  type FusedVariant,
  fusedShape,
  fusedSource,
} from '../../src/backend/cuda/fused-source.ts';
import { KernelLibrary } from '../../src/backend/cuda/kernel-library.ts';
import { encodeFusedBags } from '../../src/backend/cuda/kernel-params.ts';
import { launch } from '../../src/backend/cuda/launcher.ts';
import { placeTables } from '../../src/backend/cuda/placement.ts';
import { syntheticModel, syntheticTables } from '../../src/bench/synthetic-model.ts';
import { patternWorkload, traceWorkload } from '../../src/bench/workload.ts';
import { BlockPool } from '../../src/cuda/block-pool.ts';
import { CudaDevice } from '../../src/cuda/device.ts';
import { cudaDriver, describe } from '../../src/cuda/discover.ts';
import { CudaEvent } from '../../src/cuda/event.ts';
import { DeviceMemory } from '../../src/cuda/memory.ts';
import type { CudaKernel } from '../../src/cuda/module.ts';
import { CudaStream } from '../../src/cuda/stream.ts';
import {
  type BagBatch,
  type Bags,
  type EmbeddingTable,
  ROW_FORMATS,
  type RowFormat,
} from '../../src/embedding/bag.ts';
import { plainPlan } from '../../src/embedding/plan.ts';
import { isQuantized } from '../../src/embedding/row-format.ts';
import { addressOf } from '../../src/ffi/host-memory.ts';
import { Nvrtc } from '../../src/ffi/nvrtc.ts';
import { KernelCache } from '../../src/jit/kernel-cache.ts';
import { quantile } from '../../src/tuner/quantile.ts';
import { createRandom } from '../../src/workload/random.ts';

const [out, traces, formats = ROW_FORMATS.join()] = process.argv.slice(2);
if (out === undefined) throw new Error('name a file for the results');

const TABLES = 12;
const BATCH = 2048;
const POOLING = 150;
const REPEATS = 12;

const driver = cudaDriver();
const device = new CudaDevice(driver);
const stream = new CudaStream(device);
const compiler = new Nvrtc({ majorVersion: Math.floor(driver.version / 1000) });
const kernels = new KernelLibrary(device, compiler, new KernelCache());
const tools = { device, stream, kernels };
const pools = { device: BlockPool.ofDevice(device, 2 ** 32), pinned: BlockPool.ofPinned(device, 2 ** 30) };
const events = [new CudaEvent(device, { timing: true }), new CudaEvent(device, { timing: true })] as const;

interface Setting {
  readonly inFlight: number;
  readonly pipelined?: boolean;
  readonly threads: number;
  readonly laneBytes?: number;
  readonly checking?: FusedVariant['checking'];
}

interface Measured extends Setting {
  readonly registers: number;
  readonly localBytes: number;
  readonly medianUs: number;
  readonly minUs: number;
}

/** Batches on the device, ready to be launched in rotation. */
async function place(tables: readonly EmbeddingTable[], batches: readonly BagBatch[]) {
  const placed = await placeTables(tools, tables, plainPlan('cuda'));
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
  const shapes = kindsOf(batch, setting).map(fusedShape);
  const perTable = blocksPerTable({ batchSize, shapes }, fused.bagsPerGroup, threads);
  const words = encodeFusedBags({
    tables: fused.tables,
    batch: batchSize,
    blocksPerTable: perTable,
    bagsPerGroup: fused.bagsPerGroup,
    output: output.address(),
    outputStride: width,
    findings: total,
    split: fused.split,
    segments: fused.segmentArray,
    segmentCount: fused.segments.length,
    partials: fused.partials,
    partialWidth: fused.partialWidth,
    arrivals: fused.arrivalCounters,
  });
  launch(stream, kernel, words, [fused.segments.length + tableCount * perTable], [threads]);
}

function kindsOf({ kinds }: CudaBags, { laneBytes }: Setting): FusedKind[] {
  return kinds.distinct.map((kind) => ({ ...kind, ...(laneBytes === undefined ? {} : { laneBytes }) }));
}

function kernelOf({ bags }: Placed, setting: Setting): Promise<CudaKernel> {
  const [first] = bags as [CudaBags];
  return kernels.get(
    fusedSource({
      kinds: kindsOf(first, setting),
      checking: setting.checking ?? 'stop',
      splits: bags.some(({ fused }) => fused.segments.length > 0),
      several: first.fused.bagsPerGroup > 1,
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

const workloads = async (rowFormat: RowFormat): Promise<[string, readonly BagBatch[]][]> => {
  const tables = syntheticTables({ tables: TABLES, rows: 500_000, dim: 128, rowFormat });
  const shape = {
    architecture: syntheticModel(tables),
    batchSize: BATCH,
    bagLengths: `${POOLING}`,
    batches: 4,
    seed: 1,
  };
  const drawn = (pattern: Parameters<typeof patternWorkload>[0]) =>
    patternWorkload(pattern, shape).embedding.batches;
  const traced = async (pattern: 'med_hot' | 'low_hot') =>
    traces === undefined
      ? drawn(pattern)
      : (await traceWorkload(`${traces}/${pattern}.500K.txt`, shape)).workload.embedding.batches;
  return [
    ['one_item', drawn('one_item')],
    ['high_hot', drawn('high_hot')],
    ['med_hot', await traced('med_hot')],
    ['low_hot', await traced('low_hot')],
    ['random', drawn('random')],
  ];
};

const narrow = (batches: readonly BagBatch[]): BagBatch[] =>
  batches.map(({ batchSize, bags }) => ({
    batchSize,
    bags: bags.map(({ indices, offsets }) => ({
      indices: Int32Array.from(indices as BigInt64Array, Number),
      offsets: Int32Array.from(offsets as BigInt64Array, Number),
    })),
  }));

const flights = [
  { inFlight: 4 },
  { inFlight: 8 },
  { inFlight: 16 },
  { inFlight: 4, pipelined: true },
  { inFlight: 8, pipelined: true },
];
const settings: Setting[] = flights.flatMap((flight) =>
  [{}, { laneBytes: 8 }, { laneBytes: 4 }].flatMap((lanes) =>
    [64, 128, 256].map((threads) => ({ ...flight, ...lanes, threads })),
  ),
);

/** Where results differ; biases of scaled rows may be added in another order. */
function differenceOf(pooled: Float32Array, reference: Float32Array, rowFormat: RowFormat): number {
  const slack = isQuantized(rowFormat) ? 1e-3 : 0;
  return pooled.findIndex((value, i) => !(Math.abs(value - (reference[i] as number)) <= slack));
}

const results: Record<string, unknown>[] = [];
const loads = await workloads('float32');
for (const rowFormat of formats.split(',') as RowFormat[]) {
  const tables = syntheticTables({ tables: TABLES, rows: 500_000, dim: 128, rowFormat });
  for (const [pattern, batches] of loads) {
    using placed = await place(tables, batches);
    // Compiled side by side; what fails says so when it is measured.
    await Promise.allSettled(settings.map((setting) => kernelOf(placed, setting)));
    const reference = await pooledOf(placed, { inFlight: 1, threads: 256 });
    for (const setting of settings) {
      const pooled = setting.threads === 128 ? await pooledOf(placed, setting) : reference;
      const differs = differenceOf(pooled, reference, rowFormat);
      if (differs >= 0) throw new Error(`${JSON.stringify(setting)} differs at ${differs}`);
      const measured = await measure(placed, setting);
      results.push({ rowFormat, index: 'int64', pattern, perTable: TABLES, ...measured });
    }
    for (const checking of ['none'] as const) {
      const measured = await measure(placed, { inFlight: 8, threads: 128, checking });
      results.push({ rowFormat, index: 'int64', pattern, perTable: TABLES, ...measured });
    }
    if (rowFormat !== 'float32') continue;
    using thin = await place(tables, narrow(batches));
    for (const inFlight of [8, 16]) {
      const measured = await measure(thin, { inFlight, threads: 128 });
      results.push({ rowFormat, index: 'int32', pattern, perTable: TABLES, ...measured });
    }
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
  for (const flight of [{ inFlight: 8 }, { inFlight: 16 }, { inFlight: 8, pipelined: true }]) {
    for (const threads of [128, 256]) {
      results.push({
        rowFormat: 'float32',
        index: 'int64',
        pattern,
        perTable: 1,
        ...(await measure(placed, { ...flight, threads })),
      });
    }
  }
}
for (const dim of [16, 64, 128]) {
  const small = syntheticTables({ tables: 1000, rows: 1000, dim, rowFormat: 'float32' });
  const shape = { architecture: syntheticModel(small), batchSize: 128, bagLengths: '3', batches: 4, seed: 1 };
  using placed = await place(small, patternWorkload('random', shape).embedding.batches);
  for (const flight of [1, 2, 4, 8].flatMap((inFlight) => [{ inFlight }, { inFlight, pipelined: true }])) {
    for (const threads of [64, 128, 256]) {
      const measured = await measure(placed, { ...flight, threads });
      results.push({
        rowFormat: 'float32',
        index: 'int64',
        pattern: `1,000 tables of 1,000 × ${dim}`,
        perTable: 1,
        ...measured,
      });
    }
  }
}

const environment = { createdAt: new Date().toISOString(), device: describe(driver, device.properties) };
const command = 'node --import tsx bench/cuda-kernels/fused-grid.ts h200-fused-grid.json TRACES';
writeFileSync(out, `${JSON.stringify({ ...environment, command, results })}\n`);
device[Symbol.dispose]();

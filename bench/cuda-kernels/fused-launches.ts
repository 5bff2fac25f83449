/** Launches of the fused kernel by themselves, over tables and bags that are on the GPU: for measurements of its variants. */
import { CudaBags } from '../../src/backend/cuda/embedding/bags.ts';
import { blocksPerTable } from '../../src/backend/cuda/embedding/fused-layout.ts';
import { FusedBagsParams } from '../../src/backend/cuda/embedding/fused-params.ts';
import { fusedShape, fusedSource } from '../../src/backend/cuda/embedding/fused-source.ts';
import { placeTables } from '../../src/backend/cuda/embedding/tables.ts';
import { launch } from '../../src/backend/cuda/kernels/launcher.ts';
import { KernelLibrary } from '../../src/backend/cuda/kernels/library.ts';
import { InFlight } from '../../src/backend/in-flight.ts';
import { BlockPool } from '../../src/cuda/block-pool.ts';
import { CudaDevice } from '../../src/cuda/device.ts';
import { cudaDriver, describe } from '../../src/cuda/discover.ts';
import { CudaEvent } from '../../src/cuda/event.ts';
import { DeviceMemory } from '../../src/cuda/memory.ts';
import type { CudaKernel } from '../../src/cuda/module.ts';
import { CudaStream } from '../../src/cuda/stream.ts';
import type { BagBatch, EmbeddingTable } from '../../src/embedding/bag.ts';
import { Nvrtc } from '../../src/ffi/nvrtc.ts';
import { KernelCache } from '../../src/jit/kernel-cache.ts';
import { plainPlan } from '../../src/plan/plan.ts';

const driver = cudaDriver();
export const device = new CudaDevice(driver);
export const stream = new CudaStream(device);
const compiler = new Nvrtc({ majorVersion: Math.floor(driver.version / 1000) });
export const kernels = new KernelLibrary(device, compiler, new KernelCache());
const pools = { device: BlockPool.ofDevice(device, 2 ** 32), pinned: BlockPool.ofPinned(device, 2 ** 30) };
const inFlight = new InFlight('the GPU', () => device[Symbol.dispose]());
const events = [new CudaEvent(device, { timing: true }), new CudaEvent(device, { timing: true })] as const;

/** Where and when a file of results was made. */
export const environment = {
  createdAt: new Date().toISOString(),
  device: describe(driver, device.properties),
};

/** A variant of the kernel, and how it is launched. */
export interface Setting {
  readonly inFlight: number;
  readonly pipelined?: boolean;
  readonly threads: number;
  /** Default: the group's lanes. */
  readonly turn?: number;
  /** Default: 16. */
  readonly laneBytes?: number;
  /** Default: the layout's. */
  readonly bagsPerGroup?: number;
}

/** Batches on the device, ready to be launched in rotation. */
export async function place(tables: readonly EmbeddingTable[], batches: readonly BagBatch[]) {
  const tools = { device, stream, kernels, aside: stream, pools, inFlight };
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
export type Placed = Awaited<ReturnType<typeof place>>;

function kindsOf({ bags }: Placed, { turn, laneBytes }: Setting) {
  const [first] = bags as [CudaBags];
  return first.kinds.distinct.map((kind) => ({
    ...kind,
    ...(turn === undefined ? {} : { turn }),
    ...(laneBytes === undefined ? {} : { laneBytes }),
  }));
}

const bagsPerGroupOf = ({ bags }: Placed, { bagsPerGroup }: Setting) =>
  bagsPerGroup ?? (bags[0] as CudaBags).fused.layout.bagsPerGroup;

/** The kernel of a setting. @throws CudaError KERNEL_COMPILE_FAILED. */
export function kernelOf(placed: Placed, setting: Setting): Promise<CudaKernel> {
  return kernels.get(
    fusedSource({
      kinds: kindsOf(placed, setting),
      checking: 'stop',
      splits: placed.bags.some(({ fused }) => fused.layout.segments.length > 0),
      several: bagsPerGroupOf(placed, setting) > 1,
      flight: { rows: setting.inFlight, pipelined: setting.pipelined ?? false },
      threads: setting.threads,
    }),
  );
}

function enqueue(placed: Placed, turn: number, kernel: CudaKernel, setting: Setting): void {
  const { bags, output, width } = placed;
  const batch = bags[turn % bags.length] as CudaBags;
  const { fused, batchSize, tableCount, total } = batch;
  const { threads } = setting;
  const bagsPerGroup = bagsPerGroupOf(placed, setting);
  const perTable = blocksPerTable(
    kindsOf(placed, setting).map((kind) => ({ count: batchSize, shape: fusedShape(kind) })),
    bagsPerGroup,
    threads,
  );
  const words = FusedBagsParams.encode({
    tables: fused.tables,
    batch: batchSize,
    blocksPerTable: perTable,
    bagsPerGroup,
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

/** µs of a launch over all tables: one of each batch back to back, in one pair of events, `times` times over. */
export async function launchUs(
  placed: Placed,
  kernel: CudaKernel,
  setting: Setting,
  times = 1,
): Promise<number> {
  const each = times * placed.bags.length;
  events[0].record(stream);
  for (let i = 0; i < each; i++) enqueue(placed, i, kernel, setting);
  events[1].record(stream);
  await events[1].wait();
  return (events[1].msSince(events[0]) * 1e3) / each;
}

/** GPUs that a report may be about without having one: NVIDIA's data sheets and architecture white papers. */
import type { RecordedDevice } from '../device.ts';
import { UsageError } from '../errors.ts';

interface GpuModel {
  readonly name: string;
  readonly computeCapability: readonly [major: number, minor: number];
  readonly multiprocessors: number;
  readonly l2MiB: number;
  readonly memoryGb: number;
}

const MODELS: readonly GpuModel[] = [
  { name: 'A100', computeCapability: [8, 0], multiprocessors: 108, l2MiB: 40, memoryGb: 80 },
  { name: 'A30', computeCapability: [8, 0], multiprocessors: 56, l2MiB: 24, memoryGb: 24 },
  { name: 'A10', computeCapability: [8, 6], multiprocessors: 72, l2MiB: 6, memoryGb: 24 },
  { name: 'L4', computeCapability: [8, 9], multiprocessors: 58, l2MiB: 48, memoryGb: 24 },
  { name: 'L40S', computeCapability: [8, 9], multiprocessors: 142, l2MiB: 96, memoryGb: 48 },
  { name: 'RTX 4090', computeCapability: [8, 9], multiprocessors: 128, l2MiB: 72, memoryGb: 24 },
  { name: 'H100', computeCapability: [9, 0], multiprocessors: 132, l2MiB: 50, memoryGb: 80 },
  { name: 'H200', computeCapability: [9, 0], multiprocessors: 132, l2MiB: 60, memoryGb: 141 },
  { name: 'B200', computeCapability: [10, 0], multiprocessors: 148, l2MiB: 126, memoryGb: 192 },
  { name: 'RTX 5090', computeCapability: [12, 0], multiprocessors: 170, l2MiB: 96, memoryGb: 32 },
];

export const GPU_NAMES: readonly string[] = MODELS.map(({ name }) => name);

export interface DescribedGpu {
  readonly name: string;
  readonly computeCapability: readonly [major: number, minor: number];
  readonly architecture: string;
  /** As plans are checked against it. */
  readonly device: RecordedDevice;
}

/** At most this share of L2 can be set aside for persisting accesses (CUDA C++ Programming Guide). */
const PERSISTING_SHARE = 0.75;
const WARP_THREADS = 32;

/** A GPU that is here. */
export function describedGpu(device: RecordedDevice): DescribedGpu {
  const [, major, minor] = /^sm_(\d+)(\d)/.exec(device.architecture) ?? [];
  return {
    name: device.name,
    computeCapability: [Number(major), Number(minor)],
    architecture: device.architecture,
    device,
  };
}

/** @throws UsageError USAGE for a name that is not known. */
export function describeGpu(name: string): DescribedGpu {
  const model = MODELS.find((known) => known.name.toLowerCase() === name.trim().toLowerCase());
  if (model === undefined) {
    throw new UsageError('USAGE', `the GPU ${name} is not known`, {
      hint: `known are ${GPU_NAMES.join(', ')}`,
    });
  }
  const { computeCapability, multiprocessors, l2MiB, memoryGb } = model;
  const architecture = `sm_${computeCapability.join('')}`;
  const l2Bytes = l2MiB * 2 ** 20;
  return {
    name: model.name,
    computeCapability,
    architecture,
    device: {
      kind: 'cuda',
      id: model.name,
      name: model.name,
      architecture,
      threads: multiprocessors * 64 * WARP_THREADS,
      memoryBytes: memoryGb * 1e9,
      versions: {},
      gpu: { multiprocessors, l2Bytes, persistingL2Bytes: Math.floor(PERSISTING_SHARE * l2Bytes) },
    },
  };
}

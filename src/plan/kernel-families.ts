/** The kernel families of GPUs: what plans, the tuner and the kernels' sources say alike of them. Pure. */
import type { KernelFamily } from './plan-context.ts';

interface GpuFamily {
  /** Of its file in kernels/cuda, and the first part of its variants' ids. */
  readonly id: string;
  /** Threads of a block, when a plan does not say. */
  readonly block: { readonly x: number; readonly y: number };
  /** Rows that a thread or group asks for at once, at most. */
  readonly mostInFlight: number;
  /** Registers of a thread without any technique, about. */
  readonly plainRegisters: number;
}

export const GPU_FAMILIES = {
  standard: { id: 'standard_bag', block: { x: 32, y: 8 }, mostInFlight: 16, plainRegisters: 18 },
  fused: { id: 'fused_bags', block: { x: 128, y: 1 }, mostInFlight: 32, plainRegisters: 44 },
  artifact: { id: 'artifact_bag', block: { x: 32, y: 8 }, mostInFlight: 16, plainRegisters: 48 },
} as const satisfies Record<KernelFamily, GpuFamily>;

/** Where prefetched rows wait. */
export type PrefetchBuffer = 'registers' | 'shared' | 'local' | 'l1' | 'pipelined';

/** What the techniques of a plan ask of a GPU's kernel. */
export interface KernelSettings {
  /** Of a block. */
  readonly threads: number;
  /** The compiler gives a thread no more; it spills what does not fit. */
  readonly maxRegisters?: number;
  /** Warps on a multiprocessor at once: the launch lets no more in. */
  readonly mostWarps?: number;
  /** `distance`: lookups ahead. */
  readonly prefetch?: { readonly into: PrefetchBuffer; readonly distance: number };
  /** Bytes of a row that a lane holds at most. */
  readonly laneBytes?: number;
  /** Lookups of a bag whose indices a group of lanes reads at once, where it has fewer lanes. */
  readonly turn?: number;
}

/** What a technique's parameters mean, beside themselves: a kernel family and the threads of its blocks. */
export interface KernelShape {
  readonly kernel: KernelFamily;
  readonly blockThreads: number;
}

/** A family's kernel in blocks as a plan, or else the family, has them. */
export function kernelShape({
  kernel = 'standard',
  blockThreads,
}: {
  readonly kernel?: KernelFamily;
  readonly blockThreads?: number | undefined;
}): KernelShape {
  const { x, y } = GPU_FAMILIES[kernel].block;
  return { kernel, blockThreads: blockThreads ?? x * y };
}

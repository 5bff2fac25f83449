/** Structs of CUDA's driver API, laid out as its header does on 64-bit systems. */

import type { DevicePtr, FunctionHandle } from './cuda-symbols.ts';
import type { HostPtr } from './host-memory.ts';

const STREAM_ATTRIBUTE_BYTES = 64;
const KERNEL_NODE_PARAMS_BYTES = 72;
const ACCESS_PROPERTY = { normal: 0, streaming: 1, persisting: 2 } as const;

/** A part of device memory whose lines stay in L2 while others come and go. */
export interface AccessPolicyWindow {
  readonly base: DevicePtr;
  readonly bytes: number;
  /** The share of the window's lines that persist. */
  readonly hitRatio: number;
  readonly hit: keyof typeof ACCESS_PROPERTY;
  readonly miss: 'normal' | 'streaming';
}

/** How a kernel is launched. */
export interface LaunchShape {
  /** Blocks. */
  readonly grid: readonly [x: number, y: number, z: number];
  /** Threads. */
  readonly block: readonly [x: number, y: number, z: number];
  /** Shared memory beyond what the kernel declares. */
  readonly dynamicSharedBytes: number;
}

/** A CUstreamAttrValue that holds a CUaccessPolicyWindow; undefined: the empty window. */
export function encodeAccessPolicyWindow(window: AccessPolicyWindow | undefined): Uint8Array {
  const value = new DataView(new ArrayBuffer(STREAM_ATTRIBUTE_BYTES));
  if (window !== undefined) {
    value.setBigUint64(0, window.base, true);
    value.setBigUint64(8, BigInt(window.bytes), true);
    value.setFloat32(16, window.hitRatio, true);
    value.setInt32(20, ACCESS_PROPERTY[window.hit], true);
    value.setInt32(24, ACCESS_PROPERTY[window.miss], true);
  }
  return new Uint8Array(value.buffer);
}

/** A CUDA_KERNEL_NODE_PARAMS_v2. `parameters`: the address of `void *[]`. */
export function encodeKernelNodeParams(
  handle: FunctionHandle,
  { grid, block, dynamicSharedBytes }: LaunchShape,
  parameters: HostPtr,
): Uint8Array {
  const params = new DataView(new ArrayBuffer(KERNEL_NODE_PARAMS_BYTES));
  params.setBigUint64(0, handle, true);
  const sizes = [...grid, ...block, dynamicSharedBytes];
  for (const [i, size] of sizes.entries()) params.setUint32(8 + 4 * i, size, true);
  params.setBigUint64(40, parameters, true);
  return new Uint8Array(params.buffer);
}

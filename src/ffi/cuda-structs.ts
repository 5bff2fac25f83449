/** Structs of CUDA's driver API, laid out as its header does on 64-bit systems. */

import type { ContextHandle, DevicePtr, FunctionHandle } from './cuda-symbols.ts';
import { addressOf, type HostPtr } from './host-memory.ts';

const STREAM_ATTRIBUTE_BYTES = 64;
const KERNEL_NODE_PARAMS_BYTES = 72;
const MEMCPY_2D_BYTES = 128;
const MEMCPY_3D_PEER_BYTES = 200;
const TENSOR_MAP_WORDS = 16;
const TENSOR_MAP_ALIGNMENT = 64;
/** CUtensorMapDataType: bytes for elements in 8 bits. */
const TENSOR_MAP_TYPE = { float8_e4m3: 0, float16: 6, bfloat16: 9 } as const;
/** Of cuTensorMapEncodeTiled, in its order: rows as they lie, swizzled in 128 bytes, read by 256 bytes, zeros outside. */
const TENSOR_MAP_OPTIONS = [0, 3, 3, 0] as const;
const MEMORY_TYPE = { device: 2, unified: 4 } as const;
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

/** Where rows start, in device or pinned memory, and how far apart they lie. */
export interface PitchedRows {
  readonly address: DevicePtr | HostPtr;
  /** At most MOST_PITCH_BYTES. */
  readonly pitchBytes: number;
}

export const MOST_PITCH_BYTES = 2 ** 31 - 1;

/** A place in the memory of one of several devices. */
export interface PeerAddress {
  readonly address: DevicePtr;
  /** The device's. */
  readonly context: ContextHandle;
}

export type PeerRows = PeerAddress & PitchedRows;

/** How many rows a copy has, and of how many bytes. */
export interface RowsShape {
  readonly rows: number;
  readonly rowBytes: number;
}

/** A row-major matrix of 16-bit elements, and the tiles in which kernels have it copied into shared memory. */
export interface TiledMatrix {
  readonly format: keyof typeof TENSOR_MAP_TYPE;
  /** A multiple of 16. */
  readonly address: DevicePtr;
  readonly rows: number;
  readonly columns: number;
  /** A multiple of 16. */
  readonly rowBytes: number;
  readonly tileRows: number;
  /** At most 128 bytes: a tile's rows are swizzled. */
  readonly tileColumns: number;
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

/** A CUDA_MEMCPY2D between places that the driver tells apart by their addresses: device memory and pinned memory. */
export function encodeCopyRows(
  target: PitchedRows,
  source: PitchedRows,
  { rows, rowBytes }: RowsShape,
): Uint8Array {
  const copy = new DataView(new ArrayBuffer(MEMCPY_2D_BYTES));
  for (const [start, { address, pitchBytes }] of [
    [0, source],
    [56, target],
  ] as const) {
    copy.setInt32(start + 16, MEMORY_TYPE.unified, true);
    copy.setBigUint64(start + 32, address, true);
    copy.setBigUint64(start + 48, BigInt(pitchBytes), true);
  }
  copy.setBigUint64(112, BigInt(rowBytes), true);
  copy.setBigUint64(120, BigInt(rows), true);
  return new Uint8Array(copy.buffer);
}

/** A CUDA_MEMCPY3D_PEER of one layer. */
export function encodeCopyRowsToPeer(
  target: PeerRows,
  source: PeerRows,
  { rows, rowBytes }: RowsShape,
): Uint8Array {
  const copy = new DataView(new ArrayBuffer(MEMCPY_3D_PEER_BYTES));
  for (const [start, { address, context, pitchBytes }] of [
    [0, source],
    [88, target],
  ] as const) {
    copy.setInt32(start + 32, MEMORY_TYPE.device, true);
    copy.setBigUint64(start + 48, address, true);
    copy.setBigUint64(start + 64, context, true);
    copy.setBigUint64(start + 72, BigInt(pitchBytes), true);
    copy.setBigUint64(start + 80, BigInt(rows), true);
  }
  copy.setBigUint64(176, BigInt(rowBytes), true);
  copy.setBigUint64(184, BigInt(rows), true);
  copy.setBigUint64(192, 1n, true);
  return new Uint8Array(copy.buffer);
}

/** Where a CUtensorMap may be written. */
export function emptyTensorMap(): BigUint64Array {
  const wordBytes = BigUint64Array.BYTES_PER_ELEMENT;
  const buffer = new ArrayBuffer(TENSOR_MAP_WORDS * wordBytes + TENSOR_MAP_ALIGNMENT);
  const before = -Number(addressOf(new Uint8Array(buffer)) % BigInt(TENSOR_MAP_ALIGNMENT));
  const start = (before + TENSOR_MAP_ALIGNMENT) % TENSOR_MAP_ALIGNMENT;
  return new BigUint64Array(buffer, start, TENSOR_MAP_WORDS);
}

/** What cuTensorMapEncodeTiled takes behind the map. */
export function tensorMapArguments({
  format,
  address,
  rows,
  columns,
  rowBytes,
  tileRows,
  tileColumns,
}: TiledMatrix): readonly (number | bigint | ArrayBufferView)[] {
  const sizes = BigUint64Array.of(BigInt(columns), BigInt(rows));
  const strides = BigUint64Array.of(BigInt(rowBytes));
  const [tile, steps] = [Uint32Array.of(tileColumns, tileRows), Uint32Array.of(1, 1)];
  return [TENSOR_MAP_TYPE[format], sizes.length, address, sizes, strides, tile, steps, ...TENSOR_MAP_OPTIONS];
}

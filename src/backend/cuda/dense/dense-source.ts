/** The dense CUDA kernels: their variants as source text, and how they are launched. Pure. */
import type { DeviceProperties } from '../../../cuda/properties.ts';
import type { UnscaledPrecision } from '../../../device.ts';
import type { LaunchShape } from '../../../ffi/cuda-structs.ts';
import { ROW_FUNCTION_NAMES, ROW_FUNCTIONS, type RowFunction } from '../../row-functions.ts';
import type { KernelSource } from '../kernels/source.ts';

/** Elements that a kernel loads at once: 4 where all rows are aligned to 16 bytes, 1 anywhere. */
export type PackWidth = 1 | 4;
const WIDTHS: readonly PackWidth[] = [1, 4];

/** Features of one tile of the dot interaction. */
export type DotTile = 32 | 64 | 128;
export const DOT_TILES: readonly DotTile[] = [32, 64, 128];

/** Blocks of a dot interaction that fit on a multiprocessor at least: as many as leave sums their registers. */
const DOT_BLOCKS = { 32: { 1: 8, 4: 8 }, 64: { 1: 6, 4: 6 }, 128: { 1: 1, 4: 2 } } as const;

const FACTS = {
  float32: { id: 'f32', weight: 'Float32', math: 'FusedMultiplyAdd' },
  tf32: { id: 'tf32', weight: 'Float32', math: 'TensorCores<hotrow::dot::Tf32Product>' },
  float16: { id: 'f16', weight: 'Float16', math: 'TensorCores<hotrow::dot::Float16Product>' },
  bfloat16: { id: 'bf16', weight: 'Bfloat16', math: 'TensorCores<hotrow::dot::Bfloat16Product>' },
} as const satisfies Record<UnscaledPrecision, unknown>;

/** As in kernels/cuda/dot_interaction.cuh. */
const DOT_STAGES = 3;
const DOT_CHUNK_BYTES = 128;

/** As in kernels/cuda/dot_samples.cuh: what a block makes at once, and how. */
const SAMPLE_FEATURES = 256;
const SAMPLE_THREADS = 512;
/** Up to so many features are one tile of dot_interaction anyway. */
const ONE_TILE_FEATURES = 128;

const THREADS = 256;
/** Blocks stride over what there is to do; more than this keep no more of a GPU busy. */
const MOST_BLOCKS = 65536;

/** 2^-these is the largest relative error of a factor. TF32 keeps 11 bits and drops the others, the rest are rounded. */
export function factorBits(precision: UnscaledPrecision): number {
  return { float32: 24, tf32: 10, float16: 11, bfloat16: 8 }[precision];
}

function source(
  header: string,
  id: string,
  params: string,
  call: string,
  bounds = `${THREADS}`,
): KernelSource {
  const kernel = `hotrow_${id.replaceAll('.', '_')}`;
  const text = `#include "${header}.cuh"

extern "C" __global__ void __launch_bounds__(${bounds}) ${kernel}(const hotrow::${params} params) {
  hotrow::${call}(params);
}
`;
  return { id, kernel, source: text, options: [] };
}

export function dotInteractionSource(
  precision: UnscaledPrecision,
  tile: DotTile,
  width: PackWidth,
): KernelSource {
  const { id: format, math } = FACTS[precision];
  const id = `dot_interaction.${format}.t${tile}.w${width}`;
  const kernel = `hotrow_${id.replaceAll('.', '_')}`;
  const text = `#include "dot_interaction.cuh"

struct ${kernel}_variant {
  using Math = hotrow::dot::${math};
  static constexpr int tile = ${tile};
  static constexpr bool vector = ${width === 4};
};

extern "C" __global__ void __launch_bounds__(${dotThreads(tile)}, ${DOT_BLOCKS[tile][width]}) ${kernel}(const hotrow::DotInteractionParams params) {
  hotrow::dot_interaction<${kernel}_variant>(params);
}
`;
  return { id, kernel, source: text, options: [] };
}

/** The dot interaction whole samples at a time, for rows that are aligned to 16 bytes; where `canMakeSamples`. */
export function dotSamplesSource(precision: UnscaledPrecision): KernelSource {
  const { id: format, math } = FACTS[precision];
  const id = `dot_samples.${format}`;
  const kernel = `hotrow_${id.replaceAll('.', '_')}`;
  const text = `#include "dot_samples.cuh"

struct ${kernel}_variant {
  using Math = hotrow::dot::Sample${math};
};

extern "C" __global__ void __launch_bounds__(${SAMPLE_THREADS}, 1) ${kernel}(const hotrow::DotInteractionParams params) {
  hotrow::dot_samples<${kernel}_variant>(params);
}
`;
  return { id, kernel, source: text, options: [] };
}

/** A function of a row; its struct in CUDA C++ is called as it is here, capitalised. */
export function rowFunctionSource(name: RowFunction): KernelSource {
  const { kernel } = ROW_FUNCTIONS[name];
  const type = `${name.charAt(0).toUpperCase()}${name.slice(1)}`;
  return source(kernel, kernel, 'RowFunctionParams', `row_function<hotrow::${type}>`);
}

export function finishLinearSource(width: PackWidth): KernelSource {
  return source('linear', `finish_linear.w${width}`, 'FinishLinearParams', `finish_linear<${width}>`);
}

export function directLinearSource(precision: UnscaledPrecision, width: PackWidth): KernelSource {
  const { weight } = FACTS[precision];
  const id = `direct_linear.${WEIGHT_IDS[weight]}.w${width}`;
  return source('linear', id, 'DirectLinearParams', `direct_linear<hotrow::${weight}, ${width}>`);
}

/** Rows of float32 to rows in the format of a precision's factors; for float32 and tf32, a copy. */
export function convertRowsSource(precision: UnscaledPrecision, width: PackWidth): KernelSource {
  const { weight } = FACTS[precision];
  const id = `convert_rows.${WEIGHT_IDS[weight]}.w${width}`;
  return source('convert_rows', id, 'ConvertRowsParams', `convert_rows<hotrow::${weight}, ${width}>`);
}

const WEIGHT_IDS = { Float32: 'f32', Float16: 'f16', Bfloat16: 'bf16' } as const;

/** Every kernel that a precision needs. `makesSamples`: on GPUs that can. */
export function denseSources(precision: UnscaledPrecision, makesSamples: boolean): KernelSource[] {
  const converted = precision === 'float16' || precision === 'bfloat16';
  const ofWidths = WIDTHS.flatMap((width) => [
    ...DOT_TILES.map((tile) => dotInteractionSource(precision, tile, width)),
    finishLinearSource(width),
    directLinearSource(precision, width),
    convertRowsSource('float32', width),
    ...(converted ? [convertRowsSource(precision, width)] : []),
  ]);
  const sources = [...ofWidths, ...ROW_FUNCTION_NAMES.map(rowFunctionSource)];
  return makesSamples ? [...sources, dotSamplesSource(precision)] : sources;
}

/** The same as one translation unit. */
export function denseModule(
  precision: UnscaledPrecision,
  makesSamples: boolean,
): { readonly id: string; readonly source: string } {
  const sources = denseSources(precision, makesSamples).map(({ source }) => source);
  return { id: `dense.${FACTS[precision].id}`, source: sources.join('\n') };
}

function dotThreads(tile: DotTile): number {
  return 32 * (tile / 32) * (tile / Math.min(tile, 64));
}

/** The smallest tile that makes one of the triangle, or the largest there is. */
export function dotTile(features: number): DotTile {
  return DOT_TILES.find((tile) => features <= tile) ?? 128;
}

/** The most dynamic shared memory that a launch with this tile takes. */
export function dotSharedBytes(tile: DotTile, oneTile = false): number {
  return DOT_STAGES * tile * DOT_CHUNK_BYTES * (oneTile ? 1 : 2);
}

export function dotLaunch(batch: number, features: number): LaunchShape {
  const tile = dotTile(features);
  const side = Math.ceil(features / tile);
  return {
    grid: [(batch * side * (side + 1)) / 2, 1, 1],
    block: [dotThreads(tile), 1, 1],
    dynamicSharedBytes: dotSharedBytes(tile, side === 1),
  };
}

/** Whether a GPU can make whole samples: asynchronous copies out of shared memory, and all the memory that it may take. */
export function canMakeSamples({
  computeCapability: [major],
  sharedBytesPerBlockOptIn,
}: Pick<DeviceProperties, 'computeCapability' | 'sharedBytesPerBlockOptIn'>): boolean {
  return major >= 9 && sharedBytesPerBlockOptIn >= dotSamplesSharedBytes();
}

/** With fewer samples a multiprocessor the tiles of each, spread over all of them, are made sooner. */
const LEAST_SAMPLES = 1 / 4;

/** Whether an interaction, on a GPU that can, is made whole samples at a time. */
export function isMadeOfSamples(
  { batch, features, dim }: { readonly batch: number; readonly features: number; readonly dim: number },
  width: PackWidth,
  multiprocessors: number,
): boolean {
  const fits = features > ONE_TILE_FEATURES && features <= SAMPLE_FEATURES && dim > 0 && width === 4;
  return fits && batch >= LEAST_SAMPLES * multiprocessors;
}

/** The dynamic shared memory of a launch for so many pairs: chunks, and packed sums as the output is aligned. */
export function dotSamplesSharedBytes(pairs = (SAMPLE_FEATURES * (SAMPLE_FEATURES + 1)) / 2): number {
  return DOT_STAGES * SAMPLE_FEATURES * DOT_CHUNK_BYTES + 16 * Math.ceil((pairs + 3) / 4);
}

/** A block a multiprocessor, one sample after the other. */
export function dotSamplesLaunch(batch: number, pairs: number, multiprocessors: number): LaunchShape {
  return {
    grid: [Math.min(batch, multiprocessors), 1, 1],
    block: [SAMPLE_THREADS, 1, 1],
    dynamicSharedBytes: dotSamplesSharedBytes(pairs),
  };
}

/** For kernels that walk over packs of a matrix. */
export function packLaunch(rows: number, columns: number, width: PackWidth): LaunchShape {
  const packs = columns / width;
  let x = 1;
  while (x < packs && x < THREADS) x *= 2;
  const y = THREADS / x;
  const blocks = Math.ceil((rows * Math.ceil(packs / x)) / y);
  return { grid: [Math.min(blocks, MOST_BLOCKS), 1, 1], block: [x, y, 1], dynamicSharedBytes: 0 };
}

/** For direct_linear: a warp per sum; for row_function: a warp per row. */
export function directLaunch(batch: number, outputs = 1): LaunchShape {
  const blocks = Math.ceil((batch * outputs) / (THREADS / 32));
  return { grid: [blocks, 1, 1], block: [THREADS, 1, 1], dynamicSharedBytes: 0 };
}

/** The dense CUDA kernels: their variants as source text, and how they are launched. Pure. */
import type { DeviceProperties } from '../../../cuda/properties.ts';
import { activationFormat, type ElementFormat, type UnscaledPrecision } from '../../../device.ts';
import type { LaunchShape } from '../../../ffi/cuda-structs.ts';
import { elementBytes } from '../../backend.ts';
import { ROW_FUNCTION_NAMES, ROW_FUNCTIONS, type RowFunction } from '../../row-functions.ts';
import type { KernelSource } from '../kernels/source.ts';

/** Elements that a kernel loads at once: 16 bytes of the widest where all rows are aligned to that, 1 anywhere. */
export type PackWidth = 1 | 4 | 8;

/** The most elements at once for matrices of these formats. */
export function widestPack(...formats: readonly ElementFormat[]): Exclude<PackWidth, 1> {
  return formats.every((format) => elementBytes({ format }) === 2) ? 8 : 4;
}

/** Features of one tile of the dot interaction. */
export type DotTile = 32 | 64 | 128;
export const DOT_TILES: readonly DotTile[] = [32, 64, 128];

/** Blocks of a dot interaction that fit on a multiprocessor at least: as many as leave sums their registers. */
const DOT_BLOCKS = { 32: { 1: 8, 4: 8, 8: 8 }, 64: { 1: 6, 4: 6, 8: 6 }, 128: { 1: 1, 4: 2, 8: 2 } } as const;

const FACTS = {
  float32: { id: 'f32', math: 'FusedMultiplyAdd' },
  tf32: { id: 'tf32', math: 'TensorCores<hotrow::dot::Tf32Product>' },
  float16: { id: 'f16', math: 'TensorCores<hotrow::dot::Float16Product>' },
  bfloat16: { id: 'bf16', math: 'TensorCores<hotrow::dot::Bfloat16Product>' },
} as const satisfies Record<UnscaledPrecision, unknown>;

/** Formats in ids, and their structs in rows.cuh. */
/** What kernels read: elements of matrices, or factors in 8 bits. */
type FactorFormat = ElementFormat | 'float8_e4m3';

const FORMAT_IDS: Readonly<Record<FactorFormat, string>> = {
  float8_e4m3: 'e4m3',
  float32: 'f32',
  float16: 'f16',
  bfloat16: 'bf16',
};
const FORMAT_TYPES: Readonly<Record<FactorFormat, string>> = {
  float8_e4m3: 'hotrow::Float8E4m3',
  float32: 'hotrow::Float32',
  float16: 'hotrow::Float16',
  bfloat16: 'hotrow::Bfloat16',
};

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
  using Element = ${FORMAT_TYPES[activationFormat(precision)]};
  using Math = hotrow::dot::${math};
  static constexpr int tile = ${tile};
  static constexpr bool vector = ${width > 1};
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
  using Element = ${FORMAT_TYPES[activationFormat(precision)]};
  using Math = hotrow::dot::Sample${math};
};

extern "C" __global__ void __launch_bounds__(${SAMPLE_THREADS}, 1) ${kernel}(const hotrow::DotInteractionParams params) {
  hotrow::dot_samples<${kernel}_variant>(params);
}
`;
  return { id, kernel, source: text, options: [] };
}

/** A function of a row; its struct in CUDA C++ is called as it is here, capitalised. */
export function rowFunctionSource(name: RowFunction, format: ElementFormat): KernelSource {
  const { kernel } = ROW_FUNCTIONS[name];
  const type = `${name.charAt(0).toUpperCase()}${name.slice(1)}`;
  const call = `row_function<hotrow::${type}, ${FORMAT_TYPES[format]}>`;
  return source(kernel, `${kernel}.${FORMAT_IDS[format]}`, 'RowFunctionParams', call);
}

/** `sums` are finished into `output`. */
export function finishLinearSource(
  sums: ElementFormat,
  output: ElementFormat,
  width: PackWidth,
): KernelSource {
  return packed('linear', 'finish_linear', 'FinishLinearParams', [sums, output], width);
}

/** A layer with a weight of the format that a precision multiplies. */
export function directLinearSource(
  precision: UnscaledPrecision,
  { input, output }: { readonly input: ElementFormat; readonly output: ElementFormat },
  width: PackWidth,
): KernelSource {
  const formats = [input, activationFormat(precision), output];
  return packed('linear', 'direct_linear', 'DirectLinearParams', formats, width);
}

/** The same of factors in 8 bits. */
export function directScaledSource(output: ElementFormat, width: PackWidth): KernelSource {
  const formats = ['float8_e4m3', 'float8_e4m3', output] as const;
  return packed('linear', 'direct_linear', 'DirectLinearParams', formats, width);
}

/** Rows to factors in 8 bits. */
export function roundRowsSource(from: ElementFormat, width: PackWidth): KernelSource {
  return packed('round_rows', 'round_rows_e4m3', 'RoundRowsParams', [from], width);
}

/** Rows of one format to rows of another, or of the same: then it is a copy. */
export function convertRowsSource(from: ElementFormat, to: ElementFormat, width: PackWidth): KernelSource {
  return packed('convert_rows', 'convert_rows', 'ConvertRowsParams', [from, to], width);
}

/** A kernel of a header for matrices of these formats, `width` elements at once. */
function packed(
  header: string,
  name: string,
  params: string,
  formats: readonly FactorFormat[],
  width: PackWidth,
): KernelSource {
  const id = [name, ...formats.map((format) => FORMAT_IDS[format]), `w${width}`].join('.');
  const types = formats.map((format) => FORMAT_TYPES[format]);
  return source(header, id, params, `${name}<${[...types, width].join(', ')}>`);
}

/** Every kernel that a precision needs. `makesSamples`: on GPUs that can. */
export function denseSources(precision: UnscaledPrecision, makesSamples: boolean): KernelSource[] {
  const own = activationFormat(precision);
  const formats = [...new Set<ElementFormat>(['float32', own])];
  const pairs = formats.flatMap((from) => formats.map((to) => [from, to] as const));
  const ofWidths = (widest: PackWidth, sourceOf: (width: PackWidth) => KernelSource) =>
    [1, widest].map((width) => sourceOf(width as PackWidth));
  const sources = [
    ...DOT_TILES.flatMap((tile) =>
      ofWidths(widestPack(own), (width) => dotInteractionSource(precision, tile, width)),
    ),
    // 16-bit sums are those of a cross, which ends in what it reads.
    ...pairs
      .filter(([sums, output]) => sums === 'float32' || sums === output)
      .flatMap(([sums, output]) =>
        ofWidths(widestPack(sums, output), (width) => finishLinearSource(sums, output, width)),
      ),
    ...pairs.flatMap(([input, output]) =>
      ofWidths(widestPack(input), (width) => directLinearSource(precision, { input, output }, width)),
    ),
    ...pairs.flatMap(([from, to]) =>
      ofWidths(widestPack(from, to), (width) => convertRowsSource(from, to, width)),
    ),
    ...(own === 'float16' ? scaledSources(formats) : []),
    ...ROW_FUNCTION_NAMES.flatMap((name) => formats.map((format) => rowFunctionSource(name, format))),
  ];
  return makesSamples ? [...sources, dotSamplesSource(precision)] : sources;
}

/** What layers in 8 bits need beside the kernels of the precision in which others are. */
function scaledSources(formats: readonly ElementFormat[]): KernelSource[] {
  return [
    ...formats.flatMap((from) =>
      ([1, widestPack(from)] as const).map((width) => roundRowsSource(from, width)),
    ),
    ...formats.map((output) => directScaledSource(output, SCALED_WIDTH)),
  ];
}

/** Elements at once of factors in 8 bits, whose rows are aligned to 16. */
export const SCALED_WIDTH = 8;

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

/** Whether an interaction, on a GPU that can, is made whole samples at a time. `width`: of its loads. */
export function isMadeOfSamples(
  { batch, features, dim }: { readonly batch: number; readonly features: number; readonly dim: number },
  width: PackWidth,
  multiprocessors: number,
): boolean {
  const fits = features > ONE_TILE_FEATURES && features <= SAMPLE_FEATURES && dim > 0 && width > 1;
  return fits && batch >= LEAST_SAMPLES * multiprocessors;
}

/** The dynamic shared memory of a launch for so many elements a sample: chunks, and packed sums as the output is aligned. */
export function dotSamplesSharedBytes(
  elements = (SAMPLE_FEATURES * (SAMPLE_FEATURES + 1)) / 2,
  format: ElementFormat = 'float32',
): number {
  const unit = 16 / elementBytes({ format });
  return DOT_STAGES * SAMPLE_FEATURES * DOT_CHUNK_BYTES + 16 * Math.ceil((elements + unit - 1) / unit);
}

/** A block a multiprocessor, one sample after the other. `elements`: what a sample has of the output, zeros included. */
export function dotSamplesLaunch(
  batch: number,
  elements: number,
  multiprocessors: number,
  format: ElementFormat = 'float32',
): LaunchShape {
  return {
    grid: [Math.min(batch, multiprocessors), 1, 1],
    block: [SAMPLE_THREADS, 1, 1],
    dynamicSharedBytes: dotSamplesSharedBytes(elements, format),
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

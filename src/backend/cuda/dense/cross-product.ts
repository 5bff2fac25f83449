/** Cross layers whole, product and end, as kernels/cuda/cross_product.cuh makes them: its variants, and how they are launched. Pure. */
import { at } from '../../../at.ts';
import type { DeviceProperties } from '../../../cuda/properties.ts';
import type { LaunchShape } from '../../../ffi/cuda-structs.ts';
import type { KernelSource } from '../kernels/source.ts';
import type { FieldsOf } from '../kernels/struct.ts';
import { CrossProductParams } from './dense-params.ts';

/** Formats of elements that tensor cores multiply as they lie. */
export type HalfFormat = 'float16' | 'bfloat16';

/** Outputs that a block makes: as many as a multiprocessor has shared memory and registers for. */
export const CROSS_COLUMNS = [96, 128, 160, 192] as const;
export type CrossColumns = (typeof CROSS_COLUMNS)[number];

/** The machine code has instructions of this architecture alone: no other GPU runs it, older or newer. */
export const CROSS_ARCHITECTURE = 'sm_90a';

/** As in kernels/cuda/cross_product.cuh. */
const ROWS = 64;
const DEPTH = 64;
const THREADS = 384;
const ROW_BYTES = 2 * DEPTH;
const STAGE_BYTES = ROWS * ROW_BYTES;
const BARRIER_BYTES = 8;
const BIAS_BYTES = 4;
/** Of hotrow::CrossProduct, which is aligned to 64 bytes. */
const CROSS_PRODUCT_WORDS = 32;

const FORMATS = {
  float16: { id: 'f16', element: 'Float16' },
  bfloat16: { id: 'bf16', element: 'Bfloat16' },
} as const;

/** Stages of the input: what the weight leaves of shared memory at a depth of 512. */
const STAGES: Readonly<Record<CrossColumns, number>> = { 96: 8, 128: 8, 160: 8, 192: 4 };

export function crossProductSource(format: HalfFormat, columns: CrossColumns): KernelSource {
  const { id: formatId, element } = FORMATS[format];
  const id = `cross_product.${formatId}.n${columns}`;
  const kernel = `hotrow_${id.replaceAll('.', '_')}`;
  const source = `#include "cross_product.cuh"

struct ${kernel}_variant {
  using Element = hotrow::${element};
  static constexpr bool is_bfloat16 = ${format === 'bfloat16'};
  static constexpr int columns = ${columns};
  static constexpr int stages = ${STAGES[columns]};
};

extern "C" __global__ void __launch_bounds__(${THREADS}, 1) ${kernel}(__grid_constant__ const hotrow::CrossProduct params) {
  hotrow::cross_product<${kernel}_variant>(params);
}
`;
  return { id, kernel, source, options: [] };
}

/** The kernels of a format as one translation unit. */
export function crossModule(format: HalfFormat): KernelSource {
  const sources = CROSS_COLUMNS.map((columns) => crossProductSource(format, columns));
  return {
    ...at(sources, 0),
    id: `cross_product.${FORMATS[format].id}`,
    source: sources.map(({ source }) => source).join('\n'),
  };
}

/** What the kernel is given: the map of its input, then the rest. */
export function crossProductWords(
  input: BigUint64Array,
  params: FieldsOf<typeof CrossProductParams>,
): BigInt64Array {
  const words = new BigInt64Array(CROSS_PRODUCT_WORDS);
  new BigUint64Array(words.buffer).set(input);
  words.set(CrossProductParams.encode(params), input.length);
  return words;
}

/** Rows and columns of the tiles in which the input is copied. */
export const INPUT_TILE = { tileRows: ROWS, tileColumns: DEPTH } as const;

/** Whether a GPU has the instructions. */
export function canMakeCrossProducts({
  computeCapability: [major, minor],
}: Pick<DeviceProperties, 'computeCapability'>): boolean {
  return major === 9 && minor === 0;
}

export interface CrossShape {
  readonly batch: number;
  readonly inputs: number;
  readonly outputs: number;
}

/** The dynamic shared memory of a block: its columns of the weight, the stages, the bias and the barriers. */
export function crossSharedBytes(columns: CrossColumns, inputs: number): number {
  const weight = Math.ceil(inputs / DEPTH) * columns * ROW_BYTES;
  const stages = STAGES[columns];
  return weight + stages * STAGE_BYTES + columns * BIAS_BYTES + (2 * stages + 2) * BARRIER_BYTES;
}

/** A block a multiprocessor: blocks of the columns, as many for the rows as there is room for. */
function crossGrid(columns: CrossColumns, { batch, outputs }: CrossShape, multiprocessors: number) {
  const across = Math.ceil(outputs / columns);
  const down = Math.max(1, Math.min(Math.floor(multiprocessors / across), Math.ceil(batch / ROWS)));
  return { across, down };
}

export function crossLaunch(columns: CrossColumns, shape: CrossShape, multiprocessors: number): LaunchShape {
  const { across, down } = crossGrid(columns, shape, multiprocessors);
  return {
    grid: [across, down, 1],
    block: [THREADS, 1, 1],
    dynamicSharedBytes: crossSharedBytes(columns, shape.inputs),
  };
}

/** The columns that a GPU has shared memory for; first those whose busiest multiprocessor has least to multiply. */
export function crossColumns(
  shape: CrossShape,
  {
    multiprocessors,
    sharedBytesPerBlockOptIn,
  }: Pick<DeviceProperties, 'multiprocessors' | 'sharedBytesPerBlockOptIn'>,
): readonly CrossColumns[] {
  const work = (columns: CrossColumns) => {
    const { across, down } = crossGrid(columns, shape, multiprocessors);
    const blocks = Math.ceil((across * down) / multiprocessors);
    return blocks * Math.ceil(Math.ceil(shape.batch / ROWS) / down) * columns;
  };
  return CROSS_COLUMNS.filter(
    (columns) => crossSharedBytes(columns, shape.inputs) <= sharedBytesPerBlockOptIn,
  ).toSorted((a, b) => work(a) - work(b));
}

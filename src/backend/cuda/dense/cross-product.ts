/** Cross layers whole, product and end, as kernels/cuda/cross_product.cuh makes them: its variants, and how they are launched. Pure. */
import { at } from '../../../at.ts';
import type { DeviceProperties } from '../../../cuda/properties.ts';
import type { LaunchShape } from '../../../ffi/cuda-structs.ts';
import type { KernelSource } from '../kernels/source.ts';
import type { FieldsOf } from '../kernels/struct.ts';
import { CrossProductParams } from './dense-params.ts';

/** Formats of x0, x and the output. */
export type HalfFormat = 'float16' | 'bfloat16';

/** Formats of the factors. Those in 8 bits go with float16. */
export const CROSS_FACTORS = ['float16', 'bfloat16', 'float8_e4m3'] as const;
export type CrossFactors = (typeof CROSS_FACTORS)[number];

/** Outputs that a block makes at a time: as many as a multiprocessor has shared memory for. */
export const CROSS_COLUMNS = [128, 64] as const;
export type CrossColumns = (typeof CROSS_COLUMNS)[number];

/** The machine code has instructions of this architecture alone: no other GPU runs it, older or newer. */
export const CROSS_ARCHITECTURE = 'sm_90a';

/** As in kernels/cuda/cross_product.cuh. */
const ROWS = 64;
const THREADS = 384;
const ROW_BYTES = 128;
const STAGE_BYTES = ROWS * ROW_BYTES;
const GROUPS = 2;
const OUTPUT_BYTES = 2;
const BARRIER_BYTES = 8;
/** Of hotrow::CrossProduct: its maps, then the rest, aligned to 64 bytes. */
const CROSS_PRODUCT_WORDS = 80;

/**
 * `stages` of h: what is left of shared memory at a depth of 512. `terms`: what a warp group has of x0 and x there; factors of 16 bits
 * leave room for x alone.
 */
const FACTORS = {
  float16: { id: 'f16', element: 'Float16', name: 'float16', bytes: 2, stages: 8, terms: 1 },
  bfloat16: { id: 'bf16', element: 'Bfloat16', name: 'bfloat16', bytes: 2, stages: 8, terms: 1 },
  float8_e4m3: { id: 'e4m3', element: 'Float16', name: 'e4m3', bytes: 1, stages: 12, terms: 2 },
} as const satisfies Record<CrossFactors, object>;

/** What its kernels multiply, besides the format of its matrices. */
export function crossFactors(format: HalfFormat): readonly CrossFactors[] {
  return format === 'float16' ? ['float16', 'float8_e4m3'] : [format];
}

export function crossProductSource(factors: CrossFactors, columns: CrossColumns): KernelSource {
  const { id: factorsId, element, name, stages } = FACTORS[factors];
  const id = `cross_product.${factorsId}.n${columns}`;
  const kernel = `hotrow_${id.replaceAll('.', '_')}`;
  const source = `#include "cross_product.cuh"

struct ${kernel}_variant {
  using Element = hotrow::${element};
  static constexpr bool is_bfloat16 = ${factors === 'bfloat16'};
  static constexpr hotrow::ptx::Factors factors = hotrow::ptx::Factors::${name};
  static constexpr int columns = ${columns};
  static constexpr int stages = ${stages};
};

extern "C" __global__ void __launch_bounds__(${THREADS}, 1) ${kernel}(__grid_constant__ const hotrow::CrossProduct params) {
  hotrow::cross_product<${kernel}_variant>(params);
}
`;
  return { id, kernel, source, options: [] };
}

/** The kernels of a format of matrices as one translation unit. */
export function crossModule(format: HalfFormat): KernelSource {
  const sources = crossFactors(format).flatMap((factors) =>
    CROSS_COLUMNS.map((columns) => crossProductSource(factors, columns)),
  );
  return {
    ...at(sources, 0),
    id: `cross_product.${FACTORS[format].id}`,
    source: sources.map(({ source }) => source).join('\n'),
  };
}

/** The matrices that the kernel takes in tiles. */
export interface CrossMaps {
  readonly input: BigUint64Array;
  readonly x0: BigUint64Array;
  readonly x: BigUint64Array;
  readonly output: BigUint64Array;
}

/** What the kernel is given. */
export function crossProductWords(
  { input, x0, x, output }: CrossMaps,
  params: FieldsOf<typeof CrossProductParams>,
): BigInt64Array {
  const words = new BigInt64Array(CROSS_PRODUCT_WORDS);
  const maps = [input, x0, x, output];
  for (const [m, map] of maps.entries()) new BigUint64Array(words.buffer).set(map, m * map.length);
  words.set(CrossProductParams.encode(params), maps.length * input.length);
  return words;
}

/** Rows and columns of the tiles in which a matrix is copied: rows of 128 bytes. */
export function crossTile(format: CrossFactors): { readonly tileRows: number; readonly tileColumns: number } {
  return { tileRows: ROWS, tileColumns: ROW_BYTES / FACTORS[format].bytes };
}

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

/** The dynamic shared memory of a block: its columns of the weight, the stages, the terms and the barriers. */
export function crossSharedBytes(factors: CrossFactors, columns: CrossColumns, inputs: number): number {
  const { bytes, stages, terms } = FACTORS[factors];
  const weight = Math.ceil((inputs * bytes) / ROW_BYTES) * columns * ROW_BYTES;
  const ends = GROUPS * terms * columns * ROWS * OUTPUT_BYTES;
  return weight + stages * STAGE_BYTES + ends + (2 * stages + 3 * GROUPS) * BARRIER_BYTES;
}

/** A block a multiprocessor: blocks of the columns, as many for the rows as there is room for. */
function crossGrid(columns: CrossColumns, { batch, outputs }: CrossShape, multiprocessors: number) {
  const across = Math.ceil(outputs / columns);
  const down = Math.max(1, Math.min(Math.floor(multiprocessors / across), Math.ceil(batch / ROWS)));
  return { across, down };
}

export function crossLaunch(
  factors: CrossFactors,
  columns: CrossColumns,
  shape: CrossShape,
  multiprocessors: number,
): LaunchShape {
  const { across, down } = crossGrid(columns, shape, multiprocessors);
  return {
    grid: [across, down, 1],
    block: [THREADS, 1, 1],
    dynamicSharedBytes: crossSharedBytes(factors, columns, shape.inputs),
  };
}

/** The columns that a GPU has shared memory for; first those whose busiest multiprocessor has least to multiply, of equals the wider, which read h less often. */
export function crossColumns(
  factors: CrossFactors,
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
    (columns) => crossSharedBytes(factors, columns, shape.inputs) <= sharedBytesPerBlockOptIn,
  ).toSorted((a, b) => work(a) - work(b));
}

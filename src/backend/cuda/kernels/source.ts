/** What all kernels of kernels/cuda share: what the compiler gets, and the names of their template arguments. Pure. */
import { fileURLToPath } from 'node:url';
import type { RowFormat } from '../../../embedding/bag.ts';
import type { PooledFormat } from '../../backend.ts';

/** Where the kernels lie, and every header that they include. */
export const KERNELS_FOLDER = fileURLToPath(new URL('../../../../kernels/cuda', import.meta.url));

export type IntegerWidth = 'int32' | 'int64';
/** Weights of lookups: none, given with the bags, or learned, one a row. */
export type RowWeights = 'none' | 'sample' | 'row';

/** What the compiler gets. */
export interface KernelSource {
  /** One name everywhere: cache, logs, bench rows. */
  readonly id: string;
  /** The kernel's name in the module. */
  readonly kernel: string;
  /** The translation unit; its include is to be looked for in kernels/cuda. */
  readonly source: string;
  readonly options: readonly string[];
}

/** Row formats: their types in kernels/cuda/rows.cuh, their names in ids, bits of an element. */
export const ROW_TYPES = {
  float32: { name: 'Float32', id: 'f32', bits: 32 },
  float16: { name: 'Float16', id: 'f16', bits: 16 },
  bfloat16: { name: 'Bfloat16', id: 'bf16', bits: 16 },
  int8: { name: 'Int8', id: 'q8', bits: 8 },
  int4: { name: 'Int4', id: 'q4', bits: 4 },
  float8_e4m3: { name: 'Float8E4m3', id: 'f8', bits: 8 },
} as const satisfies Record<RowFormat, unknown>;
export const POOLING_NAMES = { sum: 'Sum', mean: 'Mean', max: 'Max' } as const;
export const WEIGHTS_NAMES = { none: 'None', sample: 'Sample', row: 'Row' } as const;
/** Part of an id: nothing for float32. */
export function outputId(output: PooledFormat = 'float32'): string[] {
  return output === 'float32' ? [] : [`to${ROW_TYPES[output].id}`];
}

/** The name of a variant's function, as profilers show it. */
export function kernelFunction(id: string): string {
  return `hotrow_${id.replaceAll(/\W/g, '_')}`;
}

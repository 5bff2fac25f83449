/** What all kernels of kernels/cuda share: what the compiler gets, and the names of their template arguments. Pure. */

import type { ElementFormat } from '../../../device.ts';
import { type RowFormat, rowLayout } from '../../../embedding/row-format.ts';
import { packageFile } from '../../../package-file.ts';
import { DEVICE_LIMITS, MIN_REGISTER_CAP } from '../../../plan/occupancy.ts';

/** Where the kernels lie, and every header that they include. */
export const KERNELS_FOLDER = packageFile('kernels/cuda');

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

/** Types of row formats in kernels/cuda/rows.cuh. */
export const ROW_TYPES = {
  float32: 'Float32',
  float16: 'Float16',
  bfloat16: 'Bfloat16',
  int8: 'Int8',
  int4: 'Int4',
  float8_e4m3: 'Float8E4m3',
} as const satisfies Record<RowFormat, string>;
export const POOLING_NAMES = { sum: 'Sum', mean: 'Mean', max: 'Max' } as const;
export const WEIGHTS_NAMES = { none: 'None', sample: 'Sample', row: 'Row' } as const;
/** Part of an id: nothing for float32. */
export function outputId(output: ElementFormat = 'float32'): string[] {
  return output === 'float32' ? [] : [`to${rowLayout(output).id}`];
}

/** The name of a variant's function, as profilers show it. */
export function kernelFunction(id: string): string {
  return `hotrow_${id.replaceAll(/\W/g, '_')}`;
}

/** The threads that a kernel is compiled for. */
export interface CompiledThreads {
  /** The most of a block. */
  readonly threads: number;
  /** At most so many registers a thread; the compiler spills what does not fit. */
  readonly maxRegisters?: number;
}

/** Why a register cap cannot be; undefined: it can, or there is none. */
export function refuseCap({ maxRegisters }: CompiledThreads): string | undefined {
  const most = DEVICE_LIMITS.registersPerThread;
  if (maxRegisters === undefined) return undefined;
  const legal = Number.isInteger(maxRegisters) && maxRegisters >= MIN_REGISTER_CAP && maxRegisters <= most;
  return legal ? undefined : `a register cap is ${MIN_REGISTER_CAP} to ${most}, not ${maxRegisters}`;
}

/** Part of an id. */
export function capId({ maxRegisters }: CompiledThreads): string[] {
  return maxRegisters === undefined ? [] : [`cap${maxRegisters}`];
}

export function capOptions({ maxRegisters }: CompiledThreads): string[] {
  return maxRegisters === undefined ? [] : [`--maxrregcount=${maxRegisters}`];
}

/** What stands before a kernel's name. None with a cap, which the compiler would ignore. */
export function launchBounds({ threads, maxRegisters }: CompiledThreads): string {
  return maxRegisters === undefined ? `__launch_bounds__(${threads}) ` : '';
}

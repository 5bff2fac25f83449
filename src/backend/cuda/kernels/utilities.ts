/** The kernels that have one version. Pure. */
import type { KernelSource } from './source.ts';

const UTILITIES = {
  check_bags: { header: 'check_bags', params: 'CheckBagsParams' },
  describe_bags: { header: 'check_bags', params: 'CheckBagsParams' },
  count_rows: { header: 'hot_rows', params: 'CountRowsParams' },
  bin_counts: { header: 'hot_rows', params: 'HotRowsParams' },
  choose_count: { header: 'hot_rows', params: 'HotRowsParams' },
  collect_rows: { header: 'hot_rows', params: 'HotRowsParams' },
  count_ranges: { header: 'hot_rows', params: 'HotRowsParams' },
  pin_rows: { header: 'pin_rows', params: 'PinRowsParams' },
  unpin_rows: { header: 'pin_rows', params: 'PinRowsParams' },
  fill_uniform: { header: 'fill_uniform', params: 'FillUniformParams' },
  fill_quantized: { header: 'fill_uniform', params: 'FillQuantizedParams' },
  update_rows: { header: 'move_rows', params: 'MoveRowsParams' },
  read_rows: { header: 'move_rows', params: 'MoveRowsParams' },
  split_rows: { header: 'split_rows', params: 'SplitRowsParams' },
  copy_words: { header: 'copy_words', params: 'CopyWordsParams' },
  spread_rows: { header: 'spread_rows', params: 'SpreadRowsParams' },
  read_bytes: { header: 'ceilings', params: 'CeilingsParams' },
  multiply_add: { header: 'ceilings', params: 'CeilingsParams' },
} as const;

/** Kernels that have one version. */
export type UtilityKernel = keyof typeof UTILITIES;
export const UTILITY_KERNELS = Object.keys(UTILITIES) as readonly UtilityKernel[];

/** The translation unit of a kernel that has one version. */
export function utilitySource(name: UtilityKernel): KernelSource {
  const { header, params } = UTILITIES[name];
  const source = `#include "${header}.cuh"

extern "C" __global__ void hotrow_${name}(const hotrow::${params} params) {
  hotrow::${name}(params);
}
`;
  return { id: name, kernel: `hotrow_${name}`, source, options: [] };
}

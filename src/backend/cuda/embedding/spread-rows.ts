/** Users' pooled rows on their way to the candidates: the launch behind those that pool. */
import type { CudaKernel } from '../../../cuda/module.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import { elementBytes, type Matrix } from '../../backend.ts';
import { type KernelLaunch, kernelLaunch } from '../kernels/launcher.ts';
import { startOf } from '../memory/buffer.ts';
import type { CudaBags, DeviceUsers } from './bags.ts';
import { SpreadRowsParams } from './spread-rows-params.ts';

const BLOCK = { x: 32, y: 8 } as const;
/** Blocks that fill any GPU several times over. */
const MOST_BLOCKS = 4096;
/** What a thread copies at once, where rows are aligned to it. */
const WORD_BYTES = 16;

/** Where pooled rows of candidates go. */
export interface SpreadTarget {
  readonly address: DevicePtr;
  /** Elements between the starts of rows. */
  readonly stride: number;
  readonly elementBytes: number;
}

/** To a matrix, as it stores them. */
export function spreadTarget(output: Matrix): SpreadTarget {
  return { address: startOf(output), stride: output.stride, elementBytes: elementBytes(output) };
}

/** Copies each user's pooled rows, from `from` on, to the rows of `target` that are their candidates. */
export function spreadLaunch(
  kernel: CudaKernel,
  { batchSize }: CudaBags,
  { rows, userOf, spans }: DeviceUsers,
  from: number,
  { address, stride, elementBytes: bytes }: SpreadTarget,
): KernelLaunch {
  const words = SpreadRowsParams.encode({
    input: from,
    inputStride: rows.width,
    output: address,
    outputStride: stride,
    elementBytes: bytes,
    users: userOf,
    rows: batchSize,
    spans,
    spanCount: rows.spans.length,
  });
  const widest = rows.spans.reduce((most, { columns }) => Math.max(most, columns), 0);
  const chunks = batchSize * Math.ceil((widest * bytes) / WORD_BYTES / BLOCK.x);
  const y = Math.min(rows.spans.length, MOST_BLOCKS);
  const x = Math.min(Math.ceil(chunks / BLOCK.y), Math.ceil(MOST_BLOCKS / y));
  return kernelLaunch(kernel, words, [Math.max(1, x), y], [BLOCK.x, BLOCK.y]);
}

/** Users' pooled rows on their way to the candidates: the launch behind those that pool. */
import type { CudaKernel } from '../../../cuda/module.ts';
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

/** Copies each user's pooled rows to the rows of `output` that are their candidates. */
export function spreadLaunch(
  kernel: CudaKernel,
  { batchSize }: CudaBags,
  { rows, pooled, userOf, spans }: DeviceUsers,
  output: Matrix,
): KernelLaunch {
  const bytes = elementBytes(output);
  const words = SpreadRowsParams.encode({
    input: pooled,
    inputStride: rows.width,
    output: startOf(output),
    outputStride: output.stride,
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

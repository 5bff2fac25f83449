import type { CudaKernel } from '../../cuda/module.ts';
import type { CudaStream } from '../../cuda/stream.ts';
import { ParameterBlock } from '../../ffi/parameter-block.ts';

/** Threads of a block of kernels that stride over their elements. */
const STRIDING_THREADS = 256;
/** Blocks that fill any GPU several times over. */
const MOST_STRIDING_BLOCKS = 4096;

/** Parameter blocks by size: the driver copies them during the launch, so one of each is enough. */
const blocks = new Map<number, ParameterBlock>();

function parametersOf(words: BigInt64Array): ParameterBlock {
  const block = blocks.get(words.length) ?? new ParameterBlock(words.length);
  blocks.set(words.length, block);
  block.words.set(words);
  return block;
}

/** Launches a kernel that has one struct of 64-bit words for a parameter. */
export function launch(
  stream: CudaStream,
  kernel: CudaKernel,
  words: BigInt64Array,
  grid: readonly [x: number, y?: number],
  block: readonly [x: number, y?: number],
  dynamicSharedBytes = 0,
): void {
  const shape = {
    grid: [grid[0], grid[1] ?? 1, 1],
    block: [block[0], block[1] ?? 1, 1],
    dynamicSharedBytes,
  } as const;
  stream.launch(kernel, shape, parametersOf(words));
}

/** Launches a kernel whose threads stride over `elements` elements, for each of `groups`. */
export function launchStriding(
  stream: CudaStream,
  kernel: CudaKernel,
  words: BigInt64Array,
  elements: number,
  groups = 1,
): void {
  const most = Math.max(1, Math.floor(MOST_STRIDING_BLOCKS / groups));
  const count = Math.min(most, Math.max(1, Math.ceil(elements / STRIDING_THREADS)));
  launch(stream, kernel, words, [count, groups], [STRIDING_THREADS]);
}

import type { CudaKernel } from '../../../cuda/module.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import type { LaunchShape } from '../../../ffi/cuda-structs.ts';
import { ParameterBlock } from '../../../ffi/parameter-block.ts';

/** Threads of a block of kernels that stride over their elements. */
const STRIDING_THREADS = 256;
/** Blocks that fill any GPU several times over. */
const MOST_STRIDING_BLOCKS = 4096;

/**
 * Parameter blocks by size: the driver copies them during the launch, so one of each is enough for all devices of a thread. Each
 * thread has this module, and so blocks, of its own.
 */
const blocks = new Map<number, ParameterBlock>();

/** The words as a kernel's parameter, until the next call for as many. */
export function parametersOf(words: BigInt64Array): ParameterBlock {
  const block = blocks.get(words.length) ?? new ParameterBlock(words.length);
  blocks.set(words.length, block);
  block.words.set(words);
  return block;
}

/** A launch of a kernel that has one struct of 64-bit words for a parameter. */
export interface KernelLaunch {
  readonly kernel: CudaKernel;
  readonly shape: LaunchShape;
  readonly words: BigInt64Array;
}

export function kernelLaunch(
  kernel: CudaKernel,
  words: BigInt64Array,
  grid: readonly [x: number, y?: number],
  block: readonly [x: number, y?: number],
  dynamicSharedBytes = 0,
): KernelLaunch {
  const shape: LaunchShape = {
    grid: [grid[0], grid[1] ?? 1, 1],
    block: [block[0], block[1] ?? 1, 1],
    dynamicSharedBytes,
  };
  return { kernel, shape, words };
}

/** Whether two launches of a kernel are the same. */
export function sameLaunch(a: KernelLaunch, b: KernelLaunch): boolean {
  return (
    a.shape.grid[0] === b.shape.grid[0] &&
    a.shape.grid[1] === b.shape.grid[1] &&
    a.shape.block[0] === b.shape.block[0] &&
    a.shape.block[1] === b.shape.block[1] &&
    a.shape.dynamicSharedBytes === b.shape.dynamicSharedBytes &&
    a.words.length === b.words.length &&
    a.words.every((word, i) => word === b.words[i])
  );
}

export function putLaunch(stream: CudaStream, { kernel, shape, words }: KernelLaunch): void {
  stream.launch(kernel, shape, parametersOf(words));
}

export function launch(stream: CudaStream, ...of: Parameters<typeof kernelLaunch>): void {
  putLaunch(stream, kernelLaunch(...of));
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

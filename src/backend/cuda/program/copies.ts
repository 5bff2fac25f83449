/** Copies between the host's pinned memory and device memory. */
import type { CudaKernel } from '../../../cuda/module.ts';
import type { CudaStream } from '../../../cuda/stream.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import type { HostPtr } from '../../../ffi/host-memory.ts';
import { elementBytes, type Matrix } from '../../backend.ts';
import { launchStriding } from '../kernels/launcher.ts';
import { struct } from '../kernels/struct.ts';
import { startOf } from '../memory/buffer.ts';
import { isShortCopy } from './schedule.ts';

const WORD_BYTES = 4;

/** What copy_words.cuh is told. */
export const CopyWordsParams = struct('CopyWordsParams', 'copy_words.cuh', {
  source: 'address',
  target: 'address',
  /** Of 4 bytes. */
  words: 'integer',
  /** 1: the source is 0 afterwards; 0: it stays. */
  clears: 'integer',
});

/** Puts copies into streams: of short ones, a kernel. The host's side is pinned and stays until the stream has passed it. */
export class Copies {
  readonly #copyWords: CudaKernel;

  /** `copyWords`: the utility of that name. */
  constructor(copyWords: CudaKernel) {
    this.#copyWords = copyWords;
  }

  /** The first rows of the matrix = staged ones, `elements` in all, which lie without gaps. */
  upload(stream: CudaStream, staged: HostPtr, output: Matrix, elements: number): void {
    eachRun(output, elements, (to, from, bytes) => {
      const target = plus(startOf(output), to);
      const source = plus(staged, from);
      if (byKernel(target, source, bytes)) this.#put(stream, target, source, bytes);
      else stream.copyToDevice(target, source, bytes);
    });
  }

  /** Staged rows, `elements` in all, which lie without gaps = the first of the matrix. */
  download(stream: CudaStream, input: Matrix, staged: HostPtr, elements: number): void {
    eachRun(input, elements, (from, to, bytes) => {
      const target = plus(staged, to);
      const source = plus(startOf(input), from);
      if (byKernel(target, source, bytes)) this.#put(stream, target, source, bytes);
      else stream.copyToHost(target, source, bytes);
    });
  }

  /** Copies `bytes`, a multiple of 4, to the host, and leaves zeros. */
  take(stream: CudaStream, target: HostPtr, source: DevicePtr, bytes: number): void {
    this.#put(stream, target, source, bytes, true);
  }

  #put(stream: CudaStream, target: bigint, source: bigint, bytes: number, clears = false): void {
    const words = bytes / WORD_BYTES;
    const params = CopyWordsParams.encode({ source, target, words, clears: clears ? 1 : 0 });
    launchStriding(stream, this.#copyWords, params, words);
  }
}

/** Rows of halves may begin between two words. */
function byKernel(target: bigint, source: bigint, bytes: number): boolean {
  const isWords = [target, source, BigInt(bytes)].every((value) => value % BigInt(WORD_BYTES) === 0n);
  return isShortCopy(bytes) && isWords;
}

/** Every stretch of the first elements that lies without gaps on both sides, as byte offsets. */
function eachRun(
  matrix: Matrix,
  elements: number,
  visit: (offset: number, packed: number, bytes: number) => void,
): void {
  const { cols, stride } = matrix;
  const size = elementBytes(matrix);
  const length = stride === cols ? elements : cols;
  for (let at = 0, row = 0; at < elements; at += length, row++) {
    visit(row * stride * size, at * size, length * size);
  }
}

function plus<A extends bigint>(address: A, bytes: number): A {
  return (address + BigInt(bytes)) as A;
}

/** Copies of matrices between the host's staging memory and device memory. */
import type { CudaStream } from '../../cuda/stream.ts';
import type { HostPtr } from '../../ffi/host-memory.ts';
import { elementBytes, type Matrix, type PooledMatrix } from '../backend.ts';
import { startOf } from './buffer.ts';

/** The first rows of the matrix = staged ones, `elements` in all, which lie without gaps. */
export function upload(stream: CudaStream, staged: HostPtr, output: Matrix, elements: number): void {
  eachRun(output, elements, (to, from, bytes) => {
    stream.copyToDevice(plus(startOf(output), to), plus(staged, from), bytes);
  });
}

/** Staged rows, `elements` in all, which lie without gaps = the first of the matrix. */
export function download(stream: CudaStream, input: PooledMatrix, staged: HostPtr, elements: number): void {
  eachRun(input, elements, (from, to, bytes) => {
    stream.copyToHost(plus(staged, to), plus(startOf(input), from), bytes);
  });
}

/** Every stretch of the first elements that lies without gaps on both sides, as byte offsets. */
function eachRun(
  matrix: PooledMatrix,
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

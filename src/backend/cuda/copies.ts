/** Copies of matrices between the host's staging memory and device memory. */
import type { CudaStream } from '../../cuda/stream.ts';
import type { HostPtr } from '../../ffi/cpu-library.ts';
import type { Matrix } from '../backend.ts';
import { FLOAT_BYTES, startOf } from './buffer.ts';

/** matrix = staged rows, which lie without gaps. */
export function upload(stream: CudaStream, staged: HostPtr, output: Matrix): void {
  eachRun(output, output.cols, (to, from, bytes) => {
    stream.copyToDevice(plus(startOf(output), to), plus(staged, from), bytes);
  });
}

/** staged rows, which lie without gaps = matrix. */
export function download(stream: CudaStream, input: Matrix, staged: HostPtr): void {
  eachRun(input, input.cols, (from, to, bytes) => {
    stream.copyToHost(plus(staged, to), plus(startOf(input), from), bytes);
  });
}

/** output = input. */
export function copy(stream: CudaStream, input: Matrix, output: Matrix): void {
  eachRun(input, output.stride, (from, to, bytes) => {
    stream.copyOnDevice(plus(startOf(output), to), plus(startOf(input), from), bytes);
  });
}

/** Every stretch of a matrix that lies without gaps on both sides, as byte offsets. */
function eachRun(
  { rows, cols, stride }: Matrix,
  otherStride: number,
  visit: (offset: number, other: number, bytes: number) => void,
): void {
  const whole = stride === cols && otherStride === cols;
  const length = (whole ? rows * cols : cols) * FLOAT_BYTES;
  for (let row = 0; row < (whole ? Math.min(1, rows) : rows); row++) {
    visit(row * stride * FLOAT_BYTES, row * otherStride * FLOAT_BYTES, length);
  }
}

function plus<A extends bigint>(address: A, bytes: number): A {
  return (address + BigInt(bytes)) as A;
}

/** Transfers: rows between buffers of this GPU, of other GPUs and of host memory, the last through pinned memory. */
import type { CudaStream } from '../../../cuda/stream.ts';
import { UsageError } from '../../../errors.ts';
import {
  MOST_PITCH_BYTES,
  type PeerAddress,
  type PeerRows,
  type PitchedRows,
  type RowsShape,
} from '../../../ffi/cuda-structs.ts';
import type { ContextHandle, DevicePtr } from '../../../ffi/cuda-symbols.ts';
import type { CopiedRows, HostCopy, HostPtr } from '../../../ffi/host-memory.ts';
import { elementBytes, type Matrix, type Operation, ownBy, type TransferOperation } from '../../backend.ts';
import { HostBuffer, hostStart } from '../../host-buffer.ts';
import { overlap } from '../../overlap.ts';
import { CudaBuffer, startOf } from '../memory/buffer.ts';
import type { Copies } from './copies.ts';

export function isOnHost({ buffer }: Matrix): boolean {
  return buffer instanceof HostBuffer;
}

/** Whether a program copies from GPU to GPU. */
export function reachesPeers(program: readonly Operation[]): boolean {
  return program.some((operation) => operation.op === 'transfer' && isPeerCopy(operation));
}

/**
 * Checks the ends of a program's transfers. Host memory is read before its work begins and written after its end, so that what
 * one transfer writes no other one may use.
 * @throws UsageError OPTION_INVALID.
 */
export function checkTransfers(program: readonly Operation[]): void {
  const written = new Map<Matrix, number>();
  for (const [place, operation] of program.entries()) {
    if (operation.op !== 'transfer') continue;
    const { input, output } = operation;
    for (const { buffer } of [input, output])
      if (!(buffer instanceof CudaBuffer || buffer instanceof HostBuffer))
        refuse(
          place,
          'reaches a buffer that is neither in host memory nor on a GPU of Hotrow',
          'allocate both with Hotrow',
        );
    const onHost = [input, output].find(isOnHost);
    if (onHost === undefined) continue;
    for (const [earlier, by] of written)
      if (overlap(earlier, onHost))
        refuse(place, `uses host memory that program[${by}] writes`, 'run the two one after the other');
    if (onHost === output) written.set(output, place);
  }
}

function refuse(place: number, why: string, hint: string): never {
  const option = `program[${place}]`;
  throw new UsageError('OPTION_INVALID', `${option} ${why}`, { option, hint });
}

/** The copy that stages the rows of a matrix in host memory. */
export function rowsFromHost(input: Matrix, staged: HostPtr): HostCopy {
  const { rows: count, rowBytes: bytes } = shapeOf(input);
  const rows = { count, sourceStride: input.stride * elementBytes(input), targetStride: bytes };
  return { source: hostStart(input), target: staged, ...withoutGaps(bytes, rows) };
}

/** The copy of staged rows to a matrix in host memory. */
export function rowsToHost(output: Matrix, staged: HostPtr): HostCopy {
  const { rows: count, rowBytes: bytes } = shapeOf(output);
  const rows = { count, targetStride: output.stride * elementBytes(output), sourceStride: bytes };
  return { source: staged, target: hostStart(output), ...withoutGaps(bytes, rows) };
}

/** Rows that follow each other are one: the copy is divided better. */
function withoutGaps(bytes: number, rows: CopiedRows): Pick<HostCopy, 'bytes' | 'rows'> {
  const isOne = rows.targetStride === bytes && rows.sourceStride === bytes;
  return isOne ? { bytes: bytes * rows.count } : { bytes, rows };
}

/** Puts a transfer into a stream; `staged`: where the rows of host memory lie in pinned memory, without gaps. */
export function enqueueTransfer(
  stream: CudaStream,
  copies: Copies,
  { input, output }: TransferOperation,
  staged: () => HostPtr,
): void {
  const { rows, cols } = input;
  if (rows * cols === 0) return;
  if (isOnHost(input)) fromPinned(stream, copies, staged(), output);
  else if (isOnHost(output)) toPinned(stream, copies, input, staged());
  else betweenGpus(stream, input, output);
}

function fromPinned(stream: CudaStream, copies: Copies, staged: HostPtr, output: Matrix): void {
  if (!isPitched(output)) copies.upload(stream, staged, output, output.rows * output.cols);
  else stream.copyRows(rowsOf(output), packedRows(staged, output), shapeOf(output));
}

function toPinned(stream: CudaStream, copies: Copies, input: Matrix, staged: HostPtr): void {
  if (!isPitched(input)) copies.download(stream, input, staged, input.rows * input.cols);
  else stream.copyRows(packedRows(staged, input), rowsOf(input), shapeOf(input));
}

function betweenGpus(stream: CudaStream, input: Matrix, output: Matrix): void {
  const shape = shapeOf(input);
  const [target, source] = [rowsOf(output), rowsOf(input)];
  const isPeer = target.context !== source.context;
  const copyBlock = (to: PeerAddress, from: PeerAddress, bytes: number) => {
    if (isPeer) stream.copyToPeer(to, from, bytes);
    else stream.copyOnDevice(to.address, from.address, bytes);
  };
  if (hasNoGaps(input) && hasNoGaps(output)) copyBlock(target, source, shape.rows * shape.rowBytes);
  else if (Math.max(target.pitchBytes, source.pitchBytes) > MOST_PITCH_BYTES)
    for (let row = 0; row < shape.rows; row++)
      copyBlock(rowAt(target, row), rowAt(source, row), shape.rowBytes);
  else if (isPeer) stream.copyRowsToPeer(target, source, shape);
  else stream.copyRows(target, source, shape);
}

function isPeerCopy({ input, output }: TransferOperation): boolean {
  return !isOnHost(input) && !isOnHost(output) && contextOf(input) !== contextOf(output);
}

function contextOf({ buffer }: Matrix): ContextHandle {
  return ownBy(CudaBuffer, buffer).gpu.context;
}

function hasNoGaps({ rows, cols, stride }: Matrix): boolean {
  return rows === 1 || stride === cols;
}

/** Whether its rows lie apart, by as much as the driver can know. */
function isPitched(matrix: Matrix): boolean {
  return !hasNoGaps(matrix) && matrix.stride * elementBytes(matrix) <= MOST_PITCH_BYTES;
}

function shapeOf(matrix: Matrix): RowsShape {
  return { rows: matrix.rows, rowBytes: matrix.cols * elementBytes(matrix) };
}

function rowsOf(matrix: Matrix): PeerRows {
  // Of a single row, the stride may be anything.
  const stride = matrix.rows === 1 ? matrix.cols : matrix.stride;
  const pitchBytes = stride * elementBytes(matrix);
  return { address: startOf(matrix), context: contextOf(matrix), pitchBytes };
}

function packedRows(address: HostPtr, matrix: Matrix): PitchedRows {
  return { address, pitchBytes: shapeOf(matrix).rowBytes };
}

function rowAt({ address, context, pitchBytes }: PeerRows, row: number): PeerAddress {
  return { address: (address + BigInt(row * pitchBytes)) as DevicePtr, context };
}

/** A tensor whose parts are tensors of their own, in one file or in several. */
import { filesOf, readBytes } from '../../stored-tensor.ts';
import {
  type AssembledTensor,
  type DType,
  elementBytes,
  elementCount,
  type StoredTensor,
} from '../../tensor.ts';
import { type Box, BoxRuns } from './box.ts';

/** A part of a tensor and where its elements are. */
export interface Part {
  readonly box: Box;
  /** Of the tensor's dtype and the box's sizes. */
  readonly tensor: StoredTensor;
}

/** Parts are read in pieces of this size where their rows are scattered; longer runs go straight to their place. */
const PIECE_BYTES = 4 << 20;
const LONG_RUN_BYTES = 1 << 16;

/** Puts `parts`, none empty, which fill `shape` exactly once, together: reads any range of bytes with 4 MiB of memory. */
export function assemble(dtype: DType, shape: readonly number[], parts: readonly Part[]): AssembledTensor {
  const bytes = elementBytes(dtype);
  // Bytes are the last axis, so that a range may begin inside an element.
  const placed = parts.map(({ box, tensor }) => ({
    tensor,
    runs: new BoxRuns([...shape, bytes], { offsets: [...box.offsets, 0], sizes: [...box.sizes, bytes] }),
  }));
  return {
    dtype,
    shape,
    byteLength: elementCount(shape) * bytes,
    files: [...new Set(parts.flatMap(({ tensor }) => filesOf(tensor)))],
    read: async (into, at) => {
      for (const { tensor, runs } of placed) await readPart(tensor, runs, into, at);
    },
  };
}

/** Fills what `into`, which begins at byte `at` of the whole, holds of one part. */
async function readPart(part: StoredTensor, runs: BoxRuns, into: Uint8Array, at: number): Promise<void> {
  const end = runs.before(at + into.length);
  let piece: Uint8Array | undefined;
  for (let from = runs.before(at); from < end; ) {
    const run = Math.floor(from / runs.length);
    const inRun = Math.min((run + 1) * runs.length, end) - from;
    if (inRun >= LONG_RUN_BYTES || from + inRun === end) {
      const to = runs.start(run) + (from - run * runs.length) - at;
      await readBytes(part, into.subarray(to, to + inRun), from);
      from += inRun;
      continue;
    }
    piece ??= new Uint8Array(Math.min(PIECE_BYTES, end - from));
    const some = piece.subarray(0, Math.min(piece.length, end - from));
    await readBytes(part, some, from);
    scatter(some, from, runs, into, at);
    from += some.length;
  }
}

/** Puts bytes of a part, from its byte `from` on, where they belong in `into`. */
function scatter(bytes: Uint8Array, from: number, runs: BoxRuns, into: Uint8Array, at: number): void {
  for (let done = 0; done < bytes.length; ) {
    const run = Math.floor((from + done) / runs.length);
    const inRun = from + done - run * runs.length;
    const count = Math.min(runs.length - inRun, bytes.length - done);
    into.set(bytes.subarray(done, done + count), runs.start(run) + inRun - at);
    done += count;
  }
}

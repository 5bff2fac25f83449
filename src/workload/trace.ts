/** Traces: recorded streams of row indices, and the batches that are made of them. */
import { extname } from 'node:path';
import type { BagBatch, IndexArray } from '../embedding/bag.ts';
import { WorkloadError } from '../errors.ts';
import { gunzipToTemporaryFile, openMaybeGzip } from '../formats/gzip.ts';
import { detectFormat, readTorchFile } from '../formats/torch-file.ts';
import { elementCount, isStored, readTensor, type StoredTensor, type Tensor } from '../tensor.ts';
import { bagOffsets, drawBagLengths, parseBagLengths, totalLookups } from './bag-lengths.ts';
import { createRandom } from './random.ts';

/** Recorded lookups: one stream that all tables share, or one per table. */
export interface Trace {
  readonly file: string;
  readonly format: 'text' | 'dlrm_datasets';
  readonly streams: readonly IndexArray[];
}

/**
 * Reads a trace: one row index a line (gzip too), or Meta's dlrm_datasets (`.pt`, `.pt.gz`: a tuple of indices,
 * offsets and lengths, table-major).
 * @throws UsageError FILE_*; WorkloadError TRACE_INVALID naming line and value, TRACE_EMPTY; FormatError.
 */
export async function readTrace(file: string): Promise<Trace> {
  const format = await detectFormat(file);
  if (format === 'torch') return readDlrmDataset(file, file);
  if (format === 'gzip' && extname(file.replace(/\.gz$/i, '')) === '.pt') {
    await using unpacked = await gunzipToTemporaryFile(file);
    return await readDlrmDataset(file, unpacked.path);
  }
  const indices = await readIndexLines(file);
  if (indices.length === 0) throw new WorkloadError('TRACE_EMPTY', `${file} holds no lookups`, { file });
  return { file, format: 'text', streams: [indices] };
}

const NEWLINE = 0x0a;
const RETURN = 0x0d;
const ZERO = 0x30;

/** Row indices stay below this: kernels take signed 64-bit, reports count rows in arrays. */
const MAX_INDEX = 2 ** 31 - 1;

async function readIndexLines(file: string): Promise<Int32Array> {
  let indices = new Int32Array(1 << 16);
  let count = 0;
  let line = 1;
  let value = 0;
  let digits = 0;
  let text = '';
  let returned = false;
  const invalid = (): never => {
    const shown = text.length > 40 ? `${text.slice(0, 40)}…` : text;
    throw new WorkloadError(
      'TRACE_INVALID',
      `${file}, line ${line}: ${JSON.stringify(shown)} is not a row index in [0, ${MAX_INDEX}]`,
      {
        file,
        position: line,
        value: shown,
        hint: 'a trace has one row index a line',
      },
    );
  };
  const endLine = () => {
    if (text !== '' || value > MAX_INDEX) {
      if (text === '') text = String(value);
      invalid();
    }
    if (digits > 0) {
      if (count === indices.length) {
        const larger = new Int32Array(count * 2);
        larger.set(indices);
        indices = larger;
      }
      indices[count++] = value;
    }
    value = 0;
    digits = 0;
    returned = false;
    line += 1;
  };
  for await (const chunk of openMaybeGzip(file)) {
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i] as number;
      if (byte === NEWLINE) endLine();
      else if (text === '' && byte >= ZERO && byte <= ZERO + 9 && digits < 12 && !returned) {
        value = value * 10 + byte - ZERO;
        digits += 1;
      } else if (byte === RETURN && !returned) returned = true;
      else {
        // Not a digit: keep the line's text, bounded, for the error at its end.
        if (text === '') text = `${digits > 0 ? value : ''}${returned ? '\r' : ''}`;
        if (text.length < 64) text += String.fromCharCode(byte);
      }
    }
  }
  if (digits > 0 || text !== '') endLine();
  return indices.slice(0, count);
}

async function readDlrmDataset(file: string, path: string): Promise<Trace> {
  const invalid = (message: string): never => {
    throw new WorkloadError('TRACE_INVALID', `${file}: ${message}`, {
      file,
      hint: 'dlrm_datasets files hold a tuple (indices, offsets, lengths)',
    });
  };
  const saved: unknown = await readTorchFile(path);
  if (!Array.isArray(saved) || saved.length < 2) return invalid('holds no tuple (indices, offsets, lengths)');
  const [indices, offsets, lengths] = await Promise.all(
    saved.slice(0, 3).map(async (value, i) => {
      const name = ['indices', 'offsets', 'lengths'][i];
      const { shape, data } = isTensor(value) ? await readTensor(value) : invalid(`${name} is not a tensor`);
      if (!(data instanceof Int32Array || data instanceof BigInt64Array))
        return invalid(`${name} is not int32 or int64`);
      return { shape, data };
    }),
  );
  if (indices === undefined || offsets === undefined) return invalid('holds no indices and offsets');
  // Lengths are [T, B]; without a shape to tell the tables, the file is one table.
  const tables = lengths?.shape.length === 2 ? (lengths.shape[0] as number) : 1;
  const bags = offsets.data.length - (offsets.data.length % tables === 0 ? 0 : 1);
  if (tables < 1 || bags % tables !== 0)
    return invalid(`${offsets.data.length} offsets do not divide into ${tables} tables`);
  const expected = lengths === undefined ? bags : elementCount(lengths.shape);
  if (offsets.data.length !== expected && offsets.data.length !== expected + 1)
    return invalid(`${offsets.data.length} offsets do not fit ${expected} lengths`);
  const start = (t: number) =>
    t === tables ? indices.data.length : Number(offsets.data[(t * bags) / tables] ?? indices.data.length);
  const streams = Array.from({ length: tables }, (_, t) => {
    const [begin, end] = [start(t), start(t + 1)];
    if (begin < 0 || begin > end || end > indices.data.length)
      return invalid(`offsets of table ${t} are [${begin}, ${end}) of ${indices.data.length} lookups`);
    return indices.data.subarray(begin, end);
  });
  streams.forEach((stream, t) => {
    const bad = stream.findIndex((index: number | bigint) => index < 0 || index > MAX_INDEX);
    if (bad >= 0)
      invalid(`table ${t}, lookup ${bad}: ${stream[bad]} is not a row index in [0, ${MAX_INDEX}]`);
  });
  if (indices.data.length === 0) throw new WorkloadError('TRACE_EMPTY', `${file} holds no lookups`, { file });
  return { file, format: 'dlrm_datasets', streams };
}

const isTensor = (value: unknown): value is StoredTensor =>
  typeof value === 'object' && value !== null && 'dtype' in value && isStored(value as Tensor);

export interface TraceBatches {
  readonly tables: readonly { readonly rows: number }[];
  readonly batchSize: number;
  /** As parseBagLengths takes it. */
  readonly bagLengths: string;
  readonly seed: number;
  readonly batches: number;
}

/**
 * Batches made of a trace, as the paper's artifact makes them: indices that are not below a table's row count are
 * dropped, then the stream is handed out in order, table by table, batch by batch, and wraps at its end. A trace with
 * a stream per table gives table t stream t, modulo their number.
 * @throws WorkloadError TRACE_EMPTY when no index fits a table; UsageError USAGE for bag lengths.
 */
export function traceBatches(
  trace: Trace,
  { tables, batchSize, bagLengths, seed, batches }: TraceBatches,
): { batches: BagBatch[]; dropped: number } {
  const lengths = parseBagLengths(bagLengths);
  const random = createRandom(seed);
  const cursors = new Map<string, Cursor>();
  const cursorOf = (t: number, rows: number) => {
    const stream = t % trace.streams.length;
    const key = `${stream} ${rows}`;
    const cursor = cursors.get(key) ?? new Cursor(trace, stream, rows);
    cursors.set(key, cursor);
    return cursor;
  };
  const made = Array.from({ length: batches }, () => ({
    batchSize,
    bags: tables.map(({ rows }, t) => {
      const drawn = drawBagLengths(lengths, batchSize, random);
      return { indices: cursorOf(t, rows).next(totalLookups(drawn)), offsets: bagOffsets(drawn) };
    }),
  }));
  return { batches: made, dropped: [...cursors.values()].reduce((sum, { dropped }) => sum + dropped, 0) };
}

/** A position in the part of a stream that fits a table. */
class Cursor {
  readonly dropped: number;
  readonly #indices: BigInt64Array;
  #at = 0;

  constructor({ file, streams }: Trace, stream: number, rows: number) {
    const all = streams[stream] as IndexArray;
    const wide = all instanceof BigInt64Array ? all : BigInt64Array.from(all, BigInt);
    this.#indices = wide.filter((index) => index < rows);
    this.dropped = wide.length - this.#indices.length;
    if (this.#indices.length === 0) {
      throw new WorkloadError('TRACE_EMPTY', `${file} has no lookup below ${rows}, the table's row count`, {
        file,
      });
    }
  }

  next(count: number): BigInt64Array {
    const indices = new BigInt64Array(count);
    for (let done = 0; done < count; ) {
      const part = this.#indices.subarray(this.#at, this.#at + count - done);
      indices.set(part, done);
      done += part.length;
      this.#at = (this.#at + part.length) % this.#indices.length;
    }
    return indices;
  }
}

/** Traces: recorded streams of row indices, and the batches that are made of them. */
import type { BagBatch, IndexArray } from '../embedding/bag.ts';
import { WorkloadError } from '../errors.ts';
import { expectKind } from '../formats/file-kind.ts';
import { openMaybeGzip } from '../formats/gzip.ts';
import {
  type BagLengths,
  bagOffsets,
  drawBagLengths,
  parseTableBagLengths,
  totalLookups,
} from './bag-lengths.ts';
import { readDlrmDataset, readGzippedDlrmDataset } from './dlrm-dataset.ts';
import { asInt32, GrowingArray, MAX_INDEX } from './index-values.ts';
import { createRandom } from './random.ts';

/** Recorded lookups: one stream that all tables share, or one per table. */
export interface Trace {
  readonly file: string;
  readonly format: 'text' | 'dlrm_datasets';
  /** Row indices in [0, 2^31), in access order. */
  readonly streams: readonly IndexArray[];
  /** dlrm_datasets: per table [bags + 1], where each recorded bag starts in its stream, and the end of the last. */
  readonly offsets?: readonly Float64Array[];
}

export interface ReadTraceOptions {
  /** Tables of a dlrm_datasets file whose lengths are flat, [T·B]; default 1. */
  readonly tables?: number;
}

/**
 * Reads a trace: one row index a line, or Meta's dlrm_datasets (a torch.save of a tuple of indices, offsets and lengths,
 * table-major). Either may be gzipped; the contents tell which it is, not the name.
 * @throws UsageError FILE_*; WorkloadError TRACE_INVALID naming line and value, TRACE_EMPTY; FormatError, FORMAT_UNKNOWN
 * naming what the file is instead.
 */
export async function readTrace(file: string, options: ReadTraceOptions = {}): Promise<Trace> {
  const { kind, gzipped } = await expectKind(file, 'trace');
  if (kind === 'torch' || kind === 'torch-legacy')
    return gzipped ? readGzippedDlrmDataset(file, options) : readDlrmDataset(file, file, options);
  const indices = await readIndexLines(file);
  if (indices.length === 0) throw new WorkloadError('TRACE_EMPTY', `${file} holds no lookups`, { file });
  return { file, format: 'text', streams: [indices] };
}

const NEWLINE = 0x0a;
const RETURN = 0x0d;
const ZERO = 0x30;

async function readIndexLines(file: string): Promise<Int32Array> {
  const indices = new GrowingArray((length) => new Int32Array(length));
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
        hint: "a trace has one row index a line: numpy.savetxt(path, indices, fmt='%d') writes one",
      },
    );
  };
  const endLine = () => {
    if (text !== '' || value > MAX_INDEX) {
      if (text === '') text = String(value);
      invalid();
    }
    if (digits > 0) indices.push(value);
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
  return indices.toArray();
}

export interface TraceBatches {
  readonly tables: readonly { readonly rows: number }[];
  readonly batchSize: number;
  /** As parseTableBagLengths takes them. */
  readonly bagLengths: string;
  readonly seed: number;
  readonly batches: number;
}

/**
 * Batches made of a trace, as the paper's artifact makes them: indices that are not below a table's row count are
 * dropped, then the stream is handed out in order, table by table, batch by batch, and wraps at its end. A trace with
 * a stream per table gives table t stream t, modulo their number. Tables of different row counts that share a stream each
 * read it from its start; `dropped` counts once per stream and row count.
 * @throws WorkloadError TRACE_EMPTY when no index fits a table; UsageError USAGE for bag lengths.
 */
export function traceBatches(
  trace: Trace,
  { tables, batchSize, bagLengths, seed, batches }: TraceBatches,
): { batches: BagBatch[]; dropped: number } {
  const lengths = parseTableBagLengths(bagLengths, tables.length);
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
      const drawn = drawBagLengths(lengths[t] as BagLengths, batchSize, random);
      return { indices: cursorOf(t, rows).next(totalLookups(drawn)), offsets: bagOffsets(drawn) };
    }),
  }));
  return { batches: made, dropped: [...cursors.values()].reduce((sum, { dropped }) => sum + dropped, 0) };
}

/** A position in the part of a stream that fits a table. */
class Cursor {
  readonly dropped: number;
  readonly #indices: Int32Array;
  #at = 0;

  constructor({ file, streams }: Trace, stream: number, rows: number) {
    const all = asInt32(streams[stream] as IndexArray);
    this.#indices = all.filter((index) => index >= 0 && index < rows);
    this.dropped = all.length - this.#indices.length;
    if (this.#indices.length === 0) {
      throw new WorkloadError('TRACE_EMPTY', `${file} has no lookup below ${rows}, the table's row count`, {
        file,
        hint: 'the trace was recorded on a larger table: raise the rows, or choose another trace',
      });
    }
  }

  next(count: number): BigInt64Array {
    const indices = new BigInt64Array(count);
    // Rows stay below 2^31, so that the low halves are the values.
    const halves = new Int32Array(indices.buffer);
    for (let i = 0; i < count; i++) {
      halves[2 * i] = this.#indices[this.#at++] as number;
      if (this.#at === this.#indices.length) this.#at = 0;
    }
    return indices;
  }
}

/** Traces: recorded streams of row indices. */
import { type FilePath, membersOf, optional, path, whole } from '../checks/value.ts';
import type { IndexArray } from '../embedding/bag.ts';
import { WorkloadError } from '../errors.ts';
import { expectKind } from '../formats/file-kind.ts';
import { openMaybeGzip, withPlainFile } from '../formats/gzip.ts';
import { readDlrmDataset } from './dlrm-dataset.ts';
import { GrowingArray, MAX_INDEX } from './index-values.ts';

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

/** The most tables of a file. */
const MOST_TABLES = 2 ** 20;
const OPTIONS = membersOf<ReadTraceOptions>({ tables: optional(whole(1, MOST_TABLES)) });

/**
 * Reads a trace: one row index per line, or Meta's dlrm_datasets (a torch.save of a tuple of indices, offsets and lengths,
 * table-major). Either may be gzipped; the contents tell which it is, not the name.
 * @throws UsageError FILE_*; WorkloadError TRACE_INVALID naming line and value, TRACE_EMPTY; FormatError, FORMAT_UNKNOWN
 * naming what the file is instead.
 */
export async function readTrace(given: FilePath, tables: ReadTraceOptions = {}): Promise<Trace> {
  const file = path(given, 'readTrace: file');
  const options = OPTIONS(tables, 'readTrace');
  const { kind, gzipped } = await expectKind(file, 'trace');
  if (kind === 'torch' || kind === 'torch-legacy') {
    const recorded = await withPlainFile(file, gzipped, (path) =>
      readDlrmDataset(file, path, options.tables),
    );
    return { file, format: 'dlrm_datasets', ...recorded };
  }
  const indices = await readIndexLines(file);
  if (indices.length === 0) throw new WorkloadError('TRACE_EMPTY', `${file} holds no lookups`, { file });
  return { file, format: 'text', streams: [indices] };
}

/** Lookups that are held in memory at most: 512 MiB. A few megabytes of gzip hold more. */
const MAX_LOOKUPS = 2 ** 27;

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
    if (indices.length > MAX_LOOKUPS)
      throw new WorkloadError('TRACE_INVALID', `${file} has more than ${MAX_LOOKUPS} lookups`, {
        file,
        position: line,
        hint: `take a part of it: head -n ${MAX_LOOKUPS}`,
      });
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

/** One recorded stream for all tables, or one stream per table: what each table looks up of it. */
import { at } from '../../at.ts';
import type { EmbeddingTable } from '../../embedding/bag.ts';
import { fromFile, WorkloadError } from '../../errors.ts';
import type { AccessPatternName } from '../access-patterns.ts';
import { nearestPattern } from '../hotness.ts';
import { asInt32 } from '../index-values.ts';
import { readTrace, type Trace } from '../trace.ts';
import { checkedRows, type TrafficModel } from './samples.ts';
import type { TraceSource } from './sources.ts';
import type { Stream, TableFeed } from './table-feeds.ts';

export interface Streams {
  readonly format: Trace['format'] | 'named';
  /** A table each. */
  readonly feeds: readonly TableFeed[];
  /** Recorded bags of a table; undefined: bags have drawn lengths. */
  readonly bags: number | undefined;
  readonly notes: readonly string[];
}

/**
 * Reads a trace for a model's tables.
 * @throws as readTrace; WorkloadError TRACE_INVALID for streams of other tables than the model has; RequestError
 * INDEX_OUT_OF_RANGE for rows that a table of the model does not have.
 */
export async function readStreams(
  { path }: TraceSource,
  model: TrafficModel,
  needs: readonly number[],
): Promise<Streams> {
  const trace = await readTrace(path);
  const streams = trace.streams.length;
  const { tables, naming } = model;
  if (streams === 1 || naming === 'synthetic') return fittedStreams(trace, tables, needs);
  if (streams !== tables.length) {
    throw new WorkloadError(
      'TRACE_INVALID',
      `${path} has lookups of ${streams} tables, the model has ${tables.length}`,
      {
        file: path,
        hint: 'the trace was recorded on another model; a stream of one table serves all',
      },
    );
  }
  return fromFile(path, async () => ({
    format: trace.format,
    feeds: tables.map((table, t) => {
      checkedRows(table, at(trace.streams, t), t);
      return { kind: 'stream', stream: streamOf(trace, t) };
    }),
    bags: bagsOf(trace),
    notes: [],
  }));
}

const bagsOf = ({ offsets }: Trace) => offsets && at(offsets, 0).length - 1;

function streamOf({ file, streams, offsets }: Trace, s: number): Stream {
  const starts = offsets?.[s];
  return { file, indices: asInt32(at(streams, s)), ...(starts === undefined ? {} : { starts }) };
}

/** The part of a stream that fits a table. */
function partWithin(stream: Stream, rows: number): { readonly stream: Stream; readonly dropped: number } {
  const { indices } = stream;
  const fitting = indices.filter((row) => row < rows);
  if (fitting.length === indices.length) return { stream, dropped: 0 };
  const starts = stream.starts === undefined ? {} : { starts: startsWithin(stream, rows) };
  return { stream: { ...stream, indices: fitting, ...starts }, dropped: indices.length - fitting.length };
}

/**
 * Stream t modulo their number for table t, as the paper's artifact hands traces out: rows that a table does not have are
 * dropped. A table that hardly any lookup of a stream fits draws from the access pattern that the stream is nearest to.
 * `needs`: lookups of each table in a batch, about.
 */
export function fittedStreams(
  trace: Trace,
  tables: readonly Pick<EmbeddingTable, 'name' | 'rows'>[],
  needs: readonly number[],
): Streams {
  const sources = trace.streams.map((_, s) => streamOf(trace, s));
  const patterns = new Map<Stream, AccessPatternName>();
  const parts = new Map<string, { readonly stream: Stream; readonly dropped: number }>();
  const small: string[] = [];
  const feeds = tables.map(({ name, rows }, t): TableFeed => {
    const s = t % sources.length;
    const source = at(sources, s);
    const part = parts.get(`${s} ${rows}`) ?? partWithin(source, rows);
    if (!isTooSmall(part.stream.indices, source, at(needs, t))) {
      parts.set(`${s} ${rows}`, part);
      return { kind: 'stream', stream: part.stream };
    }
    const pattern = patterns.get(source) ?? patternOf(source.indices);
    patterns.set(source, pattern);
    small.push(`${t} (${name}, ${rows.toLocaleString('en-US')} rows)`);
    return { kind: 'pattern', rows, pattern, ...(source.starts === undefined ? {} : { like: source }) };
  });
  const dropped = [...parts.values()].map((part) => part.dropped).filter((count) => count > 0);
  const most = Math.max(...dropped).toLocaleString('en-US');
  const lookups = `${dropped.length > 1 ? 'up to ' : ''}${most} lookups past the tables' rows were dropped`;
  return {
    format: trace.format,
    feeds,
    bags: bagsOf(trace),
    notes: [
      ...(dropped.length === 0 ? [] : [`${trace.file}: ${lookups}`]),
      ...(small.length === 0
        ? []
        : [
            `${trace.file} was recorded on a larger table than ${tableList(small)}: there lookups are drawn from ${[...new Set(patterns.values())].join(' or ')}, the access pattern that it is nearest to`,
          ]),
    ],
  };
}

export function tableList(tables: readonly string[]): string {
  const [first] = tables;
  const shown =
    tables.length > 4 ? `${tables.slice(0, 3).join(', ')} and ${tables.length - 3} more` : tables.join(', ');
  return tables.length === 1 ? `table ${first}` : `tables ${shown}`;
}

/** Fewer lookups than this share of a stream are no picture of it. */
const LEAST_SHARE = 0.1;

/** Whether the part of a stream that fits a table is next to nothing, and not even a batch. */
function isTooSmall(fitting: Int32Array, { indices, starts }: Stream, need: number): boolean {
  if (fitting.length === 0) return indices.length > 0;
  return fitting.length < LEAST_SHARE * indices.length && (starts !== undefined || fitting.length < need);
}

/** The access pattern that a stream is nearest to, on as many rows as it reaches. */
export function patternOf(indices: Int32Array): AccessPatternName {
  return nearestPattern(indices, 1 + indices.reduce((most, row) => Math.max(most, row), 0)).pattern;
}

/** Where bags start among the lookups that fit. */
function startsWithin({ indices, starts = new Float64Array() }: Stream, rows: number): Float64Array {
  const within = new Float64Array(starts.length);
  let at = 0;
  let kept = 0;
  for (let bag = 0; bag < starts.length; bag++) {
    for (const end = starts[bag] as number; at < end; at++) if ((indices[at] as number) < rows) kept += 1;
    within[bag] = kept;
  }
  return within;
}

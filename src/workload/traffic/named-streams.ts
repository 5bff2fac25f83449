/** Traces in files of their own, each named for a table or a feature. */
import { at } from '../../at.ts';
import type { EmbeddingTable } from '../../embedding/bag.ts';
import { fromFile, RequestError, WorkloadError } from '../../errors.ts';
import { inputsOf } from '../../model/architecture.ts';
import { TableNumbers } from '../../model/request/feature-names.ts';
import { asInt32 } from '../index-values.ts';
import { readTrace } from '../trace.ts';
import { checkedRows, type TrafficModel } from './samples.ts';
import type { NamedSource } from './sources.ts';
import { patternOf, type Streams, tableList } from './streams.ts';
import type { Stream, TableFeed } from './table-feeds.ts';

/**
 * Reads each file for its table; tables without one draw from the access pattern that the longest is nearest to.
 * @throws as readTrace; RequestError FEATURE_UNKNOWN, TABLE_UNEXPECTED, INDEX_OUT_OF_RANGE; WorkloadError TRACE_INVALID for a
 * file of several tables.
 */
export async function readNamedStreams({ streams }: NamedSource, model: TrafficModel): Promise<Streams> {
  const { tables } = model;
  const byTable = new Map<number, Stream>();
  for (const { table: name, file } of streams) {
    const stream = await soleStream(file);
    for (const t of tablesNamed(name, file, model)) {
      if (byTable.has(t))
        throw new RequestError('TABLE_UNEXPECTED', `${name}=${file}: table ${t} has a trace already`, {
          file,
          table: t,
        });
      await fromFile(file, async () => checkedRows(at(tables, t), stream.indices, t));
      byTable.set(t, stream);
    }
  }
  return withPatterns(byTable, tables);
}

/** The one stream that a file holds. @throws as readTrace; WorkloadError TRACE_INVALID. */
export async function soleStream(file: string): Promise<Stream> {
  const { streams, offsets } = await readTrace(file);
  if (streams.length !== 1) {
    throw new WorkloadError(
      'TRACE_INVALID',
      `${file} has lookups of ${streams.length} tables, and is named for one`,
      {
        file,
        hint: 'pass it without a name: its tables are those of the model',
      },
    );
  }
  const starts = offsets?.[0];
  return { file, indices: asInt32(at(streams, 0)), ...(starts === undefined ? {} : { starts }) };
}

/** The feature of a name or number, or all features on the table of that name. @throws RequestError FEATURE_UNKNOWN, TABLE_UNEXPECTED. */
function tablesNamed(name: string, file: string, model: TrafficModel): number[] {
  const { features } = inputsOf(model);
  const onTable = features.flatMap(({ table }, t) => (table === name ? [t] : []));
  if (onTable.length > 0 && !features.some((feature) => feature.name === name)) return onTable;
  return [new TableNumbers(features).of(name, 'ids', `${name}=${file}`, { file })];
}

function withPatterns(byTable: ReadonlyMap<number, Stream>, tables: readonly EmbeddingTable[]): Streams {
  const streams = [...byTable.values()];
  const longest = streams.reduce((a, b) => (b.indices.length > a.indices.length ? b : a));
  const missing = tables.flatMap(({ name }, t) => (byTable.has(t) ? [] : [`${t} (${name})`]));
  const pattern = missing.length === 0 ? 'random' : patternOf(longest.indices);
  const feeds = tables.map(({ rows }, t): TableFeed => {
    const stream = byTable.get(t);
    return stream === undefined ? { kind: 'pattern', rows, pattern } : { kind: 'stream', stream };
  });
  const bags = streams.flatMap(({ starts }) => (starts === undefined ? [] : [starts.length - 1]));
  return {
    format: 'named',
    feeds,
    bags: bags.length === 0 ? undefined : Math.min(...bags),
    notes:
      missing.length === 0
        ? []
        : [
            `no trace is given for ${tableList(missing)}: there lookups are drawn from ${pattern}, the access pattern that ${longest.file} is nearest to`,
          ],
  };
}

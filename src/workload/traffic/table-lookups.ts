/** The lookups of each table in recorded traffic, all of them, for statistics. */
import { at } from '../../at.ts';
import { fromFile, UsageError } from '../../errors.ts';
import { CRITEO_CATEGORIES, CRITEO_NUMBERS } from '../../formats/criteo-columns.ts';
import { readRequest } from '../../model/request/safetensors-request.ts';
import { asInt32 } from '../index-values.ts';
import type { CategoryOptions } from '../request-file.ts';
import { readTrace } from '../trace.ts';
import { readNamedStreams, soleStream } from './named-streams.ts';
import { type Enough, type ReadRequests, readRequests } from './request-batches.ts';
import { join, type Samples, samplesOf, type TrafficModel } from './samples.ts';
import type { RequestForm, RequestSource, TrafficSource } from './sources.ts';
import { readStreams, type Streams } from './streams.ts';

/** One table's part of some traffic. */
export interface TableLookups {
  readonly table: number;
  /** The feature's or table's name, where it is known. */
  readonly name?: string;
  /** Rows of the table, where they are known. */
  readonly rows?: number;
  /** In their order, without the marks of pruned rows. Undefined: the traffic has none for it. */
  readonly indices: Int32Array | undefined;
}

export interface TrafficTables {
  readonly format: Streams['format'] | RequestForm;
  readonly tables: readonly TableLookups[];
  readonly notes: readonly string[];
}

export interface TableLookupsOptions extends CategoryOptions {
  /** Whose traffic it is; default: tables go by number, and hold rows. */
  readonly model?: TrafficModel;
  /** Samples to read at most, of requests. */
  readonly limit: number;
}

/** Reads all lookups of a source, table by table. @throws as readTraffic; UsageError USAGE where a model must say what ids are. */
export async function tableLookups(
  source: TrafficSource,
  options: TableLookupsOptions,
): Promise<TrafficTables> {
  const { model } = options;
  if (source.kind === 'requests') return requestLookups(source, options);
  if (model !== undefined) {
    // As a batch of any size would have it.
    const needs = model.tables.map(() => Number.POSITIVE_INFINITY);
    const { format, feeds, notes } =
      source.kind === 'named'
        ? await readNamedStreams(source, model)
        : await readStreams(source, model, needs);
    const tables = feeds.map((feed, table): TableLookups => {
      const { name, rows } = at(model.tables, table);
      return { table, name, rows, indices: feed.kind === 'stream' ? feed.stream.indices : undefined };
    });
    return { format, tables, notes };
  }
  if (source.kind === 'named') {
    const tables = [];
    for (const [table, { table: name, file }] of source.streams.entries())
      tables.push({ table, name, indices: (await soleStream(file)).indices });
    return { format: 'named', tables, notes: [] };
  }
  const { format, streams } = await readTrace(source.path);
  const tables = streams.map((indices, table) => ({ table, indices: asInt32(indices) }));
  return { format, tables, notes: [] };
}

async function requestLookups(
  source: RequestSource,
  { model, limit, ...categories }: TableLookupsOptions,
): Promise<TrafficTables> {
  const { requests, notes } =
    model === undefined
      ? await readWithoutModel(source, categories, { samples: limit })
      : await readRequests(source, model, categories, { samples: limit });
  const all = join(requests);
  const cut =
    source.form === 'Criteo rows' && all.count >= limit
      ? [`${source.path}: the first ${limit.toLocaleString('en-US')} samples; --limit reads more`]
      : [];
  const tables = all.bags.map(({ indices }, table): TableLookups => {
    const known = model?.tables[table];
    return {
      table,
      ...(known === undefined ? {} : { name: known.name, rows: known.rows }),
      indices: indices.some((row) => row < 0) ? indices.filter((row) => row >= 0) : indices,
    };
  });
  return { format: source.form, tables, notes: [...notes, ...cut] };
}

/** Tables by number that hold rows; of Criteo, rows by a vocabulary. */
async function readWithoutModel(
  source: RequestSource,
  categories: CategoryOptions,
  enough: Enough,
): Promise<ReadRequests> {
  const { form, files, path } = source;
  if (form === 'Criteo rows' && categories.vocabulary !== undefined)
    return readRequests(source, endlessTables(CRITEO_CATEGORIES, CRITEO_NUMBERS), categories, enough);
  if (form !== 'safetensors') {
    throw new UsageError('USAGE', `${path} is ${form}, and nothing says which rows its ids are`, {
      file: path,
      hint: 'pass --model MODEL that it is the traffic of; for Criteo rows, --vocabulary FILE will do',
    });
  }
  const requests: Samples[] = [];
  for (const file of files) {
    const own = await fromFile(file, async () => {
      const request = await readRequest(file);
      return samplesOf(
        request,
        endlessTables(requests[0]?.bags.length ?? request.bags.length, request.denseFeatures),
      );
    });
    requests.push(own);
  }
  return { requests, notes: [] };
}

/** Tables of no known size. */
function endlessTables(tables: number, denseFeatures: number): TrafficModel {
  const weight = { dtype: 'float32', shape: [2 ** 31, 1], seed: 0 } as const;
  return {
    naming: 'dlrm',
    denseFeatures,
    tables: Array.from({ length: tables }, (_, t) => ({
      ...({
        name: String(t),
        weight,
        rows: 2 ** 31,
        dim: 1,
        rowFormat: 'float32',
        mode: 'sum',
        pruned: true,
      } as const),
    })),
  };
}

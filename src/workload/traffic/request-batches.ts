/** Batches of recorded requests: samples in their order, whatever the files that they came in. */
import { at } from '../../at.ts';
import { fromFile, RequestError, type RequestErrorCode, WorkloadError } from '../../errors.ts';
import type { DlrmRequest } from '../../model/request/request.ts';
import { type CategoryOptions, readRequestFile } from '../request-file.ts';
import { batchOf, join, mixture, type Samples, samplesOf, slice, type TrafficModel } from './samples.ts';
import type { RequestSource } from './sources.ts';

export interface RequestBatchShape {
  /** Samples of a batch; default: as many as a request has, else `usualBatchSize`, or what there is where that is less. */
  readonly batchSize?: number;
  readonly usualBatchSize: number;
  readonly batches: number;
}

/** What was read of some requests. */
export interface ReadRequests {
  readonly requests: readonly Samples[];
  readonly notes: readonly string[];
}

/** @throws as readTraffic. */
export async function requestBatches(
  source: RequestSource,
  model: TrafficModel,
  shape: RequestBatchShape,
  categories: CategoryOptions,
): Promise<{ readonly batches: DlrmRequest[]; readonly notes: string[] }> {
  const { path, form } = source;
  // Rows of Criteo are no batches, and files of them can be of any size.
  const asked = shape.batchSize ?? (form === 'Criteo rows' ? shape.usualBatchSize : undefined);
  const { requests, notes } = await readRequests(
    source,
    model,
    categories,
    asked === undefined ? { timesFirst: shape.batches } : { samples: asked * shape.batches },
  );
  const samples = requests.reduce((sum, { count }) => sum + count, 0);
  const [first] = requests as [Samples];
  const batchSize = shape.batchSize ?? Math.min(asked ?? first.count, samples);
  const next = inOrder(requests);
  const batches = Array.from({ length: shape.batches }, () => batchOf(join(next(batchSize))));
  return { batches, notes: [...notes, ...wraps(path, samples, batchSize, shape.batches)] };
}

/** Says where samples come again. */
function wraps(path: string, samples: number, batchSize: number, batches: number): string[] {
  const count = (what: number) => what.toLocaleString('en-US');
  if (samples < batchSize)
    return [
      `${path}: its ${count(samples)} samples are fewer than a batch of ${count(batchSize)}: they come again within a batch, which makes rows look hotter than they are`,
    ];
  return samples < batchSize * batches
    ? [
        `${path}: its ${count(samples)} samples are fewer than ${batches} batches of ${count(batchSize)}: they come again from batch to batch, which keeps their rows in caches`,
      ]
    : [];
}

/** How much is read: so many samples, or so many times as the first request has. */
export type Enough = { readonly samples: number } | { readonly timesFirst: number };

/** Reads requests, file by file, until there are enough samples. @throws as readTraffic. */
export async function readRequests(
  { path, files }: RequestSource,
  model: TrafficModel,
  categories: CategoryOptions,
  enough: Enough,
): Promise<ReadRequests> {
  const requests: Samples[] = [];
  const notes = new Set<string>();
  let samples = 0;
  for (const file of files) {
    const [first] = requests;
    const wanted =
      'samples' in enough ? enough.samples : (first?.count ?? Number.POSITIVE_INFINITY) * enough.timesFirst;
    if (samples >= wanted) break;
    const { own, said } = await readSamples(file, model, categories, wanted - samples);
    for (const note of said) notes.add(note.replace(/^note: /, ''));
    if (own.count === 0) continue;
    const why = first === undefined ? undefined : mixture(own, first);
    if (why !== undefined) throw new WorkloadError('TRACE_MIXED', `${file}: ${why}`, { file });
    requests.push(own);
    samples += own.count;
  }
  if (samples === 0)
    throw new WorkloadError('TRACE_EMPTY', `${path} holds no samples`, {
      file: path,
      hint: 'traffic needs at least one sample',
    });
  return { requests, notes: [...notes] };
}

async function readSamples(
  file: string,
  model: TrafficModel,
  categories: CategoryOptions,
  limit: number,
): Promise<{ readonly own: Samples; readonly said: readonly string[] }> {
  const options = Number.isFinite(limit) ? { ...categories, limit } : categories;
  try {
    return await fromFile(file, async () => {
      const { request, notes } = await readRequestFile(file, model, options);
      return { own: samplesOf(request, model), said: notes };
    });
  } catch (error) {
    if (!(error instanceof RequestError) || model.naming !== 'synthetic') throw error;
    throw new RequestError(error.code as RequestErrorCode, error.message, {
      ...error.details,
      cause: error,
      hint: "without a MODEL, the tables are a preset's: pass the MODEL that the requests are for, or shape the tables as they are",
    });
  }
}

/** Hands samples out in their order, and begins again at their end. */
function inOrder(requests: readonly Samples[]): (count: number) => Samples[] {
  let request = 0;
  let next = 0;
  return (count) => {
    const parts: Samples[] = [];
    for (let missing = count; missing > 0; ) {
      const own = at(requests, request);
      const end = Math.min(own.count, next + missing);
      parts.push(slice(own, next, end));
      missing -= end - next;
      next = end;
      if (next < own.count) continue;
      next = 0;
      request = (request + 1) % requests.length;
    }
    return parts;
  };
}

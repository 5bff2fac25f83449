/** A user's own traffic: batches of recorded requests and traces, for a model or for a preset's tables. */
import { membersOf, optional, text, whole } from '../../checks/value.ts';
import type { BagBatch } from '../../embedding/bag.ts';
import { MOST_SAMPLES } from '../../embedding/check-bags.ts';
import { requestedModel } from '../../model/check-model.ts';
import type { DlrmRequest } from '../../model/request/request.ts';
import { CATEGORY_MEMBERS, type CategoryOptions } from '../request-file.ts';
import { readNamedStreams } from './named-streams.ts';
import { type RequestBatchShape, requestBatches } from './request-batches.ts';
import type { TrafficModel } from './samples.ts';
import { type TrafficSource, trafficSource } from './sources.ts';
import { readStreams } from './streams.ts';
import { type FeedShape, feedBatches, lookupsNeeded } from './table-feeds.ts';

export interface TrafficShape extends RequestBatchShape, Omit<FeedShape, 'batchSize'> {}

/** Batches of one workload. */
export interface Traffic {
  readonly name: string;
  /** Recorded requests with their dense features; of traces, bags alone. */
  readonly batches: readonly (BagBatch | DlrmRequest)[];
  /** Whether bags are as they were recorded, and not of drawn lengths. */
  readonly recorded: boolean;
  /** What was assumed, left out or repeated, for people. */
  readonly notes: readonly string[];
}

/** More are no batches to keep in memory. */
const MOST_BATCHES = 2 ** 20;
const size = whole(1, MOST_SAMPLES);
const SHAPE = membersOf<TrafficShape>({
  batchSize: optional(size),
  usualBatchSize: size,
  bagLengths: text,
  seed: whole(),
  batches: whole(1, MOST_BATCHES),
});
const CATEGORIES = membersOf<CategoryOptions>(CATEGORY_MEMBERS);

/**
 * Reads the traffic of a source, for a model's tables. Samples are batched in their order, and begin again at their end.
 * @throws before anything runs UsageError FILE_*, USAGE; FormatError; RequestError and WorkloadError naming file, table and
 * position where the traffic is of another model.
 */
export async function readTraffic(
  from: TrafficSource,
  of: TrafficModel,
  given: TrafficShape,
  raw: CategoryOptions = {},
): Promise<Traffic> {
  const source = trafficSource(from, 'readTraffic: source');
  const model = requestedModel(of, 'readTraffic: model');
  const shape = SHAPE(given, 'readTraffic: shape');
  const categories = CATEGORIES(raw, 'readTraffic: categories');
  const { name } = source;
  if (source.kind === 'requests') {
    const { batches, notes } = await requestBatches(source, model, shape, categories);
    return { name, batches, notes, recorded: true };
  }
  const usual = shape.batchSize ?? shape.usualBatchSize;
  const streams =
    source.kind === 'named'
      ? await readNamedStreams(source, model)
      : await readStreams(source, model, lookupsNeeded(model.tables.length, { ...shape, batchSize: usual }));
  const { bags, feeds } = streams;
  const batchSize = shape.batchSize ?? Math.min(usual, bags ?? usual);
  const { batches, notes } = feedBatches(feeds, { ...shape, batchSize });
  return { name, batches, notes: [...streams.notes, ...notes], recorded: bags !== undefined };
}

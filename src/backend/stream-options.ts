/** How many batches run side by side on a GPU, and what goes first: as users say it. */
import { type Members, oneOf, optional, whole } from '../checks/value.ts';

/** What goes before other work that waits for a multiprocessor. */
export const STREAMS_FIRST = ['dense', 'lookups', 'neither'] as const;

export interface StreamOptions {
  /**
   * Sets of streams. With one, programs follow each other in each of its streams: a batch's dense layers run beside the next one's lookups,
   * but for lookups that are short, whose batches are graphs one behind the other. With more, that many batches run side by
   * side, each set with memory of its own for matrix products. Default: 1.
   */
  readonly sets?: number;
  /** Default: dense. */
  readonly first?: (typeof STREAMS_FIRST)[number];
}

export const MOST_STREAM_SETS = 8;

export const STREAM_MEMBERS: Members<StreamOptions> = {
  sets: optional(whole(1, MOST_STREAM_SETS)),
  first: optional(oneOf(STREAMS_FIRST)),
};

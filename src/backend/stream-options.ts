/** How many batches run side by side on a GPU, and what goes first: as users say it. */
import { type Members, oneOf, optional, whole } from '../checks/value.ts';

/** What goes before other work that waits for a multiprocessor. */
export const STREAMS_FIRST = ['dense', 'lookups', 'neither'] as const;

export interface StreamOptions {
  /**
   * Sets of streams. With one, batches follow each other. With more, that many run side by side, one's dense layers beside another's
   * lookups, each set with memory of its own for matrix products. Default: DEFAULT_STREAM_SETS.
   */
  readonly sets?: number;
  /** Default: dense. */
  readonly first?: (typeof STREAMS_FIRST)[number];
}

export const MOST_STREAM_SETS = 8;
/**
 * A third one gains nothing on an H200 (`bench/cuda-kernels/streams.ts`); two gain up to half on batches of a few samples, and nothing
 * where lookups take nearly all the time.
 */
export const DEFAULT_STREAM_SETS = 2;

export const STREAM_MEMBERS: Members<StreamOptions> = {
  sets: optional(whole(1, MOST_STREAM_SETS)),
  first: optional(oneOf(STREAMS_FIRST)),
};

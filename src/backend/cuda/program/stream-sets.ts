/** The streams of a device: sets, which programs take in turns, so that one batch's lookups run beside another's dense layers. */
import { type Members, oneOf, optional, whole } from '../../../checks/value.ts';
import type { CudaDevice } from '../../../cuda/device.ts';
import { CudaStream } from '../../../cuda/stream.ts';
import type { LaneStreams } from './graph-choice.ts';

/** The streams of a program: the lanes', and one for what happens in the shadow of the lookups. */
export type Streams = LaneStreams & { readonly aside: CudaStream };

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

/** A set by its number. */
export interface StreamSet {
  readonly number: number;
  readonly streams: Streams;
}

export class StreamSets {
  /** For what is no program of a batch. */
  readonly first: StreamSet;
  readonly #sets: readonly StreamSet[];
  #taken = 0;

  /** @throws CudaError. */
  constructor(device: CudaDevice, { sets = 1, first = 'dense' }: StreamOptions = {}) {
    const stream = (lane: StreamOptions['first'] | 'other') =>
      new CudaStream(device, { priority: lane === first ? 'high' : 'normal' });
    const make = (number: number): StreamSet => ({
      number,
      streams: {
        copies: stream('other'),
        lookups: stream('lookups'),
        dense: stream('dense'),
        aside: stream('other'),
      },
    });
    this.first = make(0);
    this.#sets = [this.first, ...Array.from({ length: sets - 1 }, (_, i) => make(i + 1))];
  }

  /** The next set in turn. */
  take(): StreamSet {
    const taken = this.#sets[this.#taken % this.#sets.length] as StreamSet;
    this.#taken += 1;
    return taken;
  }

  /** Every stream of every set. */
  *[Symbol.iterator](): Generator<CudaStream> {
    for (const { streams } of this.#sets) yield* Object.values(streams);
  }
}

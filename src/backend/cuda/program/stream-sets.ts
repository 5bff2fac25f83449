/** The streams of a device: sets, which programs take in turns, so that one batch's lookups run beside another's dense layers. */
import type { CudaDevice } from '../../../cuda/device.ts';
import { CudaStream } from '../../../cuda/stream.ts';
import { DEFAULT_STREAM_SETS, type StreamOptions } from '../../stream-options.ts';
import type { LaneStreams } from './graph-choice.ts';

/** The streams of a program: the lanes', and one for what happens in the shadow of the lookups. */
export type Streams = LaneStreams & { readonly aside: CudaStream };

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
  constructor(device: CudaDevice, { sets = DEFAULT_STREAM_SETS, first = 'dense' }: StreamOptions = {}) {
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

/** Whether a run is launched as a graph, and whether that is a line of kernels. Pure. */
import type { CudaStream } from '../../../cuda/stream.ts';
import type { EmbeddingStage } from '../embedding/embedding-stage.ts';
import type { Lane } from './schedule.ts';

/** A stream for each lane. */
export type LaneStreams = Readonly<Record<Lane, CudaStream>>;

type Lookups = Iterable<Pick<EmbeddingStage, 'bags' | 'tables' | 'launches'>>;

/** Some microseconds of reads. */
const MOST_LINE_BYTES = 2 ** 22;

/**
 * Whether a graph can follow from batch to batch: it makes a run's launches one call. Copies from GPU to GPU cannot be
 * captured (`reachesPeers`).
 */
export function isGraphable(lookups: Lookups, { reachesPeers }: { readonly reachesPeers: boolean }): boolean {
  return !reachesPeers && [...lookups].every((stage) => stage.launches() !== undefined);
}

/**
 * The streams that a graph is captured in. Short lookups take all lanes into their own: then nothing runs beside them, but
 * there are neither forks nor joins, which cost more than such lookups take, in the launch and between kernels.
 */
export function graphStreams(lookups: Lookups, streams: LaneStreams): LaneStreams {
  if (bytesOf(lookups) > MOST_LINE_BYTES) return streams;
  const line = streams.lookups;
  return { copies: line, lookups: line, dense: line };
}

function bytesOf(lookups: Lookups): number {
  let bytes = 0;
  for (const { bags, tables } of lookups) bytes += bags.lookups * tables.widestRowBytes;
  return bytes;
}

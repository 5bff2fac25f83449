/** Whether a run is launched as a graph, and whether that is a line of kernels. Pure. */
import type { CudaStream } from '../../../cuda/stream.ts';
import type { EmbeddingStage } from '../embedding/embedding-stage.ts';
import type { Lane } from './schedule.ts';

/** A stream for each lane. */
export type LaneStreams = Readonly<Record<Lane, CudaStream>>;

type Lookups = Iterable<Pick<EmbeddingStage, 'bags' | 'tables' | 'launches'>>;

/**
 * Bytes of lookups up to which a batch is a graph: some 60 µs of reads from the memory of the fastest GPUs. That is for one set of
 * streams, where a graph costs the next batch's lookups their start beside this one's dense layers. Batches of other sets
 * start all the same, and what they leave the host for launches is less.
 */
export const MOST_GRAPH_BYTES = 2 ** 28;
/** Some microseconds of reads. */
const MOST_LINE_BYTES = 2 ** 22;

export interface GraphLimits {
  readonly reachesPeers: boolean;
  /** Of the lookups; default: MOST_GRAPH_BYTES. */
  readonly mostBytes?: number | undefined;
}

/**
 * Whether a graph can follow from batch to batch, and pays: it makes a run's launches one call, but the next batch's
 * lookups wait for its end. Copies from GPU to GPU cannot be captured. Where the lookups take longer than all launches, some tens of microseconds, they hide them.
 */
export function isGraphable(
  lookups: Lookups,
  { reachesPeers, mostBytes = MOST_GRAPH_BYTES }: GraphLimits,
): boolean {
  if (reachesPeers) return false;
  const stages = [...lookups];
  return bytesOf(stages) <= mostBytes && stages.every((stage) => stage.launches() !== undefined);
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

/** Whether a run is launched as a graph, and whether that is a line of kernels. Pure. */
import type { EmbeddingStage } from './stage.ts';

type Lookups = Iterable<Pick<EmbeddingStage, 'bags' | 'tables' | 'launch'>>;

/** Some 60 µs of reads from the memory of the fastest GPUs. */
const MOST_GRAPH_BYTES = 2 ** 28;
/** Some microseconds of reads. */
const MOST_LINE_BYTES = 2 ** 22;

/**
 * Whether a graph can follow from batch to batch, and pays: it makes a run's launches one call, but the next batch's
 * lookups wait for its end. Where the lookups take longer than all launches, some tens of microseconds, they hide them.
 */
export function isGraphable(lookups: Lookups): boolean {
  const stages = [...lookups];
  return bytesOf(stages) <= MOST_GRAPH_BYTES && stages.every((stage) => stage.launch() !== undefined);
}

/**
 * Whether the graph had better be one line: then nothing runs beside the lookups, but there are neither forks nor joins,
 * which cost more than short lookups take, in the launch and between kernels.
 */
export function isLine(lookups: Lookups): boolean {
  return bytesOf(lookups) <= MOST_LINE_BYTES;
}

function bytesOf(lookups: Lookups): number {
  let bytes = 0;
  for (const { bags, tables } of lookups) bytes += bags.lookups * tables.widestRowBytes;
  return bytes;
}

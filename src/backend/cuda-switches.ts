/** Ways to do the same work, of which measurements tell the faster: benchmarks measure them beside each other. */
export interface CudaSwitches {
  /** Bytes of lookups up to which a batch is launched as a graph; default: MOST_GRAPH_BYTES. */
  readonly mostGraphBytes?: number;
}

/** Ways to do the same work, of which measurements tell the faster: benchmarks measure them beside each other. */
export interface CudaSwitches {
  /** Whether lookups write their pooled rows in 8 bits too, for layers that read them so; default: true. */
  readonly pooledCopies?: boolean;
  /** Whether layers may leave an output unwritten that is needed in 8 bits alone; default: true. */
  readonly copiesAlone?: boolean;
}

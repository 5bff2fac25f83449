/** Where the rows of a collection's tables are: what kernels need to find a row. How rows are read, plans say. */
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';

/** Tables are known by their number. */
export interface RowStore extends Disposable {
  /** Device memory that it takes. */
  readonly bytes: number;
  /** Byte `offset` of table t's rows, as `row_address` of kernels/cuda/row_address.cuh takes them. @throws DeviceError DISPOSED. */
  address(t: number, offset?: number): DevicePtr;
  /** Where table t's learned weights start, float32 per row; 0: it has none. */
  rowWeights(t: number): bigint;
}

/** Where the rows of a collection's tables are: what kernels need to find a row, and how the host changes one. How rows are read, plans say. */
import type { IndexArray } from '../../../embedding/bag.ts';
import type { RowUpdate } from '../../../embedding/row-values.ts';
import type { DevicePtr } from '../../../ffi/cuda-symbols.ts';
import type { StagedRows } from '../../staged-rows.ts';

/** Tables are known by their number. */
export interface RowStore extends Disposable {
  /** Device memory that it takes. */
  readonly bytes: number;
  /** Byte `offset` of table t's rows, as `row_address` of kernels/cuda/row_address.cuh takes them. @throws DeviceError DISPOSED. */
  address(t: number, offset?: number): DevicePtr;
  /** Where table t's learned weights start, float32 per row; 0: it has none. */
  rowWeights(t: number): bigint;
  /** Brings new values for rows of table t to the device. @throws RequestError INDEX_OUT_OF_RANGE; CudaError OUT_OF_MEMORY. */
  stage(t: number, update: RowUpdate): Promise<StagedRows>;
  /** Rows of table t, [rows.length, rowBytes], as files have them. @throws as `stage`. */
  read(t: number, rows: IndexArray): Promise<Uint8Array<ArrayBuffer>>;
}

/*
 * How often each row of a table is looked up: what pinning needs to know about live traffic.
 *
 *   counts[indices[p]] += 1  for every p in [0, lookups)
 *
 * Indices outside [0, row_count) and the padding row are left out.
 *
 * Any one-dimensional grid and block. Counts of several batches add up; the caller zeroes them to start anew.
 */
#ifndef HOTROW_COUNT_ROWS_CUH
#define HOTROW_COUNT_ROWS_CUH

#include "rows.cuh"

namespace hotrow {

/* Every field is 8 bytes wide. */
struct CountRowsParams {
  const void *indices;  /* [lookups] */
  int64 index_bytes;    /* 4 or 8: int32 or int64 */
  int64 lookups;
  int64 row_count;
  int64 padding_index;  /* -1: none */
  uint32 *counts;       /* [row_count]; wraps around at 2^32 */
};

__device__ __forceinline__ void count_rows(const CountRowsParams &params) {
  const uint64 stride = static_cast<uint64>(gridDim.x) * blockDim.x;
  uint64 position = static_cast<uint64>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (; position < static_cast<uint64>(params.lookups); position += stride) {
    const int64 row = params.index_bytes == 8
                          ? ptx::load_read_only(static_cast<const int64 *>(params.indices) + position)
                          : ptx::load_read_only(static_cast<const int32 *>(params.indices) + position);
    if (static_cast<uint64>(row) >= static_cast<uint64>(params.row_count) || row == params.padding_index) continue;
    ptx::atomic_add(params.counts + row, 1u);
  }
}

} // namespace hotrow

#endif

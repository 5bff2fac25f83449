/*
 * L2 pinning: brings rows into L2 as lines that are evicted last (the paper's L2P), before the kernel that reads them.
 *
 *   hotrow_pin_rows    prefetch.global.L2::evict_last on every `step_bytes` of every listed row
 *   hotrow_unpin_rows  the same with evict_normal: the lines stay, as lines like any other; no data is lost.
 *                      cuCtxResetPersistingL2Cache does it for the whole L2 at once.
 *
 * Block (x, y): y rows at a time, x steps of a row; blocks stride over the list, so any one-dimensional grid is
 * correct. A step is the bytes that one prefetch is counted on to bring: 32 (a sector) always holds.
 */
#ifndef HOTROW_PIN_ROWS_CUH
#define HOTROW_PIN_ROWS_CUH

#include "row_address.cuh"

namespace hotrow {

/* Every field is 8 bytes wide. */
struct PinRowsParams {
  const void *rows;         /* [row_count, dim] */
  int64 row_stride_bytes;   /* < 2^32 */
  int64 row_bytes;
  int64 row_count;
  const int64 *row_numbers; /* [count]; numbers outside [0, row_count) are left out */
  int64 count;
  int64 step_bytes;         /* a power of two: 32, 64 or 128 */
};

namespace pin {

/* Calls touch(address) once for every step that a row of the thread's share lies in. */
template <class Touch>
__device__ __forceinline__ void for_each_step(const PinRowsParams &params, Touch touch) {
  const uint64 step = static_cast<uint64>(params.step_bytes);
  const uint64 stride = static_cast<uint64>(gridDim.x) * blockDim.y;
  uint64 i = static_cast<uint64>(blockIdx.x) * blockDim.y + threadIdx.y;
  for (; i < static_cast<uint64>(params.count); i += stride) {
    const uint64 row = static_cast<uint64>(ptx::load_read_only(params.row_numbers + i));
    if (row >= static_cast<uint64>(params.row_count)) continue;
    const uint64 stride_bytes = static_cast<uint64>(params.row_stride_bytes);
    const char *rows = static_cast<const char *>(params.rows);
    const uint64 first = reinterpret_cast<uint64>(row_address<AnyRows>(rows, row, stride_bytes));
    const uint64 end = first + static_cast<uint64>(params.row_bytes);
    /* The first step may begin before the row, where there may be no memory: its address is the row's own. */
    for (uint64 at = (first & ~(step - 1)) + threadIdx.x * step; at < end; at += blockDim.x * step)
      touch(reinterpret_cast<const void *>(at < first ? first : at));
  }
}

} // namespace pin

__device__ __forceinline__ void pin_rows(const PinRowsParams &params) {
  pin::for_each_step(params, [](const void *address) { ptx::prefetch_l2_evict_last(address); });
}

__device__ __forceinline__ void unpin_rows(const PinRowsParams &params) {
  pin::for_each_step(params, [](const void *address) { ptx::prefetch_l2_evict_normal(address); });
}

} // namespace hotrow

#endif

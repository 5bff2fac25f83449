/*
 * Which rows of a table are hot: what pinning needs to know about traffic. In the order of use:
 *
 *   hotrow_count_rows      counts[indices[p]] += 1 for every p in [0, lookups). Indices outside [0, row_count), those of
 *                          pruned rows among them, and the padding row are left out. Counts of several batches add up.
 *   hotrow_bin_counts      bins[c] = how many rows have count c ≥ 1, counts from BINS - 1 on in the last bin
 *   hotrow_choose_count    one thread: the smallest count whose rows, and all hotter ones, fit `capacity`, and how many
 *                          rows of the count below it still do
 *   hotrow_collect_rows    row_numbers = the rows so chosen, in no order, at most `capacity`
 *   hotrow_count_ranges    ranges[row / range_rows] += counts[row]: where in the table its lookups go
 *
 * Any one-dimensional grid and block; choose_count takes one thread. The caller zeroes counts, bins, choice and ranges,
 * and sets row_numbers to -1.
 */
#ifndef HOTROW_HOT_ROWS_CUH
#define HOTROW_HOT_ROWS_CUH

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

struct RowChoice {
  uint32 above; /* rows with greater counts are chosen */
  uint32 room;  /* and this many of that very count */
  uint32 taken; /* rows with greater counts that were collected */
  uint32 asked; /* rows of that very count that asked for room */
};

struct HotRowsParams {
  const uint32 *counts; /* [row_count] */
  int64 row_count;
  int64 capacity;       /* < 2^32 */
  uint32 *bins;         /* [BINS] */
  RowChoice *choice;
  int64 *row_numbers;   /* [capacity] */
  int64 range_rows;
  uint32 *ranges;       /* [ceil(row_count / range_rows)] */
};

namespace hot {

constexpr uint32 BINS = 1024;

__device__ __forceinline__ uint64 first_row() { return static_cast<uint64>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ __forceinline__ uint64 row_step() { return static_cast<uint64>(gridDim.x) * blockDim.x; }

/* A count as bin_counts files it. */
__device__ __forceinline__ uint32 bin_of(uint32 count) { return count < BINS ? count : BINS - 1; }

} // namespace hot

__device__ __forceinline__ void count_rows(const CountRowsParams &params) {
  for (uint64 position = hot::first_row(); position < static_cast<uint64>(params.lookups); position += hot::row_step()) {
    const int64 row = params.index_bytes == 8
                          ? ptx::load_read_only(static_cast<const int64 *>(params.indices) + position)
                          : ptx::load_read_only(static_cast<const int32 *>(params.indices) + position);
    if (static_cast<uint64>(row) >= static_cast<uint64>(params.row_count) || row == params.padding_index) continue;
    ptx::atomic_add(params.counts + row, 1u);
  }
}

__device__ __forceinline__ void bin_counts(const HotRowsParams &params) {
  /* Most counts are small, and neighbours alike: a thread adds up equal ones before it goes to memory. */
  uint32 bin = 0;
  uint32 rows = 0;
  for (uint64 row = hot::first_row(); row < static_cast<uint64>(params.row_count); row += hot::row_step()) {
    const uint32 own = hot::bin_of(ptx::load(params.counts + row));
    if (own != bin) {
      if (bin != 0) ptx::atomic_add(params.bins + bin, rows);
      bin = own;
      rows = 0;
    }
    rows++;
  }
  if (bin != 0) ptx::atomic_add(params.bins + bin, rows);
}

__device__ __forceinline__ void choose_count(const HotRowsParams &params) {
  if (hot::first_row() != 0) return;
  uint64 chosen = 0;
  uint32 bin = hot::BINS - 1;
  for (; bin > 0; bin--) {
    const uint64 with_bin = chosen + ptx::load(params.bins + bin);
    if (with_bin > static_cast<uint64>(params.capacity)) break;
    chosen = with_bin;
  }
  ptx::store(&params.choice->above, bin);
  ptx::store(&params.choice->room, bin == 0 ? 0u : static_cast<uint32>(params.capacity - chosen));
}

__device__ __forceinline__ void collect_rows(const HotRowsParams &params) {
  const uint32 above = ptx::load(&params.choice->above);
  const uint32 room = ptx::load(&params.choice->room);
  for (uint64 row = hot::first_row(); row < static_cast<uint64>(params.row_count); row += hot::row_step()) {
    const uint32 bin = hot::bin_of(ptx::load(params.counts + row));
    if (bin < above || bin == 0) continue;
    uint64 slot;
    if (bin > above) {
      slot = room + ptx::fetch_add(&params.choice->taken, 1u);
    } else {
      slot = ptx::fetch_add(&params.choice->asked, 1u);
      if (slot >= room) continue;
    }
    ptx::store(params.row_numbers + slot, static_cast<int64>(row));
  }
}

__device__ __forceinline__ void count_ranges(const HotRowsParams &params) {
  for (uint64 row = hot::first_row(); row < static_cast<uint64>(params.row_count); row += hot::row_step()) {
    const uint32 count = ptx::load(params.counts + row);
    if (count != 0) ptx::atomic_add(params.ranges + row / static_cast<uint64>(params.range_rows), count);
  }
}

} // namespace hotrow

#endif

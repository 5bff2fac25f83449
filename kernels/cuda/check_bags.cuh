/*
 * Range checks of indices and offsets on the device, the same findings as the CPU's HR_OP_CHECK_BAGS.
 *
 *   hotrow_check_bags     grid (x, tables), any block: counts what is wrong in every table, and finds its first place
 *   hotrow_describe_bags  grid (1), block (tables or fewer): fills the rest of the reports in; one thread a table
 *
 * An index is bad outside [first_index, row_count). An offset is bad when it is the first and not 0, less than the one before, or
 * more than lookups. The first finding of a table is at its lowest position, offsets before indices.
 *
 * Reports and the total are zeroed by the caller. Kernels that take the total as their `stop` word do nothing when
 * something was found, so that a check and the work that depends on it need no round trip to the host between them.
 */
#ifndef HOTROW_CHECK_BAGS_CUH
#define HOTROW_CHECK_BAGS_CUH

#include "rows.cuh"

namespace hotrow {

/* Every field of every struct is 8 bytes wide. */
struct CheckedBags {
  const void *indices;  /* [lookups] */
  const void *offsets;  /* [offset_count] */
  int64 index_bytes;    /* 4 or 8: int32 or int64 */
  int64 offset_bytes;   /* 4 or 8 */
  int64 lookups;        /* < 2^61 */
  int64 offset_count;   /* < 2^61 */
  int64 row_count;
  int64 first_index;    /* 0; -1 where index -1 stands for a pruned row */
};

struct BagsReport {
  int64 code;           /* HR_BAGS_… of hotrow_cpu.h: 0 fine, 1 index out of range, 2 first offset not 0,
                           3 offsets decrease, 4 offset past the end */
  int64 position;
  int64 value;
  int64 limit;          /* row_count, lookups, or the offset before */
  uint64 bad_indices;
  uint64 bad_offsets;
  uint64 first;         /* ~(kind << 62 | position), kind 0 offsets, 1 indices: the greatest is the first; 0: nothing */
};

struct CheckBagsParams {
  const CheckedBags *tables; /* [table_count] */
  BagsReport *reports;       /* [table_count] */
  uint64 *total;             /* findings of all tables */
  int64 table_count;
};

namespace check {

enum Code { FINE = 0, INDEX_OUT_OF_RANGE = 1, FIRST_OFFSET_NOT_ZERO = 2, OFFSETS_DECREASE = 3, OFFSET_PAST_END = 4 };
constexpr int KIND_SHIFT = 62;

__device__ __forceinline__ int64 load_integer(const void *array, int64 bytes, uint64 position) {
  if (bytes == 8) return ptx::load_read_only(static_cast<const int64 *>(array) + position);
  return ptx::load_read_only(static_cast<const int32 *>(array) + position);
}

__device__ __forceinline__ CheckedBags load_bags(const CheckedBags *from) {
  CheckedBags bags;
  bags.indices = reinterpret_cast<const void *>(ptx::load_read_only(reinterpret_cast<const uint64 *>(&from->indices)));
  bags.offsets = reinterpret_cast<const void *>(ptx::load_read_only(reinterpret_cast<const uint64 *>(&from->offsets)));
  bags.index_bytes = ptx::load_read_only(&from->index_bytes);
  bags.offset_bytes = ptx::load_read_only(&from->offset_bytes);
  bags.lookups = ptx::load_read_only(&from->lookups);
  bags.offset_count = ptx::load_read_only(&from->offset_count);
  bags.row_count = ptx::load_read_only(&from->row_count);
  bags.first_index = ptx::load_read_only(&from->first_index);
  return bags;
}

__device__ __forceinline__ bool is_good_index(const CheckedBags &bags, int64 index) {
  const uint64 first = static_cast<uint64>(bags.first_index);
  return static_cast<uint64>(index) - first < static_cast<uint64>(bags.row_count) - first;
}

/* What is wrong with the offset at `position`; `before` receives the one before it, or 0. */
__device__ __forceinline__ Code check_offset(const CheckedBags &bags, uint64 position, int64 value, int64 &before) {
  before = 0;
  if (position == 0) return value != 0 ? FIRST_OFFSET_NOT_ZERO : FINE;
  before = load_integer(bags.offsets, bags.offset_bytes, position - 1);
  return value < before ? OFFSETS_DECREASE : value > bags.lookups ? OFFSET_PAST_END : FINE;
}

} // namespace check

__device__ __forceinline__ void check_bags(const CheckBagsParams &params) {
  using namespace check;
  const CheckedBags bags = load_bags(params.tables + blockIdx.y);
  const uint64 threads = static_cast<uint64>(blockDim.x) * blockDim.y;
  const uint64 thread = blockIdx.x * threads + threadIdx.y * blockDim.x + threadIdx.x;
  const uint64 stride = gridDim.x * threads;
  uint64 bad_offsets = 0;
  uint64 bad_indices = 0;
  uint64 first = 0;

  for (uint64 position = thread; position < static_cast<uint64>(bags.offset_count); position += stride) {
    int64 before;
    const int64 value = load_integer(bags.offsets, bags.offset_bytes, position);
    if (check_offset(bags, position, value, before) == FINE) continue;
    if (bad_offsets++ == 0) first = ~position;
  }
  for (uint64 position = thread; position < static_cast<uint64>(bags.lookups); position += stride) {
    const int64 index = load_integer(bags.indices, bags.index_bytes, position);
    if (is_good_index(bags, index)) continue;
    if (bad_indices++ == 0 && first == 0) first = ~(uint64(1) << KIND_SHIFT | position);
  }

  if (bad_offsets == 0 && bad_indices == 0) return;
  BagsReport *report = params.reports + blockIdx.y;
  ptx::atomic_max(&report->first, first);
  if (bad_indices != 0) ptx::atomic_add(&report->bad_indices, bad_indices);
  if (bad_offsets != 0) ptx::atomic_add(&report->bad_offsets, bad_offsets);
  ptx::atomic_add(params.total, bad_indices + bad_offsets);
}

__device__ __forceinline__ void describe_bags(const CheckBagsParams &params) {
  using namespace check;
  for (uint64 t = threadIdx.x; t < static_cast<uint64>(params.table_count); t += blockDim.x) {
    BagsReport *report = params.reports + t;
    const uint64 first = ptx::load(&report->first);
    if (first == 0) continue;
    const CheckedBags bags = load_bags(params.tables + t);
    const bool is_index = ~first >> KIND_SHIFT != 0;
    const uint64 position = ~first & ((uint64(1) << KIND_SHIFT) - 1);
    const int64 value = is_index ? load_integer(bags.indices, bags.index_bytes, position)
                                 : load_integer(bags.offsets, bags.offset_bytes, position);
    int64 limit = bags.row_count;
    Code code = INDEX_OUT_OF_RANGE;
    if (!is_index) {
      code = check_offset(bags, position, value, limit);
      if (code == OFFSET_PAST_END) limit = bags.lookups;
    }
    ptx::store(&report->code, static_cast<int64>(code));
    ptx::store(&report->position, static_cast<int64>(position));
    ptx::store(&report->value, value);
    ptx::store(&report->limit, limit);
  }
}

} // namespace hotrow

#endif

/*
 * The segments of long bags in the fused kernel (fused_bags.cuh). A segment is the work of a block; the last block of a bag
 * adds the segments' sums up, in their order.
 */
#ifndef HOTROW_FUSED_SEGMENTS_CUH
#define HOTROW_FUSED_SEGMENTS_CUH

#include "fused_params.cuh"
#include "fused_walk.cuh"
#include "pooling.cuh"

namespace hotrow {
namespace fused {

/* A kind with lanes that hold as much of a row as they can: segments have blocks of their own, and need no more lanes. */
template <class K>
struct WideLanes : K {
  static constexpr int lane_bytes = MOST_LANE_BYTES;
};

/* Where a block's groups put their sums before they are added up. */
template <class L, class K>
struct Gathered {
  using S = Shape<K>;
  static constexpr uint32 groups = L::threads / S::lanes;
  float values[groups][S::lanes * S::values];
  uint32 counted[groups];
};

/* Adds a group's sums behind those before: the order is the groups'. */
template <class K>
__device__ __forceinline__ void join(Sums<K> &sums, float *values, uint32 counted, uint32 lane) {
  if (counted == 0) return;
#pragma unroll
  for (int i = 0; i < Shape<K>::values; i++) {
    const float value = values[lane * Shape<K>::values + i];
    float &sum = sums.values[i];
    if (K::pooling == Pooling::Max) sum = sums.counted == 0 || value > sum ? value : sum;
    else sum = __fadd_rn(sum, value);
  }
  sums.counted += counted;
}

/* The block's sum, in group 0. */
template <class L, class K>
__device__ __forceinline__ void gather(Sums<K> &sums, uint32 lane) {
  __shared__ Gathered<L, K> gathered;
  const uint32 group = threadIdx.x / Shape<K>::lanes;
#pragma unroll
  for (int i = 0; i < Shape<K>::values; i++) gathered.values[group][lane * Shape<K>::values + i] = sums.values[i];
  if (lane == 0) gathered.counted[group] = sums.counted;
  __syncthreads();
  if (group == 0) {
    sums = Sums<K>();
    for (uint32 g = 0; g < Gathered<L, K>::groups; g++)
      join<K>(sums, gathered.values[g], gathered.counted[g], lane);
  }
  __syncthreads();
}

/* A segment of a long bag: the block's groups share it; the last block of the bag adds all segments up. */
template <class L, class K>
__device__ __forceinline__ void segment_of_bag(const typename L::Params &params, const FusedTable &table,
                                               const FusedSegment &segment) {
  using S = Shape<K>;
  constexpr uint32 groups = L::threads / S::lanes;
  const uint32 group = threadIdx.x / S::lanes;
  const Bag<L, K> walker(params, table, static_cast<int>(segment.tile));
  const uint32 first = static_cast<uint32>(segment.begin);
  const uint32 last = static_cast<uint32>(segment.end);
  const uint32 share = (last - first + groups - 1) / groups;
  const uint32 begin = first + group * share < last ? first + group * share : last;
  const uint32 end = begin + share < last ? begin + share : last;
  Sums<K> sums;
  walker.walk(sums, begin, end, walker.indices_at(begin + walker.lane, end));
  walker.finish_bias(sums);
  gather<L, K>(sums, walker.lane);

  float *partial = params.partials + segment.slot * params.partial_width;
  if (group == 0) {
#pragma unroll
    for (int i = 0; i < S::values; i++) ptx::store(partial + walker.lane * S::values + i, sums.values[i]);
    if (walker.lane == 0) ptx::store(partial + params.partial_width - 1, __uint_as_float(sums.counted));
    ptx::fence();
  }
  __syncthreads();
  __shared__ bool is_last;
  if (threadIdx.x == 0) {
    const uint32 before = ptx::fetch_add(params.arrivals + segment.arrivals, 1u);
    is_last = before + 1 == static_cast<uint32>(segment.slots);
    if (is_last) ptx::store(params.arrivals + segment.arrivals, 0u);
    ptx::fence();
  }
  __syncthreads();
  if (!is_last) return;

  sums = Sums<K>();
  const uint32 slots = static_cast<uint32>(segment.slots);
  const uint32 slot_share = (slots + groups - 1) / groups;
  for (uint32 i = 0; i < slot_share; i++) {
    const uint32 slot = group * slot_share + i;
    if (slot >= slots) break;
    const float *from = params.partials + (segment.first_slot + slot) * params.partial_width;
    float values[S::values];
#pragma unroll
    for (int v = 0; v < S::values; v++) values[v] = ptx::load_past_l1(from + walker.lane * S::values + v);
    const uint32 counted = __float_as_uint(ptx::load_past_l1(from + params.partial_width - 1));
    join<K>(sums, values, counted, 0);
  }
  gather<L, K>(sums, walker.lane);
  if (group == 0) walker.store(sums, static_cast<uint32>(segment.bag));
}

} // namespace fused
} // namespace hotrow

#endif

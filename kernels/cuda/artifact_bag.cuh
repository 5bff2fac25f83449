/*
 * The embedding-bag kernel that the paper measured, for one table, and its prefetching versions:
 *
 *   output[b, f] = pool over p in [offsets[b], offsets[b + 1]) of  weight[p] · rows[indices[p], f]
 *   offset_to_bag[p] = b,  bag_size[b] = the lookups of bag b that were pooled
 *
 * "Pushing the Performance Envelope of DNN-based Recommendation Systems Inference on GPUs" (MICRO 2024) measured PyTorch
 * 2.1's EmbeddingBag_updateOutputKernel_sum_mean. This is a kernel of that shape, written anew: one thread per (bag,
 * feature), blocks of (32, 8) that stride over the chunks, every position, index and stride an int64, one load of an
 * element a lookup, the padding test and the range check in the loop, and what training needs written beside the output. It
 * is a yardstick: standard_bag.cuh has the same algorithm without what inference does not need.
 *
 * It adds a bag's rows in the same order and with the same rounding as standard_bag.cuh: the same bits.
 *
 * Versions (V::prefetch): None, Registers (RPF), Shared (SMPF), Local (LMPF), L1 (L1DPF), as standard_bag.cuh has them.
 * `distance` lookups make a group; what is left of a bag at its end goes a lookup at a time, as without prefetch. None of
 * them reads an index past its bag.
 *
 * A variant is a struct with the members that standard_bag.cuh lists. Of a bad index, one outside [0, row_count), every
 * variant reads row 0; `repair` clamps bag bounds too. Row numbers are 64 bits wide, whatever `wide_rows` says.
 */
#ifndef HOTROW_ARTIFACT_BAG_CUH
#define HOTROW_ARTIFACT_BAG_CUH

#include "standard_bag.cuh"

namespace hotrow {

/* Every field is 8 bytes wide. Sizes are in elements unless the name ends in `_bytes`. */
struct ArtifactBagParams {
  const void *rows;         /* [row_count, dim]; then, where Row::is_scaled, [row_count] headers */
  int64 row_stride_bytes;
  int64 feature_stride;     /* from a feature of a row to the next: 1 */
  int64 row_count;
  int64 dim;
  const void *indices;      /* [lookups] */
  const void *offsets;      /* [offset_count] */
  int64 lookups;
  int64 offset_count;       /* batch or batch + 1 */
  const float *weights;     /* [lookups], weight_stride apart; NULL: none */
  int64 weight_stride;
  const float *row_weights; /* [row_count] */
  int64 padding_index;      /* -1: none */
  void *output;             /* [batch, dim] of Output::Bits, at the table's first column */
  int64 output_stride;
  int64 batch;
  int64 *offset_to_bag;     /* [lookups] */
  int64 *bag_size;          /* [batch] */
  const uint64 *stop;       /* not 0 there: nothing is done (what check_bags found); NULL: always go on */
};

namespace artifact {

/* What a thread pools: a feature of a bag. */
struct Cell {
  int64 bag;
  int64 feature;
  const char *first; /* the feature's element of row 0 */
  float sum = 0.0f;
  int64 counted = 0; /* those added so far, and the pruned ones of a mean */
};

/* A lookup that was asked for: its row, 0 where there is none such; and whether it adds nothing. */
struct Lookup {
  int64 row;
  bool is_pruned;
  bool left_out;
};

template <class V>
__device__ __forceinline__ Lookup lookup_at(const ArtifactBagParams &params, int64 position) {
  const int64 index = ptx::load(static_cast<const typename V::Index *>(params.indices) + position);
  const bool is_pruned = V::pruned && index == PRUNED_INDEX;
  const int64 row = index >= 0 && index < params.row_count ? index : 0;
  /* Without `repair` the index as it came, as PyTorch's kernel has it: what is bad was refused before. */
  const bool is_padding = (V::repair ? row : index) == params.padding_index;
  return {row, is_pruned, is_pruned || is_padding};
}

/* Where the cell's element of a row begins. */
__device__ __forceinline__ const char *element_of(const ArtifactBagParams &params, const Cell &cell, int64 row) {
  return cell.first + row * params.row_stride_bytes;
}

/* The element as it is stored. Not by way of the read-only path: such loads would pass the stores between them. */
template <class V>
__device__ __forceinline__ float value_of(const ArtifactBagParams &params, const Cell &cell, int64 row) {
  using Row = typename V::Row;
  const char *element = element_of(params, cell, row);
  if constexpr (Row::bits == 32) {
    return ptx::load(reinterpret_cast<const float *>(element));
  } else {
    const uint64 row_bytes = static_cast<uint64>(params.row_count) * static_cast<uint64>(params.row_stride_bytes);
    const uint32 *headers = row_headers(static_cast<const char *>(params.rows), row_bytes);
    return Row::widen(Row::bits_at(element, headers + row), static_cast<uint32>(cell.feature));
  }
}

/* Adds the lookup at `position`, whose element has the given value, and notes whose it was. */
template <class V>
__device__ __forceinline__ void add(const ArtifactBagParams &params, Cell &cell, int64 position, const Lookup &lookup,
                                    float value) {
  if constexpr (V::pooling == Pooling::Max) {
    if (!lookup.left_out) cell.sum = cell.counted == 0 || value > cell.sum ? value : cell.sum;
  } else if constexpr (V::weights == Weights::Row) {
    if (!lookup.left_out) cell.sum = __fmaf_rn(ptx::load(params.row_weights + lookup.row), value, cell.sum);
  } else if (params.weights != nullptr) {
    const float weight = ptx::load(params.weights + position * params.weight_stride);
    cell.sum = lookup.left_out ? cell.sum : __fmaf_rn(weight, value, cell.sum);
  } else {
    cell.sum = __fadd_rn(cell.sum, lookup.left_out ? 0.0f : value);
  }
  const bool counts = !lookup.left_out || (V::pooling == Pooling::Mean && lookup.is_pruned);
  cell.counted += counts ? 1 : 0;
  if (cell.feature == 0) ptx::store(params.offset_to_bag + position, cell.bag);
}

/* The next lookup is read after this one's row, as in PyTorch's kernel, whose assertion no later read passes. */
template <class V>
__device__ __forceinline__ void add_lookup(const ArtifactBagParams &params, Cell &cell, int64 position) {
  const Lookup lookup = lookup_at<V>(params, position);
  const float value = ptx::before_what_follows(value_of<V>(params, cell, lookup.row));
  add<V>(params, cell, position, lookup, value);
}

template <class V>
__device__ __forceinline__ void pool_plainly(const ArtifactBagParams &params, Cell &cell, int64 begin, int64 end) {
  for (int64 position = begin; position < end; position++) add_lookup<V>(params, cell, position);
}

/* In groups of `distance` lookups; the rest of the bag, a lookup at a time. */
template <class V>
__device__ __forceinline__ void pool_in_groups(const ArtifactBagParams &params, Cell &cell, int64 begin, int64 end) {
  standard::Slots<V> slots;
  int64 position = begin;
#pragma unroll 1
  for (; position + V::distance <= end; position += V::distance) {
    Lookup lookups[V::distance];
#pragma unroll
    for (int slot = 0; slot < V::distance; slot++) lookups[slot] = lookup_at<V>(params, position + slot);
    float values[V::distance];
#pragma unroll
    for (int slot = 0; slot < V::distance; slot++) values[slot] = value_of<V>(params, cell, lookups[slot].row);
#pragma unroll
    for (int slot = 0; slot < V::distance; slot++) slots.put(slot, values[slot]);
#pragma unroll
    for (int slot = 0; slot < V::distance; slot++)
      add<V>(params, cell, position + slot, lookups[slot], slots.get(slot));
  }
#pragma unroll 1
  for (; position < end; position++) add_lookup<V>(params, cell, position);
}

/* A lookup at a time, while the row of the one `distance` further on is on its way into L1. */
template <class V>
__device__ __forceinline__ void pool_through_l1(const ArtifactBagParams &params, Cell &cell, int64 begin, int64 end) {
  for (int64 position = begin; position < end; position++) {
    if (position + V::distance < end) {
      const Lookup later = lookup_at<V>(params, position + V::distance);
      ptx::prefetch_l1(element_of(params, cell, later.row));
    }
    add_lookup<V>(params, cell, position);
  }
}

} // namespace artifact

template <class V>
__device__ __forceinline__ void artifact_bag(const ArtifactBagParams &params) {
  using namespace artifact;
  static_assert(V::prefetch != Prefetch::Pipelined, "the paper has no pipelined version");
  static_assert(V::prefetch == Prefetch::None || (V::distance >= 1 && V::distance <= 16), "distance is 1 to 16");
  static_assert(V::weights == Weights::None || V::pooling == Pooling::Sum, "weights go with sum");

  if (params.stop != nullptr && ptx::load(params.stop) != 0) return;
  const int64 width = blockDim.x;
  const int64 chunks_per_bag = (params.dim + width - 1) / width;
  const int64 chunks = params.batch * chunks_per_bag;
  const int64 chunk_stride = static_cast<int64>(gridDim.x) * blockDim.y;
  for (int64 chunk = static_cast<int64>(blockIdx.x) * blockDim.y + threadIdx.y; chunk < chunks; chunk += chunk_stride) {
    Cell cell;
    cell.feature = chunk % chunks_per_bag * width + threadIdx.x;
    if (cell.feature >= params.dim) continue;
    cell.bag = chunk / chunks_per_bag;
    cell.first = static_cast<const char *>(params.rows) + cell.feature * params.feature_stride * V::Row::bits / 8;

    const auto *offsets = static_cast<const typename V::Offset *>(params.offsets) + cell.bag;
    int64 begin = ptx::load(offsets);
    int64 end = cell.bag + 1 < params.offset_count ? static_cast<int64>(ptx::load(offsets + 1)) : params.lookups;
    if constexpr (V::repair) {
      begin = begin < 0 ? 0 : begin > params.lookups ? params.lookups : begin;
      end = end < begin ? begin : end > params.lookups ? params.lookups : end;
    }

    if constexpr (V::prefetch == Prefetch::None) {
      pool_plainly<V>(params, cell, begin, end);
    } else if constexpr (V::prefetch == Prefetch::L1) {
      pool_through_l1<V>(params, cell, begin, end);
    } else {
      pool_in_groups<V>(params, cell, begin, end);
    }

    if (V::pooling == Pooling::Mean && cell.counted != 0)
      cell.sum = __fdiv_rn(cell.sum, static_cast<float>(cell.counted));
    if (cell.feature == 0) ptx::store(params.bag_size + cell.bag, cell.counted);
    auto *output = static_cast<typename V::Output::Bits *>(params.output);
    ptx::store(output + cell.bag * params.output_stride + cell.feature, V::Output::narrow(cell.sum));
  }
}

} // namespace hotrow

#endif

/*
 * The standard embedding-bag kernel and its prefetching versions, for one table:
 *
 *   output[b, f] = pool over p in [offsets[b], offsets[b + 1]) of  weight[p] · rows[indices[p], f]
 *
 * The algorithm is that of PyTorch's EmbeddingBag_updateOutputKernel_sum_mean: one thread per (bag, feature). A chunk
 * is one bag and blockDim.x consecutive features; blockDim.y chunks go to a block at a time, and blocks stride over
 * the chunks, so any one-dimensional grid is correct. The usual launch is block (32, 8), one chunk a warp.
 *
 * Every version adds a bag's rows in index order, in float32, rounding after every operation (one fused operation
 * where rows are weighted): all of them, and the CPU's kernel, give the same bits.
 *
 * Versions (V::prefetch), from "Pushing the Performance Envelope of DNN-based Recommendation Systems Inference on
 * GPUs" (MICRO 2024). None of them reads an index past its bag, or a row that no lookup of the bag names.
 *   None       a lookup at a time
 *   Registers  RPF: the rows of `distance` lookups are asked for, then added up
 *   Shared     SMPF: the same, by way of shared memory [distance][threads]: a slot a thread, no bank conflicts
 *   Local      LMPF: the same, by way of local memory
 *   L1         L1DPF: `distance` lookups ahead, a row is asked for into L1 (prefetch.global.L1)
 *   Pipelined  not in the paper: two groups of registers; the next group is asked for before the last is added up,
 *              so that `distance` to 2 · `distance` rows are always on their way
 *
 * A variant is a struct with these members (src/backend/cuda/embedding/standard-source.ts writes it):
 *   Row                 Float32, Float16, Bfloat16, Int8, Int4, Float8E4m3
 *   Index, Offset       int32, int64
 *   Output              Float32, Float16, Bfloat16: pooled rows are rounded to it once, at the end
 *   pooling             Pooling::Sum, Mean, Max
 *   weights             Weights::None, Sample (params.weights), Row (params.row_weights); the last two with Sum alone
 *   padding             whether params.padding_index is a row that lookups skip
 *   pruned              whether index -1 is good, and stands for a row that adds nothing; Mean counts it all the same
 *   repair              whether a bad index, one outside [0, row_count), reads row 0, and bag bounds are clamped; otherwise bad
 *                       input is undefined behaviour (a check has been there, or none was wanted)
 *   wide_rows           whether row_count may exceed 2^31
 *   prefetch, distance  the version; 1 to 16, of no meaning for None
 *   threads             the most threads of a block
 */
#ifndef HOTROW_STANDARD_BAG_CUH
#define HOTROW_STANDARD_BAG_CUH

#include "pooling.cuh"
#include "row_address.cuh"

namespace hotrow {

enum class Prefetch { None, Registers, Shared, Local, L1, Pipelined };

/* Every field is 8 bytes wide. Sizes are in elements unless the name ends in `_bytes`. */
struct StandardBagParams {
  const void *rows;         /* [row_count, dim]; then, where Row::is_scaled, [row_count] headers */
  int64 row_stride_bytes;   /* < 2^32 */
  int64 row_count;
  int64 dim;
  const void *indices;      /* [lookups] */
  const void *offsets;      /* [offset_count] */
  int64 lookups;            /* < 2^31 */
  int64 offset_count;       /* batch or batch + 1 */
  const float *weights;     /* [lookups] */
  const float *row_weights; /* [row_count] */
  int64 padding_index;
  void *output;             /* [batch, dim] of Output::Bits, at the table's first column */
  int64 output_stride;
  int64 batch;              /* batch · ⌈dim / blockDim.x⌉ < 2^31, as is gridDim.x · blockDim.y */
  const uint64 *stop;       /* not 0 there: nothing is done (what check_bags found); NULL: always go on */
};

namespace standard {

__device__ __forceinline__ uint32 clamp_position(int64 value, uint32 low, uint32 high) {
  return value < static_cast<int64>(low) ? low : value > static_cast<int64>(high) ? high : static_cast<uint32>(value);
}

/* The row that the lookup at position + slot names; `slot` is a constant, and folds into the address. */
template <class V>
__device__ __forceinline__ RowNumber<V> row_of_lookup(const StandardBagParams &params, uint32 position, int slot = 0) {
  using Index = typename V::Index;
  const Index *lookup = static_cast<const Index *>(params.indices) + position;
  if constexpr (V::repair) {
    const int64 index = ptx::load_read_only(lookup + slot);
    bool is_good = static_cast<uint64>(index) < static_cast<uint64>(params.row_count);
    if constexpr (V::pruned) is_good = is_good || index == PRUNED_INDEX;
    return static_cast<RowNumber<V>>(is_good ? index : 0);
  } else if constexpr (sizeof(Index) == 8 && !V::wide_rows) {
    /* A good index is its low word. */
    return ptx::load_read_only(reinterpret_cast<const uint32 *>(lookup + slot));
  } else {
    return static_cast<RowNumber<V>>(ptx::load_read_only(lookup + slot));
  }
}

/* Whether a lookup of the row adds nothing: its rows are not read. */
template <class V>
__device__ __forceinline__ bool is_left_out(const StandardBagParams &params, RowNumber<V> row) {
  return (V::padding && row == static_cast<RowNumber<V>>(params.padding_index)) || is_pruned<V>(row);
}

/* Whether lookups that are left out may count. */
template <class V>
constexpr bool counts_pruned = V::pruned && V::pooling == Pooling::Mean;

/* A thread's feature, and where its element of row 0 begins. */
struct Column {
  const char *address;
  uint32 feature;
  const uint32 *headers; /* of all rows */
};

/* Where the thread's element of a row begins. */
template <class V>
__device__ __forceinline__ const char *element_of(const StandardBagParams &params, const Column &column,
                                                  RowNumber<V> row) {
  return row_address<V>(column.address, row, static_cast<uint32>(params.row_stride_bytes));
}

template <class V>
__device__ __forceinline__ typename V::Row::Bits load_element(const StandardBagParams &params, const Column &column,
                                                              RowNumber<V> row) {
  return V::Row::bits_at(element_of<V>(params, column, row), column.headers + row);
}

template <class V>
__device__ __forceinline__ float weight_of_lookup(const StandardBagParams &params, uint32 position, RowNumber<V> row,
                                                  int slot = 0) {
  if constexpr (V::weights == Weights::Sample) return ptx::load_read_only(params.weights + position + slot);
  if constexpr (V::weights == Weights::Row) return ptx::load_read_only(params.row_weights + row);
  return 1.0f;
}

/* The pooled value of the lookups added so far. */
template <class V>
struct Accumulator {
  float value = 0.0f;
  uint32 counted = 0; /* those added, and the pruned ones of a mean */

  __device__ __forceinline__ void add(float x, float weight) {
    if constexpr (V::pooling == Pooling::Max) {
      value = counted == 0 || x > value ? x : value;
    } else if constexpr (V::weights != Weights::None) {
      value = __fmaf_rn(weight, x, value);
    } else {
      value = __fadd_rn(value, x);
    }
    counted++;
  }

  __device__ __forceinline__ float result() const {
    if (V::pooling == Pooling::Mean && counted != 0) return __fdiv_rn(value, static_cast<float>(counted));
    return value;
  }
};

/*
 * Where the prefetched values of a group wait: one slot a lookup. Slot numbers are constants once loops are unrolled.
 */
template <class V, Prefetch = V::prefetch>
struct Slots { /* Registers, Pipelined */
  float values[V::distance];
  __device__ __forceinline__ void put(int slot, float value) { values[slot] = value; }
  __device__ __forceinline__ float get(int slot) const { return values[slot]; }
};

template <class V>
struct Slots<V, Prefetch::Local> {
  /* blockIdx.y and blockIdx.z are 0, which compilers cannot know: an array that is written at one variable and read at
   * another stays in local memory. Alone in its struct, or the other members would follow it there. */
  float values[16];
  __device__ __forceinline__ void put(int slot, float value) { values[blockIdx.y + slot] = value; }
  __device__ __forceinline__ float get(int slot) const { return values[blockIdx.z + slot]; }
};

template <class V>
struct Slots<V, Prefetch::Shared> {
  volatile float *own; /* slot 0 of this thread; volatile keeps the values out of registers */
  __device__ __forceinline__ Slots() {
    __shared__ float values[V::distance][V::threads];
    own = &values[0][threadIdx.y * blockDim.x + threadIdx.x];
  }
  __device__ __forceinline__ void put(int slot, float value) { own[slot * V::threads] = value; }
  __device__ __forceinline__ float get(int slot) const { return own[slot * V::threads]; }
};

/* Up to `distance` consecutive lookups, whose rows are on their way. */
template <class V>
struct Group {
  static constexpr bool is_weighted = V::weights != Weights::None;
  static constexpr int first_pruned = 16;

  Slots<V> &slots;
  float weights[is_weighted ? V::distance : 1];
  uint32 kept; /* bit per slot: a lookup of the bag that is not left out; from first_pruned on, one that is pruned and counts */

  __device__ __forceinline__ explicit Group(Slots<V> &own_slots) : slots(own_slots) {}

  /* Asks for the rows of the lookups from `position` on: all of the group's, or the first `count` of them. */
  template <bool full>
  __device__ __forceinline__ void request(const StandardBagParams &params, const Column &column, uint32 position,
                                          int count) {
    RowNumber<V> rows[V::distance];
#pragma unroll
    for (int slot = 0; slot < V::distance; slot++)
      if (full || slot < count) rows[slot] = row_of_lookup<V>(params, position, slot);
    kept = 0;
    /* All loads come before the first use: a store in between would wait for its load, and hold up the next. */
    typename V::Row::Bits elements[V::distance];
#pragma unroll
    for (int slot = 0; slot < V::distance; slot++) {
      if ((full || slot < count) && !is_left_out<V>(params, rows[slot])) {
        elements[slot] = load_element<V>(params, column, rows[slot]);
        if constexpr (is_weighted) weights[slot] = weight_of_lookup<V>(params, position, rows[slot], slot);
        kept |= 1u << slot;
      }
    }
#pragma unroll
    for (int slot = 0; slot < V::distance; slot++)
      if (full || slot < count) slots.put(slot, V::Row::widen(elements[slot], column.feature));
    if constexpr (counts_pruned<V>) {
#pragma unroll
      for (int slot = 0; slot < V::distance; slot++)
        if ((full || slot < count) && is_pruned<V>(rows[slot])) kept |= 1u << (first_pruned + slot);
    }
  }

  /* Adds what was asked for, in order. */
  template <bool full>
  __device__ __forceinline__ void add_to(Accumulator<V> &pooled) const {
#pragma unroll
    for (int slot = 0; slot < V::distance; slot++)
      if ((full && !V::padding && !V::pruned) || (kept >> slot & 1) != 0)
        pooled.add(slots.get(slot), is_weighted ? weights[is_weighted ? slot : 0] : 1.0f);
    if constexpr (counts_pruned<V>) pooled.counted += ptx::count_bits(kept >> first_pruned);
  }
};

template <class V>
__device__ __forceinline__ void add_lookup(const StandardBagParams &params, const Column &column, uint32 position,
                                           Accumulator<V> &pooled) {
  const RowNumber<V> row = row_of_lookup<V>(params, position);
  if (is_left_out<V>(params, row)) {
    if (counts_pruned<V> && is_pruned<V>(row)) pooled.counted++;
    return;
  }
  const float value = V::Row::widen(load_element<V>(params, column, row), column.feature);
  pooled.add(value, weight_of_lookup<V>(params, position, row));
}

/*
 * The pooled lookups [begin, end), a lookup at a time. Not unrolled: left alone, nvcc unrolls 16 times and asks for up
 * to 8 rows together, which is register prefetch under another name.
 */
template <class V>
__device__ __forceinline__ Accumulator<V> pool_plainly(const StandardBagParams &params, const Column &column,
                                                       uint32 begin, uint32 end) {
  Accumulator<V> pooled;
#pragma unroll 1
  for (uint32 position = begin; position < end; position++) add_lookup<V>(params, column, position, pooled);
  return pooled;
}

/* … in groups of `distance`; the last group may be short. */
template <class V>
__device__ __forceinline__ Accumulator<V> pool_in_groups(const StandardBagParams &params, const Column &column,
                                                         uint32 begin, uint32 end) {
  Accumulator<V> pooled;
  Slots<V> slots;
  Group<V> group(slots);
  int left = static_cast<int>(end - begin);
#pragma unroll 1
  for (; left >= V::distance; left -= V::distance, begin += V::distance) {
    group.template request<true>(params, column, begin, V::distance);
    group.template add_to<true>(pooled);
  }
  if (left > 0) {
    group.template request<false>(params, column, begin, left);
    group.template add_to<false>(pooled);
  }
  return pooled;
}

/* … in groups, each of which is asked for before the one before it is added up. */
template <class V>
__device__ __forceinline__ Accumulator<V> pool_pipelined(const StandardBagParams &params, const Column &column,
                                                         uint32 begin, uint32 end) {
  constexpr int distance = V::distance;
  Accumulator<V> pooled;
  Slots<V> even_slots, odd_slots;
  Group<V> even(even_slots), odd(odd_slots);
  int left = static_cast<int>(end - begin); /* from `begin` on, where `even` starts */
  if (left < distance) {
    even.template request<false>(params, column, begin, left);
    even.template add_to<false>(pooled);
    return pooled;
  }
  even.template request<true>(params, column, begin, distance);
#pragma unroll 1
  for (; left >= 3 * distance; left -= 2 * distance, begin += 2 * distance) {
    odd.template request<true>(params, column, begin + distance, distance);
    even.template add_to<true>(pooled);
    even.template request<true>(params, column, begin + 2 * distance, distance);
    odd.template add_to<true>(pooled);
  }
  /* `even` is full and on its way; fewer than 2 · distance lookups follow it. */
  odd.template request<false>(params, column, begin + distance, left - distance);
  even.template add_to<true>(pooled);
  if (left > 2 * distance) even.template request<false>(params, column, begin + 2 * distance, left - 2 * distance);
  odd.template add_to<false>(pooled);
  if (left > 2 * distance) even.template add_to<false>(pooled);
  return pooled;
}

template <class V>
__device__ __forceinline__ void prefetch_element(const StandardBagParams &params, const Column &column,
                                                 RowNumber<V> row) {
  if (!is_pruned<V>(row)) ptx::prefetch_l1(element_of<V>(params, column, row));
}

/* … a lookup at a time, while rows further on are on their way into L1. One thread of a sector asks for it. */
template <class V>
__device__ __forceinline__ Accumulator<V> pool_through_l1(const StandardBagParams &params, const Column &column,
                                                          uint32 begin, uint32 end, bool asks) {
  Accumulator<V> pooled;
  const uint32 ahead = begin + V::distance < end ? begin + V::distance : end;
  if (asks) {
#pragma unroll 1
    for (uint32 position = begin; position < ahead; position++)
      prefetch_element<V>(params, column, row_of_lookup<V>(params, position));
  }
  uint32 position = begin;
#pragma unroll 1
  for (; position + V::distance < end; position++) {
    const RowNumber<V> later = row_of_lookup<V>(params, position + V::distance);
    if (asks) prefetch_element<V>(params, column, later);
    add_lookup<V>(params, column, position, pooled);
  }
#pragma unroll 1
  for (; position < end; position++) add_lookup<V>(params, column, position, pooled);
  return pooled;
}

} // namespace standard

template <class V>
__device__ __forceinline__ void standard_bag(const StandardBagParams &params) {
  using namespace standard;
  using Offset = typename V::Offset;
  using Row = typename V::Row;
  static_assert(V::prefetch == Prefetch::None || (V::distance >= 1 && V::distance <= 16), "distance is 1 to 16");
  static_assert(V::weights == Weights::None || V::pooling == Pooling::Sum, "weights go with sum");

  if (params.stop != nullptr && ptx::load(params.stop) != 0) return;
  const uint32 dim = static_cast<uint32>(params.dim);
  const uint32 chunks_per_bag = (dim + blockDim.x - 1) / blockDim.x;
  const uint32 chunks = static_cast<uint32>(params.batch) * chunks_per_bag;
#pragma unroll 1
  for (uint32 chunk = blockIdx.x * blockDim.y + threadIdx.y; chunk < chunks; chunk += gridDim.x * blockDim.y) {
    const uint32 bag = chunk / chunks_per_bag;
    const uint32 feature = (chunk - bag * chunks_per_bag) * blockDim.x + threadIdx.x;
    if (feature >= dim) continue;

    const Offset *offsets = static_cast<const Offset *>(params.offsets) + bag;
    const bool has_end = bag + 1 < params.offset_count;
    const int64 first = ptx::load_read_only(offsets);
    const int64 last = has_end ? static_cast<int64>(ptx::load_read_only(offsets + 1)) : params.lookups;
    const uint32 lookups = static_cast<uint32>(params.lookups);
    const uint32 begin = V::repair ? clamp_position(first, 0, lookups) : static_cast<uint32>(first);
    const uint32 end = V::repair ? clamp_position(last, begin, lookups) : static_cast<uint32>(last);

    const uint32 first_byte = feature * Row::bits / 8;
    const char *rows = static_cast<const char *>(params.rows);
    const uint32 *headers = row_headers(rows, static_cast<uint64>(params.row_count) * static_cast<uint64>(params.row_stride_bytes));
    const Column column = {ptx::opaque(rows + first_byte), feature, headers};
    Accumulator<V> pooled;
    if constexpr (V::prefetch == Prefetch::None) {
      pooled = pool_plainly<V>(params, column, begin, end);
    } else if constexpr (V::prefetch == Prefetch::L1) {
      const bool asks = threadIdx.x == 0 || (first_byte % 32 == 0 && (Row::bits >= 8 || feature % 2 == 0));
      pooled = pool_through_l1<V>(params, column, begin, end, asks);
    } else if constexpr (V::prefetch == Prefetch::Pipelined) {
      pooled = pool_pipelined<V>(params, column, begin, end);
    } else {
      pooled = pool_in_groups<V>(params, column, begin, end);
    }
    auto *output = static_cast<typename V::Output::Bits *>(params.output);
    ptx::store(output + bag * static_cast<uint64>(params.output_stride) + feature, V::Output::narrow(pooled.result()));
  }
}

} // namespace hotrow

#endif

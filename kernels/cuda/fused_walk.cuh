/*
 * How a group of lanes walks a bag, or a part of one, for the fused kernel (fused_bags.cuh): what follows from a kind, rows
 * in flight, the sums and their store.
 */
#ifndef HOTROW_FUSED_WALK_CUH
#define HOTROW_FUSED_WALK_CUH

#include "fused_params.cuh"
#include "pooling.cuh"
#include "row_address.cuh"

namespace hotrow {

enum class Checking { None, Stop, Repair };

namespace fused {

constexpr uint32 WARP = 32;
constexpr uint32 FULL_WARP = 0xffffffffu;
/* Vectors, and bytes, of a row that a lane holds at most: wider rows are tiled. */
constexpr int MOST_VECTORS = 4;
constexpr int MOST_LANE_BYTES = 64;

/* Registers of a lane for rows in flight at most; with more, compilers spill, or fail where rows are pipelined. */
template <bool pipelined>
constexpr int most_flight_words = pipelined ? 32 : 64;

__host__ __device__ constexpr int smaller(int a, int b) { return a < b ? a : b; }
__host__ __device__ constexpr int larger(int a, int b) { return a > b ? a : b; }
__host__ __device__ constexpr int divide_up(int a, int b) { return (a + b - 1) / b; }
__host__ __device__ constexpr int power_of_2_from(int n) {
  int power = 1;
  while (power < n) power *= 2;
  return power;
}

/* The greatest up to n, at least 1. */
__host__ __device__ constexpr int power_of_2_to(int n) {
  int power = 1;
  while (2 * power <= n) power *= 2;
  return power;
}

/* What follows from a kind. */
template <class K>
struct Shape {
  using Row = typename K::Row;
  static constexpr int vector_bytes = smaller(Row::vector_bytes(K::dim), K::lane_bytes);
  static constexpr int elements = vector_bytes * 8 / Row::bits;       /* of a vector */
  static constexpr int words = vector_bytes < 4 ? 1 : vector_bytes / 4;
  static constexpr int row_vectors = divide_up(K::dim, elements);
  static constexpr int lanes = smaller(static_cast<int>(WARP), power_of_2_from(row_vectors));
  static constexpr int most_vectors = smaller(MOST_VECTORS, K::lane_bytes / vector_bytes);
  static constexpr int vectors = smaller(most_vectors, divide_up(row_vectors, lanes)); /* of a lane */
  static constexpr int tile_vectors = lanes * vectors;
  static constexpr int tiles = divide_up(row_vectors, tile_vectors);
  static constexpr int tile_elements = tile_vectors * elements;
  static constexpr bool exact = tiles * tile_elements == K::dim; /* no lane has elements past the row */
  static constexpr int turn = larger(lanes, smaller(K::turn, static_cast<int>(WARP))); /* lookups that a group hands round at once */
  static constexpr int own = turn / lanes;                                             /* those of a lane */
  static constexpr int in_flight =
      smaller(smaller(turn, K::in_flight), power_of_2_to(most_flight_words<K::pipelined> / (vectors * words)));
  static constexpr int values = vectors * elements; /* of a lane */
  static constexpr uint32 stride = Row::stride(K::dim);
};

/* Whether an index is that of a row, or of a pruned one. */
template <class K>
__device__ __forceinline__ bool is_good_index(int64 index, int64 row_count) {
  const bool is_row = static_cast<uint64>(index) < static_cast<uint64>(row_count);
  if constexpr (K::pruned) return is_row || index == PRUNED_INDEX;
  return is_row;
}

/* Raw indices of a lane's lookups of a turn. */
template <class K>
struct Indices {
  int64 of[Shape<K>::own];
};

/* A lookup of a lane. */
template <class K>
struct Lookup {
  RowNumber<K> row;
  float weight; /* times the row's scale */
  float bias;   /* the row's, times the weight; 0 where rows have none */
  bool kept;    /* a lookup of the bag, and neither of the padding row nor pruned */
  bool counted; /* the same, or pruned; where that makes a difference */
};

/* The sums of a lane's elements of a bag. */
template <class K>
struct Sums {
  float values[Shape<K>::values];
  float bias = 0.0f;  /* of this lane's own lookups */
  uint32 counted = 0; /* lookups of the bag that were added, a mean's pruned ones too; the same in every lane of the group */

  __device__ __forceinline__ Sums() {
#pragma unroll
    for (int i = 0; i < Shape<K>::values; i++) values[i] = 0.0f;
  }
};

template <class L, class K>
struct Bag {
  using S = Shape<K>;
  using Row = typename K::Row;
  using Index = typename K::Index;
  static constexpr bool is_weighted = K::weights != Weights::None;
  static constexpr bool is_max = K::pooling == Pooling::Max;
  static constexpr bool counts_pruned = K::pruned && K::pooling == Pooling::Mean;

  const FusedTable &table;
  const typename L::Params &params;
  const char *column; /* this lane's first vector of row 0 */
  uint32 lane;        /* within the group */
  int tile;

  __device__ __forceinline__ Bag(const typename L::Params &launch, const FusedTable &own, int own_tile)
      : table(own), params(launch), lane(threadIdx.x % S::lanes), tile(own_tile) {
    const uint32 vector = tile * S::tile_vectors + lane;
    column = ptx::opaque(static_cast<const char *>(table.rows) + vector * S::vector_bytes);
  }

  /* Whether vector `v` of this lane holds elements of the row; vectors past the row are not loaded. */
  __device__ __forceinline__ bool has(int v) const {
    if constexpr (S::exact) return true;
    return tile * S::tile_vectors + static_cast<int>(lane) + v * S::lanes < S::row_vectors;
  }

  __device__ __forceinline__ void count_finding() const { ptx::atomic_add(params.findings, uint64(1)); }

  /* The raw index at `position`; -1 where that is past the bag. */
  __device__ __forceinline__ int64 index_at(uint32 position, uint32 end) const {
    if (position >= end) return -1;
    return ptx::load_read_only(static_cast<const Index *>(table.indices) + position);
  }

  /* Those of this lane's lookups of a turn, of which `position` is the first. */
  __device__ __forceinline__ Indices<K> indices_at(uint32 position, uint32 end) const {
    Indices<K> indices;
#pragma unroll
    for (int o = 0; o < S::own; o++) indices.of[o] = index_at(position + o * S::lanes, end);
    return indices;
  }

  /* What this lane's lookup at `position` comes to. */
  __device__ __forceinline__ Lookup<K> look_up(int64 index, uint32 position, uint32 end) const {
    Lookup<K> own;
    own.kept = position < end;
    if constexpr (L::checking != Checking::None) {
      const bool is_good = is_good_index<K>(index, table.row_count);
      if constexpr (L::checking == Checking::Stop) {
        if (own.kept && !is_good) count_finding();
        own.kept = own.kept && is_good;
      } else {
        if (!is_good) index = 0;
      }
    }
    own.row = static_cast<RowNumber<K>>(index);
    if constexpr (K::padding) own.kept = own.kept && own.row != static_cast<RowNumber<K>>(table.padding_index);
    if constexpr (counts_pruned || K::turn > 1) own.counted = own.kept;
    if constexpr (K::pruned) own.kept = own.kept && !is_pruned<K>(own.row);
    own.weight = 1.0f;
    own.bias = 0.0f;
    if (!own.kept) return own;
    if constexpr (K::weights == Weights::Sample) own.weight = ptx::load_read_only(table.weights + position);
    if constexpr (K::weights == Weights::Row) own.weight = ptx::load_read_only(table.row_weights + own.row);
    if constexpr (Row::is_scaled) {
      const uint32 *headers = row_headers(static_cast<const char *>(table.rows), static_cast<uint64>(table.row_count) * S::stride);
      scale_by(ptx::load_read_only(headers + own.row), own.weight, own.bias);
    }
    return own;
  }

  /* A row's header: weight = scale · weight, bias = bias · weight. */
  static __device__ __forceinline__ void scale_by(uint32 header, float &weight, float &bias) {
    const float scale = ptx::float16_to_float32(static_cast<unsigned short>(header));
    bias = ptx::float16_to_float32(static_cast<unsigned short>(header >> 16));
    if constexpr (is_weighted) bias = __fmul_rn(bias, weight);
    weight = is_weighted ? __fmul_rn(scale, weight) : scale;
  }

  /* The group's lookups of one turn: lookup l is lane l % lanes' own[l / lanes]. Bit l of `kept`: it is added. */
  struct Turn {
    Lookup<K> own[S::own];
    uint32 kept;
    bool full; /* every group of the warp has all of them, none left out */
  };

  /* `position`: of this lane's first lookup. */
  __device__ __forceinline__ Turn turn_of(const Indices<K> &indices, uint32 position, uint32 end) const {
    Turn turn;
    turn.kept = 0;
    turn.full = true;
#pragma unroll
    for (int o = 0; o < S::own; o++) {
      turn.own[o] = look_up(indices.of[o], position + o * S::lanes, end);
      const uint32 warp_kept = ptx::ballot(turn.own[o].kept);
      turn.full = turn.full && warp_kept == FULL_WARP;
      turn.kept |= of_group(warp_kept) << (o * S::lanes % static_cast<int>(WARP));
    }
    return turn;
  }

  /* A warp's ballot, as far as the group's lanes cast it. */
  static __device__ __forceinline__ uint32 of_group(uint32 ballot) {
    return S::lanes == static_cast<int>(WARP)
               ? ballot
               : ballot >> (threadIdx.x % WARP / S::lanes * S::lanes) & ((1u << (S::lanes % WARP)) - 1);
  }

  /* What a turn's lookups come to beside their rows; not for Max, which must know of each. */
  __device__ __forceinline__ void count(Sums<K> &sums, const Turn &turn) const {
    if constexpr (!counts_pruned) sums.counted += ptx::count_bits(turn.kept);
#pragma unroll
    for (int o = 0; o < S::own; o++) {
      if constexpr (counts_pruned) sums.counted += ptx::count_bits(of_group(ptx::ballot(turn.own[o].counted)));
      if constexpr (Row::is_scaled) sums.bias = __fadd_rn(sums.bias, turn.own[o].bias);
    }
  }

  /* Rows on their way. */
  struct Flight {
    ptx::Words<S::words> words[S::in_flight][S::vectors];
  };

  /* Asks for the row of a lookup of the turn. `full`: without looking whether it is kept. */
  template <bool full>
  __device__ __forceinline__ void ask(Flight &flight, int slot, const Turn &turn, int lookup) const {
    const RowNumber<K> row = ptx::shuffle<S::lanes>(turn.own[lookup / S::lanes].row, lookup % S::lanes);
    const char *from = row_address<K>(column, row, S::stride);
    const bool kept = full || (turn.kept >> lookup & 1) != 0;
#pragma unroll
    for (int v = 0; v < S::vectors; v++)
      if (kept && has(v))
        flight.words[slot][v] = ptx::load_vector<S::vector_bytes>(from + v * S::lanes * S::vector_bytes);
  }

  template <bool full>
  __device__ __forceinline__ void add(Sums<K> &sums, const Flight &flight, int slot, const Turn &turn,
                                      int lookup) const {
    const Lookup<K> &own = turn.own[lookup / S::lanes];
    float weight = 1.0f;
    float bias = 0.0f;
    if constexpr (is_weighted || Row::is_scaled) weight = ptx::shuffle<S::lanes>(own.weight, lookup % S::lanes);
    if constexpr (Row::is_scaled && is_max) bias = ptx::shuffle<S::lanes>(own.bias, lookup % S::lanes);
    if (!full && (turn.kept >> lookup & 1) == 0) return;
#pragma unroll
    for (int v = 0; v < S::vectors; v++) {
      if (!has(v)) continue;
#pragma unroll
      for (int e = 0; e < S::elements; e++) {
        const float x = Row::element(flight.words[slot][v].word, e);
        float &sum = sums.values[v * S::elements + e];
        if constexpr (is_max) {
          const float value = Row::is_scaled ? __fmaf_rn(weight, x, bias) : x;
          sum = sums.counted == 0 || value > sum ? value : sum;
        } else if constexpr (is_weighted || Row::is_scaled) {
          sum = __fmaf_rn(weight, x, sum);
        } else {
          sum = __fadd_rn(sum, x);
        }
      }
    }
    if constexpr (is_max) sums.counted++;
  }

  /* Adds a group of lookups of the turn, from `first` on, all of whose rows are asked for before the first is added. */
  template <bool full>
  __device__ __forceinline__ void add_group(Sums<K> &sums, Flight &flight, const Turn &turn, int first) const {
#pragma unroll
    for (int slot = 0; slot < S::in_flight; slot++) ask<full>(flight, slot, turn, first + slot);
#pragma unroll
    for (int slot = 0; slot < S::in_flight; slot++) add<full>(sums, flight, slot, turn, first + slot);
  }

  /* Adds lookups of the turn from `first` on, whose rows are asked for already; for each, the one `in_flight` ahead is. */
  template <bool full>
  __device__ __forceinline__ void add_and_ask(Sums<K> &sums, Flight &flight, const Turn &turn, const Turn &next,
                                              int first) const {
#pragma unroll
    for (int slot = 0; slot < S::in_flight; slot++) {
      add<full>(sums, flight, slot, turn, first + slot);
      const int ahead = first + slot + S::in_flight;
      if (ahead < S::turn) ask<full>(flight, slot, turn, ahead);
      else ask<false>(flight, slot, next, ahead - S::turn);
    }
  }

  /*
   * Adds lookups [begin, end), which may differ from group to group of a warp: all its lanes come here together.
   * `next`: indices_at(begin + lane, end), asked for ahead.
   */
  __device__ __forceinline__ void walk(Sums<K> &sums, uint32 begin, uint32 end, const Indices<K> &next) const {
    const uint32 own_length = end - begin;
    uint32 longest = own_length;
    if constexpr (S::lanes < static_cast<int>(WARP)) longest = ptx::warp_max(own_length);
    if constexpr (K::pipelined) walk_pipelined(sums, begin, end, next, longest);
    else walk_in_groups(sums, begin, end, next, longest);
  }

  __device__ __forceinline__ void walk_in_groups(Sums<K> &sums, uint32 begin, uint32 end, Indices<K> next,
                                                 uint32 longest) const {
#pragma unroll 1
    for (uint32 done = 0; done < longest; done += S::turn) {
      const uint32 position = begin + done + lane;
      const Turn turn = turn_of(next, position, end);
      next = indices_at(position + S::turn, end);
      Flight flight; /* one for both: compilers need fewer registers than for one each */
      if (S::own == 1 && turn.full) { /* bags of longer turns rarely fill one */
#pragma unroll
        for (int first = 0; first < S::turn; first += S::in_flight) add_group<true>(sums, flight, turn, first);
      } else {
#pragma unroll
        for (int first = 0; first < S::turn; first += S::in_flight) {
          if (done + first >= longest) break;
          add_group<false>(sums, flight, turn, first);
        }
      }
      if constexpr (!is_max) count(sums, turn);
    }
  }

  __device__ __forceinline__ void walk_pipelined(Sums<K> &sums, uint32 begin, uint32 end, Indices<K> next,
                                                 uint32 longest) const {
    uint32 position = begin + lane;
    Turn turn = turn_of(next, position, end);
    Flight flight;
#pragma unroll
    for (int slot = 0; slot < S::in_flight; slot++) ask<false>(flight, slot, turn, slot);
    next = indices_at(position + S::turn, end);
#pragma unroll 1
    for (uint32 done = 0; done < longest; done += S::turn) {
      position += S::turn;
      const Turn following = turn_of(next, position, end);
      next = indices_at(position + S::turn, end);
      if (S::own == 1 && turn.full) { /* bags of longer turns rarely fill one */
#pragma unroll
        for (int first = 0; first < S::turn; first += S::in_flight)
          add_and_ask<true>(sums, flight, turn, following, first);
      } else {
#pragma unroll
        for (int first = 0; first < S::turn; first += S::in_flight) {
          if (done + first >= longest) break;
          add_and_ask<false>(sums, flight, turn, following, first);
        }
      }
      if constexpr (!is_max) count(sums, turn);
      turn = following;
    }
  }

  __device__ __forceinline__ void finish_bias(Sums<K> &sums) const {
    if constexpr (Row::is_scaled && !is_max) {
      float bias = sums.bias;
#pragma unroll
      for (int distance = S::lanes / 2; distance > 0; distance /= 2)
        bias = __fadd_rn(bias, ptx::shuffle_xor(bias, distance));
#pragma unroll
      for (int i = 0; i < S::values; i++) sums.values[i] = __fadd_rn(sums.values[i], bias);
    }
  }

  __device__ __forceinline__ int element_of(int i) const {
    const int vector = tile * S::tile_vectors + static_cast<int>(lane) + i / S::elements * S::lanes;
    return vector * S::elements + i % S::elements;
  }

  /* Results in 8 bits, from the values that the output holds. */
  __device__ __forceinline__ void store_rounded(const float (&results)[S::values], uint32 bag) const {
    using Output = typename K::Output;
    unsigned char *rounded = K::per_user ? params.user_rounded : params.rounded;
    const int64 stride = K::per_user ? params.user_output_stride : params.rounded_stride;
    unsigned char *row = rounded + bag * static_cast<uint64>(stride) + table.column;
    const float inverse = __uint_as_float(static_cast<uint32>(params.rounded_inverse));
    float values[S::values];
#pragma unroll
    for (int i = 0; i < S::values; i++) values[i] = __fmul_rn(Output::widen(Output::narrow(results[i])), inverse);
    if constexpr (S::exact && S::elements % 4 == 0) {
      if (reinterpret_cast<uint64>(row) % 4 == 0) {
#pragma unroll
        for (int i = 0; i < S::values; i += 4)
          ptx::store(reinterpret_cast<uint32 *>(row + element_of(i)),
                     ptx::to_float8_e4m3_pair(values[i], values[i + 1]) |
                         ptx::to_float8_e4m3_pair(values[i + 2], values[i + 3]) << 16);
        return;
      }
    }
#pragma unroll
    for (int i = 0; i < S::values; i++)
      if (S::exact || element_of(i) < K::dim) ptx::store(row + element_of(i), ptx::to_float8_e4m3(values[i]));
  }

  __device__ __forceinline__ void store(const Sums<K> &sums, uint32 bag) const {
    using Output = typename K::Output;
    using Bits = typename Output::Bits;
    void *output = K::per_user ? params.user_output : params.output;
    const int64 stride = K::per_user ? params.user_output_stride : params.output_stride;
    Bits *row = static_cast<Bits *>(output) + bag * static_cast<uint64>(stride) + table.column;
    float results[S::values];
#pragma unroll
    for (int i = 0; i < S::values; i++) {
      results[i] = sums.values[i];
      if (K::pooling == Pooling::Mean && sums.counted != 0)
        results[i] = __fdiv_rn(results[i], static_cast<float>(sums.counted));
    }
    if constexpr (L::rounds) store_rounded(results, bag);
    if constexpr (S::exact && S::elements % 4 == 0) {
      if (reinterpret_cast<uint64>(row) % (4 * sizeof(Bits)) == 0) {
#pragma unroll
        for (int i = 0; i < S::values; i += 4)
          ptx::store4(row + element_of(i), Output::narrow(results[i]), Output::narrow(results[i + 1]),
                      Output::narrow(results[i + 2]), Output::narrow(results[i + 3]));
        return;
      }
    }
#pragma unroll
    for (int i = 0; i < S::values; i++)
      if (S::exact || element_of(i) < K::dim) ptx::store(row + element_of(i), Output::narrow(results[i]));
  }
};

} // namespace fused
} // namespace hotrow

#endif

/*
 * The fused embedding-bag kernel: the bags of all tables of a collection in one launch.
 *
 *   output[b, column(t) + f] = pool over p in [offsets_t[b], offsets_t[b + 1]) of  weight_t[p] · rows_t[indices_t[p], f]
 *
 * A *group* of lanes (a part of a warp, or all of it) walks a bag. It loads as many indices as it has lanes at once,
 * hands them round by shuffles, and asks for `in_flight` rows before it adds the first: each lane has its vectors of at
 * most 16 bytes of every row. Rows wider than a group's lanes hold are cut into *tiles*, which are units of their own. A
 * table's units go tile by tile, and each tile bag by bag: what is read at one time is then one tile of the rows, which L2
 * has room for more often than for whole rows.
 * Tables may differ in everything: each belongs to a *kind*, and a launch's kernel is compiled for the kinds that its
 * collection has.
 *
 * Rows are added in index order, in float32, rounding after every operation (one fused operation where rows are
 * weighted), so that results have the bits of the standard kernel and of the CPU. Two exceptions add in another order,
 * the same in every run: quantised rows (the biases of a bag are added up by themselves), and bags cut into segments.
 *
 * Long bags: the caller cuts every bag of more than `split` lookups into segments, each the work of a block whose groups
 * share it; ordinary groups leave such bags out. The last block of a bag adds the segments' sums up, in their order.
 *
 * Checking::Stop looks at every index and offset on the way: a bad one is counted in `findings` and read as nothing, so
 * that no memory is touched by it; what the output then holds is undefined. Checking::Repair reads row 0 instead, and
 * clamps bag bounds. Checking::None trusts its input.
 *
 * A launch is a struct with these members (src/backend/cuda/fused-source.ts writes it):
 *   threads       threads of a block
 *   checking      Checking
 *   splits        whether there may be segments
 *   several       whether bags_per_group may be more than 1
 * and a kind:
 *   Row           Float32, Float16, Bfloat16, Int8, Int4, Float8E4m3
 *   Index, Offset int32, int64
 *   Output        Float32, Float16, Bfloat16: pooled rows are rounded to it once, at the end
 *   pooling       Pooling; weights: Weights; padding: whether params.padding_index is a row that lookups skip
 *   dim           elements of a row
 *   wide_rows     whether row_count may exceed 2^31
 *   lane_bytes    bytes of a row that a lane holds at most: with fewer, more lanes share a row; 4 to MOST_LANE_BYTES
 *   in_flight     rows of a bag that a group asks for at once, 1 to 32; wide rows: fewer, see most_flight_words
 *   pipelined     whether one more is asked for as each is added, instead of as many again when all are added
 */
#ifndef HOTROW_FUSED_BAGS_CUH
#define HOTROW_FUSED_BAGS_CUH

#include "pooling.cuh"
#include "rows.cuh"

namespace hotrow {

enum class Checking { None, Stop, Repair };

/* Every field of every struct is 8 bytes wide. */
struct alignas(16) FusedTable {
  const void *rows;         /* [row_count], each Row::stride(dim) bytes; then, where Row::is_scaled, [row_count] headers */
  int64 row_count;
  const void *indices;      /* [lookups] */
  int64 lookups;            /* < 2^31 */
  const void *offsets;      /* [offset_count] */
  int64 offset_count;       /* batch or batch + 1 */
  const float *weights;     /* [lookups] */
  const float *row_weights; /* [row_count] */
  int64 padding_index;
  int64 column;             /* of the output where the table starts */
  int64 kind;
  int64 unused;
};

/* A part of a long bag and one tile of its rows: the work of a block. */
struct alignas(16) FusedSegment {
  int64 table;
  int64 bag;
  int64 tile;
  int64 begin, end;         /* positions in the table's indices */
  int64 slot;               /* where its sum goes: partials of the bag and tile lie side by side */
  int64 first_slot, slots;  /* those of the bag and tile */
  int64 arrivals;           /* counts them in: an element of params.arrivals */
  int64 unused;
};

struct FusedBagsParams {
  const FusedTable *tables;     /* [table_count] */
  int64 batch;
  int64 blocks_per_table;       /* blocks: segment_count of segments, then these for each table */
  int64 bags_per_group;
  void *output;                 /* [batch, output_stride] of Output::Bits */
  int64 output_stride;
  uint64 *findings;             /* of Checking::Stop; zeroed by the caller */
  int64 split;                  /* bags of more lookups are segments' work */
  const FusedSegment *segments; /* [segment_count] */
  int64 segment_count;
  float *partials;              /* [slots, partial_width] */
  int64 partial_width;          /* floats of a slot: the widest tile, and one for the count */
  uint32 *arrivals;             /* zeroed by the caller, and by the kernel when it is done */
};

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

/* A kind with lanes that hold as much of a row as they can: segments have blocks of their own, and need no more lanes. */
template <class K>
struct WideLanes : K {
  static constexpr int lane_bytes = MOST_LANE_BYTES;
};

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
  static constexpr int in_flight =
      smaller(smaller(lanes, K::in_flight), power_of_2_to(most_flight_words<K::pipelined> / (vectors * words)));
  static constexpr int values = vectors * elements; /* of a lane */
  static constexpr uint32 stride = Row::stride(K::dim);
};

template <bool wide>
struct RowNumberOf {
  using Type = uint32;
};
template <>
struct RowNumberOf<true> {
  using Type = uint64;
};
template <class K>
using RowNumber = typename RowNumberOf<K::wide_rows>::Type;

/* One lane's share of the group's next `lanes` lookups: a lookup of its own. */
template <class K>
struct Lookup {
  RowNumber<K> row;
  float weight; /* times the row's scale */
  float bias;   /* the row's, times the weight; 0 where rows have none */
  bool kept;    /* a lookup of the bag, and not of the padding row */
};

/* The sums of a lane's elements of a bag. */
template <class K>
struct Sums {
  float values[Shape<K>::values];
  float bias = 0.0f;  /* of this lane's own lookups */
  uint32 counted = 0; /* lookups of the bag that were added, the same in every lane of the group */

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

  const FusedTable &table;
  const FusedBagsParams &params;
  const char *column; /* this lane's first vector of row 0 */
  uint32 lane;        /* within the group */
  int tile;

  __device__ __forceinline__ Bag(const FusedBagsParams &launch, const FusedTable &own, int own_tile)
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

  /* What this lane's lookup at `position` comes to. */
  __device__ __forceinline__ Lookup<K> look_up(int64 index, uint32 position, uint32 end) const {
    Lookup<K> own;
    own.kept = position < end;
    if constexpr (L::checking != Checking::None) {
      const bool is_row = static_cast<uint64>(index) < static_cast<uint64>(table.row_count);
      if constexpr (L::checking == Checking::Stop) {
        if (own.kept && !is_row) count_finding();
        own.kept = own.kept && is_row;
      } else {
        if (!is_row) index = 0;
      }
    }
    own.row = static_cast<RowNumber<K>>(index);
    if constexpr (K::padding) own.kept = own.kept && own.row != static_cast<RowNumber<K>>(table.padding_index);
    own.weight = 1.0f;
    own.bias = 0.0f;
    if (!own.kept) return own;
    if constexpr (K::weights == Weights::Sample) own.weight = ptx::load_read_only(table.weights + position);
    if constexpr (K::weights == Weights::Row) own.weight = ptx::load_read_only(table.row_weights + own.row);
    if constexpr (Row::is_scaled) {
      const char *headers = static_cast<const char *>(table.rows) + static_cast<uint64>(table.row_count) * S::stride;
      scale_by(ptx::load_read_only(reinterpret_cast<const uint32 *>(headers) + own.row), own.weight, own.bias);
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

  /* The group's lookups of one turn, a lane each. Bit l of `kept`: that of lane l is added. */
  struct Turn {
    Lookup<K> own;
    uint32 kept;
    bool full; /* every group of the warp has all of them, none left out */
  };

  __device__ __forceinline__ Turn turn_of(int64 index, uint32 position, uint32 end) const {
    Turn turn;
    turn.own = look_up(index, position, end);
    const uint32 warp_kept = ptx::ballot(turn.own.kept);
    turn.full = warp_kept == FULL_WARP;
    turn.kept = S::lanes == static_cast<int>(WARP)
                    ? warp_kept
                    : warp_kept >> (threadIdx.x % WARP / S::lanes * S::lanes) & ((1u << (S::lanes % WARP)) - 1);
    return turn;
  }

  /* What a turn's lookups come to beside their rows; not for Max, which must know of each. */
  __device__ __forceinline__ void count(Sums<K> &sums, const Turn &turn) const {
    sums.counted += ptx::count_bits(turn.kept);
    if constexpr (Row::is_scaled) sums.bias = __fadd_rn(sums.bias, turn.own.bias);
  }

  /* Rows on their way. */
  struct Flight {
    ptx::Words<S::words> words[S::in_flight][S::vectors];
  };

  __device__ __forceinline__ const char *address_of(RowNumber<K> row) const {
    if constexpr (K::wide_rows) return column + row * S::stride;
    return column + ptx::multiply_wide(static_cast<uint32>(row), S::stride);
  }

  /* Asks for the row of a lookup of the turn. `full`: without looking whether it is kept. */
  template <bool full>
  __device__ __forceinline__ void ask(Flight &flight, int slot, const Turn &turn, int lookup) const {
    const RowNumber<K> row = ptx::shuffle<S::lanes>(turn.own.row, lookup);
    const char *from = address_of(row);
    const bool kept = full || (turn.kept >> lookup & 1) != 0;
#pragma unroll
    for (int v = 0; v < S::vectors; v++)
      if (kept && has(v))
        flight.words[slot][v] = ptx::load_vector<S::vector_bytes>(from + v * S::lanes * S::vector_bytes);
  }

  template <bool full>
  __device__ __forceinline__ void add(Sums<K> &sums, const Flight &flight, int slot, const Turn &turn,
                                      int lookup) const {
    float weight = 1.0f;
    float bias = 0.0f;
    if constexpr (is_weighted || Row::is_scaled) weight = ptx::shuffle<S::lanes>(turn.own.weight, lookup);
    if constexpr (Row::is_scaled && is_max) bias = ptx::shuffle<S::lanes>(turn.own.bias, lookup);
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
      if (ahead < S::lanes) ask<full>(flight, slot, turn, ahead);
      else ask<false>(flight, slot, next, ahead - S::lanes);
    }
  }

  /*
   * Adds lookups [begin, end), which may differ from group to group of a warp: all its lanes come here together.
   * `next`: index_at(begin + lane, end), asked for ahead.
   */
  __device__ __forceinline__ void walk(Sums<K> &sums, uint32 begin, uint32 end, int64 next) const {
    const uint32 own_length = end - begin;
    uint32 longest = own_length;
    if constexpr (S::lanes < static_cast<int>(WARP)) longest = ptx::warp_max(own_length);
    if constexpr (K::pipelined) walk_pipelined(sums, begin, end, next, longest);
    else walk_in_groups(sums, begin, end, next, longest);
  }

  __device__ __forceinline__ void walk_in_groups(Sums<K> &sums, uint32 begin, uint32 end, int64 next,
                                                 uint32 longest) const {
#pragma unroll 1
    for (uint32 done = 0; done < longest; done += S::lanes) {
      const uint32 position = begin + done + lane;
      const Turn turn = turn_of(next, position, end);
      next = index_at(position + S::lanes, end);
      Flight flight; /* one for both: compilers need fewer registers than for one each */
      if (turn.full) {
#pragma unroll
        for (int first = 0; first < S::lanes; first += S::in_flight) add_group<true>(sums, flight, turn, first);
      } else {
#pragma unroll
        for (int first = 0; first < S::lanes; first += S::in_flight) {
          if (done + first >= longest) break;
          add_group<false>(sums, flight, turn, first);
        }
      }
      if constexpr (!is_max) count(sums, turn);
    }
  }

  __device__ __forceinline__ void walk_pipelined(Sums<K> &sums, uint32 begin, uint32 end, int64 next,
                                                 uint32 longest) const {
    uint32 position = begin + lane;
    Turn turn = turn_of(next, position, end);
    Flight flight;
#pragma unroll
    for (int slot = 0; slot < S::in_flight; slot++) ask<false>(flight, slot, turn, slot);
    next = index_at(position + S::lanes, end);
#pragma unroll 1
    for (uint32 done = 0; done < longest; done += S::lanes) {
      position += S::lanes;
      const Turn following = turn_of(next, position, end);
      next = index_at(position + S::lanes, end);
      if (turn.full) {
#pragma unroll
        for (int first = 0; first < S::lanes; first += S::in_flight)
          add_and_ask<true>(sums, flight, turn, following, first);
      } else {
#pragma unroll
        for (int first = 0; first < S::lanes; first += S::in_flight) {
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

  __device__ __forceinline__ void store(const Sums<K> &sums, uint32 bag) const {
    using Output = typename K::Output;
    using Bits = typename Output::Bits;
    Bits *row = static_cast<Bits *>(params.output) + bag * static_cast<uint64>(params.output_stride) + table.column;
    float results[S::values];
#pragma unroll
    for (int i = 0; i < S::values; i++) {
      results[i] = sums.values[i];
      if (K::pooling == Pooling::Mean && sums.counted != 0)
        results[i] = __fdiv_rn(results[i], static_cast<float>(sums.counted));
    }
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

__device__ __forceinline__ uint32 clamped(int64 value, uint32 low, uint32 high) {
  return value < static_cast<int64>(low) ? low : value > static_cast<int64>(high) ? high : static_cast<uint32>(value);
}

/* The lookups [begin, end) of a bag, checked or repaired. */
template <class L, class K>
__device__ __forceinline__ void bounds_of(const FusedBagsParams &params, const FusedTable &table, uint32 bag, bool leads,
                                          uint32 &begin, uint32 &end) {
  const auto *offsets = static_cast<const typename K::Offset *>(table.offsets) + bag;
  const int64 first = ptx::load_read_only(offsets);
  const bool has_end = bag + 1 < table.offset_count;
  const int64 last = has_end ? static_cast<int64>(ptx::load_read_only(offsets + 1)) : table.lookups;
  const uint32 lookups = static_cast<uint32>(table.lookups);
  begin = static_cast<uint32>(first);
  end = static_cast<uint32>(last);
  if constexpr (L::checking == Checking::Repair) {
    begin = clamped(first, 0, lookups);
    end = clamped(last, begin, lookups);
  }
  if constexpr (L::checking == Checking::Stop) {
    const bool bad = (bag == 0 && first != 0) || first < 0 || last < first || last > table.lookups;
    if (!bad) return;
    if (leads) ptx::atomic_add(params.findings, uint64(1));
    begin = end = 0;
  }
}

/* Counts bad indices of lookups past the last bag, which no bag reads. */
template <class L, class K>
__device__ __forceinline__ void check_unread(const Bag<L, K> &walker, uint32 end) {
  const FusedTable &table = walker.table;
  for (uint32 position = end + walker.lane; position < static_cast<uint32>(table.lookups); position += Shape<K>::lanes) {
    const int64 index = ptx::load_read_only(static_cast<const typename K::Index *>(table.indices) + position);
    if (static_cast<uint64>(index) >= static_cast<uint64>(table.row_count)) walker.count_finding();
  }
}

/* A bag, or a tile of one: those of a table are numbered tile by tile. */
template <class K>
struct Unit {
  uint32 bag;
  int tile;
  __device__ __forceinline__ Unit(uint32 number, uint32 batch)
      : bag(Shape<K>::tiles == 1 ? number : number % batch), tile(Shape<K>::tiles == 1 ? 0 : number / batch) {}
};

/* The lookups of a unit. */
struct UnitBounds {
  uint32 begin = 0;
  uint32 end = 0;
  bool stored = false; /* its result is this group's to store: it exists, and is not the work of segments */
};

template <class L, class K>
__device__ __forceinline__ UnitBounds unit_bounds(const FusedBagsParams &params, const FusedTable &table, uint32 number,
                                                  uint32 units) {
  UnitBounds own;
  if (number >= units) return own;
  const Unit<K> unit(number, static_cast<uint32>(params.batch));
  const bool leads = unit.tile == 0 && threadIdx.x % Shape<K>::lanes == 0;
  bounds_of<L, K>(params, table, unit.bag, leads, own.begin, own.end);
  if constexpr (L::checking == Checking::Stop) {
    if (unit.tile == 0 && unit.bag + 1 == params.batch && unit.bag + 1 < table.offset_count)
      check_unread<L, K>(Bag<L, K>(params, table, 0), own.end);
  }
  own.stored = !(L::splits && own.end - own.begin > static_cast<uint32>(params.split));
  if (!own.stored) own.end = own.begin;
  return own;
}

/* Block `block` of those that share the ordinary bags of a table. */
template <class L, class K>
__device__ __forceinline__ void ordinary_bags(const FusedBagsParams &params, const FusedTable &table, uint32 block) {
  using S = Shape<K>;
  constexpr uint32 groups = L::threads / S::lanes;
  const uint32 units = static_cast<uint32>(params.batch) * S::tiles;
  const uint32 each = L::several ? static_cast<uint32>(params.bags_per_group) : 1;
  const uint32 group = block * groups + threadIdx.x / S::lanes;
  const uint32 warp_first = (block * groups + threadIdx.x / WARP * (WARP / S::lanes)) * each;
  if (warp_first >= units) return;
  const Bag<L, K> any_tile(params, table, 0);
  /* A bag's bounds are asked for two bags ahead, its first indices one bag ahead: short bags would wait for each in turn. */
  UnitBounds ahead = unit_bounds<L, K>(params, table, group * each, units);
  UnitBounds after;
  if (L::several) after = unit_bounds<L, K>(params, table, group * each + 1, units);
  int64 index = any_tile.index_at(ahead.begin + any_tile.lane, ahead.end);
#pragma unroll 1
  for (uint32 i = 0; i < each; i++) {
    const uint32 number = group * each + i;
    const UnitBounds own = ahead;
    const int64 own_index = index;
    if (L::several) {
      ahead = after;
      index = any_tile.index_at(ahead.begin + any_tile.lane, ahead.end);
      if (i + 2 < each) after = unit_bounds<L, K>(params, table, number + 2, units);
    }
    const Unit<K> unit(number, static_cast<uint32>(params.batch));
    const Bag<L, K> walker(params, table, unit.tile);
    Sums<K> sums;
    walker.walk(sums, own.begin, own.end, own_index);
    walker.finish_bias(sums);
    if (own.stored) walker.store(sums, unit.bag);
  }
}

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
__device__ __forceinline__ void segment_of_bag(const FusedBagsParams &params, const FusedTable &table,
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
  walker.walk(sums, begin, end, walker.index_at(begin + walker.lane, end));
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

namespace fused {

/* Structs and not lambdas, which NVRTC takes for host code. */
template <class L>
struct SegmentVisitor {
  const FusedBagsParams &params;
  const FusedTable &table;
  const FusedSegment &segment;
  template <class K>
  __device__ __forceinline__ void operator()(K) const {
    segment_of_bag<L, WideLanes<K>>(params, table, segment);
  }
};

template <class L>
struct OrdinaryVisitor {
  const FusedBagsParams &params;
  const FusedTable &table;
  uint32 block;
  template <class K>
  __device__ __forceinline__ void operator()(K) const {
    ordinary_bags<L, K>(params, table, block);
  }
};

} // namespace fused

/* A block's part of the launch. `Kinds::visit(kind, visitor)` calls visitor(K{}) for the kind of that number. */
template <class L, class Kinds>
__device__ __forceinline__ void fused_bags(const FusedBagsParams &params) {
  uint32 block = blockIdx.x;
  if constexpr (L::splits) {
    const uint32 segments = static_cast<uint32>(params.segment_count);
    if (block < segments) {
      const FusedSegment segment = ptx::load_struct(params.segments + block);
      const FusedTable table = ptx::load_struct(params.tables + segment.table);
      Kinds::visit(table.kind, fused::SegmentVisitor<L>{params, table, segment});
      return;
    }
    block -= segments;
  }
  const uint32 per_table = static_cast<uint32>(params.blocks_per_table);
  const uint32 t = block / per_table;
  const FusedTable table = ptx::load_struct(params.tables + t);
  Kinds::visit(table.kind, fused::OrdinaryVisitor<L>{params, table, block - t * per_table});
}

} // namespace hotrow

#endif

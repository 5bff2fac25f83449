/*
 * The fused embedding-bag kernel: the bags of all tables of a collection in one launch.
 *
 *   output[b, column(t) + f] = pool over p in [offsets_t[b], offsets_t[b + 1]) of  weight_t[p] · rows_t[indices_t[p], f]
 *
 * A *group* of lanes (a part of a warp, or all of it) walks a bag. It loads as many indices as it has lanes at once, or `turn`
 * where that is more, hands them round by shuffles, and asks for `in_flight` rows before it adds the first: each lane has its vectors of at
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
 * A launch is a struct with these members (src/backend/cuda/embedding/fused-source.ts writes it):
 *   threads       threads of a block
 *   checking      Checking
 *   splits        whether there may be segments
 *   several       whether bags_per_group may be more than 1
 *   rounds        whether pooled rows are written in 8 bits too, from the values that the output holds
 *   Params        RoundedBagsParams where it rounds, else FusedBagsParams
 * and a kind:
 *   Row           Float32, Float16, Bfloat16, Int8, Int4, Float8E4m3
 *   Index, Offset int32, int64
 *   Output        Float32, Float16, Bfloat16: pooled rows are rounded to it once, at the end
 *   pooling       Pooling; weights: Weights; padding: whether params.padding_index is a row that lookups skip
 *   pruned        whether index -1 is good, and stands for a row that adds nothing; Mean counts it all the same
 *   dim           elements of a row
 *   wide_rows     whether row_count may exceed 2^31
 *   per_user      whether the table has a bag per user, whose pooled rows go to params.user_output (spread_rows.cuh takes them on)
 *   lane_bytes    bytes of a row that a lane holds at most: with fewer, more lanes share a row; 4 to MOST_LANE_BYTES
 *   turn          lookups that a group reads the indices of at once, a power of two up to 32; its lanes where those are more
 *   in_flight     rows of a bag that a group asks for at once, 1 to 32; wide rows: fewer, see most_flight_words
 *   pipelined     whether one more is asked for as each is added, instead of as many again when all are added
 */
#ifndef HOTROW_FUSED_BAGS_CUH
#define HOTROW_FUSED_BAGS_CUH

#include "fused_params.cuh"
#include "fused_segments.cuh"
#include "fused_walk.cuh"

namespace hotrow {
namespace fused {

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
    if (!is_good_index<K>(index, table.row_count)) walker.count_finding();
  }
}

/* Bags of a table. */
template <class K>
__device__ __forceinline__ uint32 bag_count(const FusedBagsParams &params) {
  return static_cast<uint32>(K::per_user ? params.users : params.batch);
}

/* A bag, or a tile of one: those of a table are numbered tile by tile. */
template <class K>
struct Unit {
  uint32 bag;
  int tile;
  __device__ __forceinline__ Unit(uint32 number, uint32 bags)
      : bag(Shape<K>::tiles == 1 ? number : number % bags), tile(Shape<K>::tiles == 1 ? 0 : number / bags) {}
};

/* The lookups of a unit. */
struct UnitBounds {
  uint32 begin = 0;
  uint32 end = 0;
  bool stored = false; /* its result is this group's to store: it exists, and is not the work of segments */
};

template <class L, class K>
__device__ __forceinline__ UnitBounds unit_bounds(const typename L::Params &params, const FusedTable &table, uint32 number,
                                                  uint32 units) {
  UnitBounds own;
  if (number >= units) return own;
  const Unit<K> unit(number, bag_count<K>(params));
  const bool leads = unit.tile == 0 && threadIdx.x % Shape<K>::lanes == 0;
  bounds_of<L, K>(params, table, unit.bag, leads, own.begin, own.end);
  if constexpr (L::checking == Checking::Stop) {
    if (unit.tile == 0 && unit.bag + 1 == bag_count<K>(params) && unit.bag + 1 < table.offset_count)
      check_unread<L, K>(Bag<L, K>(params, table, 0), own.end);
  }
  own.stored = !(L::splits && own.end - own.begin > static_cast<uint32>(params.split));
  if (!own.stored) own.end = own.begin;
  return own;
}

/* Block `block` of those that share the ordinary bags of a table. */
template <class L, class K>
__device__ __forceinline__ void ordinary_bags(const typename L::Params &params, const FusedTable &table, uint32 block) {
  using S = Shape<K>;
  constexpr uint32 groups = L::threads / S::lanes;
  const uint32 units = bag_count<K>(params) * S::tiles;
  const uint32 each = L::several ? static_cast<uint32>(params.bags_per_group) : 1;
  const uint32 group = block * groups + threadIdx.x / S::lanes;
  const uint32 warp_first = (block * groups + threadIdx.x / WARP * (WARP / S::lanes)) * each;
  if (warp_first >= units) return;
  const Bag<L, K> any_tile(params, table, 0);
  /* A bag's bounds are asked for two bags ahead, its first indices one bag ahead: short bags would wait for each in turn. */
  UnitBounds ahead = unit_bounds<L, K>(params, table, group * each, units);
  UnitBounds after;
  if (L::several) after = unit_bounds<L, K>(params, table, group * each + 1, units);
  Indices<K> indices = any_tile.indices_at(ahead.begin + any_tile.lane, ahead.end);
#pragma unroll 1
  for (uint32 i = 0; i < each; i++) {
    const uint32 number = group * each + i;
    const UnitBounds own = ahead;
    const Indices<K> own_indices = indices;
    if (L::several) {
      ahead = after;
      indices = any_tile.indices_at(ahead.begin + any_tile.lane, ahead.end);
      if (i + 2 < each) after = unit_bounds<L, K>(params, table, number + 2, units);
    }
    const Unit<K> unit(number, bag_count<K>(params));
    const Bag<L, K> walker(params, table, unit.tile);
    Sums<K> sums;
    walker.walk(sums, own.begin, own.end, own_indices);
    walker.finish_bias(sums);
    if (own.stored) walker.store(sums, unit.bag);
  }
}

/* Structs and not lambdas, which NVRTC takes for host code. */
template <class L>
struct SegmentVisitor {
  const typename L::Params &params;
  const FusedTable &table;
  const FusedSegment &segment;
  template <class K>
  __device__ __forceinline__ void operator()(K) const {
    segment_of_bag<L, WideLanes<K>>(params, table, segment);
  }
};

template <class L>
struct OrdinaryVisitor {
  const typename L::Params &params;
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
__device__ __forceinline__ void fused_bags(const typename L::Params &params) {
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

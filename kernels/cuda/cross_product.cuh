/*
 * cross_product: a DCNv2 cross layer whole, on sm_90a: output = x0 ⊙ (h · Wᵀ + bias) + x. x0, x and output are of one 16-bit
 * format; h and W too, or float8 e4m3 with a scale for each row and each output. Sums, bias and the end are float32, rounded
 * once. The output may be written in 8 bits too, or instead, with one scale for all.
 *
 * The product and what its end reads and writes take about as long as each other, so both go on all the time:
 *
 * - A block keeps some columns of W in shared memory, all of their depth, and goes through tiles of 64 rows.
 * - One thread has tiles of h copied into a ring of stages.
 * - Two warp groups take a tile each in turn: while one multiplies, the other ends its last.
 * - A thread for each of them has its tile of x copied into shared memory ahead, and the output, in its place, out of it: L2 is
 *   asked for whole lines so. L2's requests are what limits the kernel. x0 comes the same way where W leaves room for it, or a tile
 *   ahead into registers.
 * - A thread's sums are of 16 neighbours of each 64 columns, since W's rows are put into shared memory in another order: the
 *   end takes 16 bytes at a time, no two threads of those that do it at once from the same bank.
 *
 * Rows of all matrices are aligned to 16 bytes. A block is 384 threads, one a multiprocessor; grid (blocks of columns; blocks
 * that share the rows).
 */
#ifndef HOTROW_CROSS_PRODUCT_CUH
#define HOTROW_CROSS_PRODUCT_CUH

#include "hopper.cuh"
#include "rows.cuh"

namespace hotrow {

/* Every field is 8 bytes wide. Sizes are in elements. */
struct CrossProductParams {
  const void *weight;         /* [outputs, inputs] */
  int64 weight_stride;
  const float *bias;          /* [outputs]; NULL: none */
  int64 batch;
  int64 outputs;
  int64 inputs;
  const float *row_scales;    /* [batch], of factors in 8 bits */
  const float *weight_scales; /* [outputs], likewise */
  int64 x_is_x0;              /* 1: of the network's first layer */
  const void *x0;             /* as its map has it */
  int64 x0_stride;
  unsigned char *rounded;     /* [batch, outputs] e4m3 of output / rounded_scale; NULL: none */
  int64 rounded_stride;       /* a multiple of 16 */
  int64 rounded_scale;        /* the bits of a float32 */
  int64 rounded_alone;        /* 1: output itself is not written */
};

/* What the kernel is given: its matrices in tiles of 64 rows. */
struct CrossProduct {
  TensorMap h;       /* [batch, inputs], 128 bytes of columns */
  TensorMap x0;      /* [batch, outputs], 64 columns */
  TensorMap x;
  TensorMap output;  /* may be x0, or x */
  CrossProductParams params;
};

namespace cross {

constexpr int ROWS = 64;       /* of a tile */
constexpr int ROW_BYTES = 128; /* of a stage: columns of h */
constexpr int STEPS = 4;       /* products of a stage, 32 bytes of columns each */
constexpr int STAGE_BYTES = ROWS * ROW_BYTES;
constexpr int BOX_COLUMNS = 64; /* of outputs */
constexpr int BOX_BYTES = ROWS * BOX_COLUMNS * 2;
constexpr int UNIT_BYTES = 16;
constexpr int GROUP_THREADS = 128;
constexpr int GROUPS = 2; /* that multiply; their threads come first */
constexpr int BARRIER_BYTES = 8;
/* Of 65,536 on a multiprocessor: threads that copy need few. */
constexpr int COPYING_REGISTERS = 24;
constexpr int MULTIPLYING_REGISTERS = 240;

template <class V>
constexpr bool IN_EIGHT_BITS = ptx::factor_bytes(V::factors) == 1;
/* Columns of h in a stage. */
template <class V>
constexpr int DEPTH = ROW_BYTES / ptx::factor_bytes(V::factors);
template <class V>
constexpr int BOXES = V::columns / BOX_COLUMNS;
template <class V>
constexpr int TERM_BYTES = BOXES<V> * BOX_BYTES;
/* Tiles of a warp group in shared memory: x and then the output, and x0. Factors of 16 bits leave no room for it. */
template <class V>
constexpr int TERMS = IN_EIGHT_BITS<V> ? 2 : 1;

/* The places of a block's dynamic shared memory. */
template <class V>
struct Shared {
  unsigned int weight, stages, terms, full, empty, turns, there, ended;

  __device__ __forceinline__ Shared(const void *memory, int chunks) {
    weight = ptx::shared_address(memory);
    stages = weight + chunks * V::columns * ROW_BYTES;
    terms = stages + V::stages * STAGE_BYTES;
    full = terms + GROUPS * TERMS<V> * TERM_BYTES<V>;
    empty = full + V::stages * BARRIER_BYTES;
    turns = empty + V::stages * BARRIER_BYTES;
    there = turns + GROUPS * BARRIER_BYTES;
    ended = there + GROUPS * BARRIER_BYTES;
  }
  __device__ __forceinline__ unsigned int stage(int at) const { return stages + at % V::stages * STAGE_BYTES; }
  /* A warp group's tile of x and then of the output; that of x0 is behind it. */
  __device__ __forceinline__ unsigned int x(int group) const { return terms + group * TERMS<V> * TERM_BYTES<V>; }
  /* Ends a phase when the stage of position `at` of the ring is there … */
  __device__ __forceinline__ unsigned int is_full(int at) const { return full + at % V::stages * BARRIER_BYTES; }
  /* … when a warp group has read it … */
  __device__ __forceinline__ unsigned int is_empty(int at) const { return empty + at % V::stages * BARRIER_BYTES; }
  /* … when it is a warp group's turn to multiply … */
  __device__ __forceinline__ unsigned int turn_of(int group) const { return turns + group * BARRIER_BYTES; }
  /* … when its x0 and x are there … */
  __device__ __forceinline__ unsigned int terms_are_there(int group) const { return there + group * BARRIER_BYTES; }
  /* … and when its output is in their place. */
  __device__ __forceinline__ unsigned int is_ended(int group) const { return ended + group * BARRIER_BYTES; }
};

/* The rows of a block's tiles: every gridDim.y-th from blockIdx.y on. */
struct Tiles {
  int count;
  __device__ __forceinline__ explicit Tiles(int64 batch) {
    const int all = static_cast<int>((batch + ROWS - 1) / ROWS);
    const int apart = static_cast<int>(gridDim.y);
    count = (all - static_cast<int>(blockIdx.y) + apart - 1) / apart;
  }
  __device__ __forceinline__ int row(int tile) const {
    return (static_cast<int>(blockIdx.y) + tile * static_cast<int>(gridDim.y)) * ROWS;
  }
};

/*
 * The column, of 64, whose sums are at `position`. A thread's, 2 of each 8 positions, are of 16 neighbours, those of the first
 * 32 positions of the first 8.
 */
__device__ __forceinline__ int column_at(int position) {
  return (position >> 1 & 3) * 16 + (position >> 5) * 8 + (position >> 3 & 3) * 2 + (position & 1);
}

template <class V>
__device__ __forceinline__ void make_barriers(const Shared<V> &shared) {
  constexpr int WARPS = GROUP_THREADS / 32;
  for (int stage = 0; stage < V::stages; stage++) {
    ptx::init_barrier(shared.is_full(stage), 1);
    ptx::init_barrier(shared.is_empty(stage), WARPS);
  }
  for (int group = 0; group < GROUPS; group++) {
    ptx::init_barrier(shared.turn_of(group), WARPS);
    ptx::init_barrier(shared.terms_are_there(group), 1);
    ptx::init_barrier(shared.is_ended(group), WARPS);
  }
  ptx::publish_barriers();
}

/* By one thread: copies the block's tiles of h, stage by stage, as far ahead as there is room. */
template <class V>
__device__ __forceinline__ void copy_tiles(const CrossProduct &product, const Shared<V> &shared, int chunks) {
  const Tiles tiles(product.params.batch);
  int at = 0;
  for (int tile = 0; tile < tiles.count; tile++) {
    for (int chunk = 0; chunk < chunks; chunk++, at++) {
      ptx::wait_for_phase(shared.is_empty(at), (at / V::stages & 1) ^ 1);
      ptx::arrive_expecting(shared.is_full(at), STAGE_BYTES);
      ptx::load_tile(shared.stage(at), &product.h, tiles.row(tile), chunk * DEPTH<V>, shared.is_full(at));
    }
  }
}

template <class V>
__device__ __forceinline__ void load_terms(const CrossProduct &product, const Shared<V> &shared, int row, int first_column, int group) {
  const bool apart = TERMS<V> == 2 && product.params.x_is_x0 == 0;
  const unsigned int there = shared.terms_are_there(group);
  ptx::arrive_expecting(there, (apart ? 2 : 1) * TERM_BYTES<V>);
  for (int box = 0; box < BOXES<V>; box++) {
    const int column = first_column + box * BOX_COLUMNS;
    const unsigned int to = shared.x(group) + box * BOX_BYTES;
    ptx::load_tile(to, &product.x, row, column, there);
    if (apart) ptx::load_tile(to + TERM_BYTES<V>, &product.x0, row, column, there);
  }
}

/* By one thread of each warp group that multiplies: brings what the ends of its tiles read, and takes away what they leave. */
template <class V>
__device__ __forceinline__ void move_terms(const CrossProduct &product, const Shared<V> &shared, int group) {
  const Tiles tiles(product.params.batch);
  const int first_column = static_cast<int>(blockIdx.x) * V::columns;
  if (group < tiles.count) load_terms<V>(product, shared, tiles.row(group), first_column, group);
  for (int tile = group, turn = 0; tile < tiles.count; tile += GROUPS, turn++) {
    ptx::wait_for_phase(shared.is_ended(group), turn & 1);
    if (product.params.rounded_alone == 0) {
      for (int box = 0; box < BOXES<V>; box++)
        ptx::store_tile(&product.output, tiles.row(tile), first_column + box * BOX_COLUMNS, shared.x(group) + box * BOX_BYTES);
      ptx::commit_stores();
      ptx::wait_for_bulk_reads();
    }
    if (tile + GROUPS < tiles.count) load_terms<V>(product, shared, tiles.row(tile + GROUPS), first_column, group);
  }
}

/* By the warp groups that multiply: has the block's columns of W copied into shared memory. */
template <class V>
__device__ __forceinline__ void copy_weight(const CrossProductParams &params, const Shared<V> &shared, int first_column, int chunks) {
  constexpr int THREADS = GROUPS * GROUP_THREADS;
  constexpr int BYTES = ptx::factor_bytes(V::factors);
  const int units = chunks * (ROW_BYTES / UNIT_BYTES);
  const char *weight = static_cast<const char *>(params.weight);
  for (int i = static_cast<int>(threadIdx.x); i < V::columns * units; i += THREADS) {
    const int position = i / units;
    const int unit = i - position * units;
    const int64 column = first_column + position / 64 * 64 + column_at(position % 64);
    const bool inside = column < params.outputs && unit * (UNIT_BYTES / BYTES) < params.inputs;
    const unsigned int to = shared.weight + unit / 8 * (V::columns * ROW_BYTES) + position * ROW_BYTES + ((unit ^ position) & 7) * UNIT_BYTES;
    ptx::copy16_async(to, weight + (inside ? column * params.weight_stride * BYTES + unit * UNIT_BYTES : 0), inside);
  }
  ptx::commit_copies();
}

/* What a thread's columns have in common: 16 neighbours of each 64. */
template <class V>
struct Ends {
  float bias[BOXES<V>][16], scales[BOXES<V>][16];
  float inverse; /* of rounded_scale */

  __device__ __forceinline__ Ends(const CrossProductParams &params, int first_column) {
#pragma unroll
    for (int box = 0; box < BOXES<V>; box++) {
#pragma unroll
      for (int e = 0; e < 16; e++) {
        const int64 column = first_column + box * BOX_COLUMNS + e;
        const bool inside = column < params.outputs;
        bias[box][e] = inside && params.bias != nullptr ? ptx::load(params.bias + column) : 0.0f;
        if constexpr (IN_EIGHT_BITS<V>) scales[box][e] = inside ? ptx::load(params.weight_scales + column) : 0.0f;
      }
    }
    inverse = __fdiv_rn(1.0f, __uint_as_float(static_cast<unsigned int>(params.rounded_scale)));
  }
};

/* sums = the tile's rows of h · the block's columns of Wᵀ. `at`: the tile's first position in the ring. */
template <class V>
__device__ __forceinline__ void multiply_tile(float (&sums)[V::columns / 2], const Shared<V> &shared, int at, int chunks,
                                              int group, int lane) {
  for (int chunk = 0; chunk < chunks; chunk++, at++) {
    ptx::wait_for_phase(shared.is_full(at), at / V::stages & 1);
    const unsigned long long left = ptx::factor_at(shared.stage(at));
    const unsigned long long right = ptx::factor_at(shared.weight + chunk * (V::columns * ROW_BYTES));
    ptx::begin_products();
#pragma unroll
    for (int step = 0; step < STEPS; step++)
      ptx::multiply<V::columns, V::factors>(sums, left + 2 * step, right + 2 * step, chunk > 0 || step > 0);
    ptx::commit_products();
    ptx::wait_for_products<1>();
    if (chunk > 0 && lane == 0) ptx::arrive(shared.is_empty(at - 1));
  }
  if (lane == 0) ptx::arrive(shared.turn_of(1 - group));
  ptx::wait_for_products<0>();
  if (lane == 0) ptx::arrive(shared.is_empty(at - 1));
}

/* Four of 8 neighbours of an output, in 8 bits. */
template <class V>
__device__ __forceinline__ unsigned int in_eight_bits(const ptx::Words<4> &output, int first, float inverse) {
  float values[4];
#pragma unroll
  for (int e = 0; e < 4; e++) values[e] = __fmul_rn(V::Element::element(output.word, first + e), inverse);
  return ptx::to_float8_e4m3_pair(values[0], values[1]) | ptx::to_float8_e4m3_pair(values[2], values[3]) << 16;
}

/* output = x0 ⊙ (sum + bias) + x, of 8 neighbours; sums of factors in 8 bits times their scales first. */
template <class V>
__device__ __forceinline__ ptx::Words<4> finish(const float (&sums)[8], const float *bias, const float *scales, float row_scale,
                                                const ptx::Words<4> &x0, const ptx::Words<4> &x) {
  using Element = typename V::Element;
  ptx::Words<4> output;
#pragma unroll
  for (int w = 0; w < 4; w++) {
    float made[2];
#pragma unroll
    for (int e = 0; e < 2; e++) {
      const int at = 2 * w + e;
      float sum = sums[at];
      if constexpr (IN_EIGHT_BITS<V>) sum = __fmul_rn(__fmul_rn(sum, row_scale), scales[at]);
      made[e] = __fmaf_rn(Element::element(x0.word, at), __fadd_rn(sum, bias[at]), Element::element(x.word, at));
    }
    output.word[w] = V::is_bfloat16 ? ptx::to_bfloat16_pair(made[0], made[1]) : ptx::to_float16_pair(made[0], made[1]);
  }
  return output;
}

/* Where a thread's sums of a tile are: 16 neighbours of each 64 columns, in two rows 8 apart. */
struct Place {
  int row, column;

  __device__ __forceinline__ Place(int first_row, int first_column, int thread)
      : row(first_row + thread / 32 * 16 + thread % 32 / 4), column(first_column + thread % 4 * 16) {}
  __device__ __forceinline__ bool is_inside(const CrossProductParams &params, int half, int box, int columns_on = 0) const {
    return row + 8 * half < params.batch && column + box * BOX_COLUMNS + columns_on < params.outputs;
  }
};

/* What a thread reads for the end of a tile before that: scales of factors in 8 bits, or x0. */
template <class V>
struct Ahead {
  float row_scales[2];
  ptx::Words<4> x0[BOXES<V>][2][2];

  __device__ __forceinline__ void load_scales(const CrossProductParams &params, const Place &place) {
    if constexpr (IN_EIGHT_BITS<V>) {
#pragma unroll
      for (int half = 0; half < 2; half++)
        row_scales[half] = place.row + 8 * half < params.batch ? ptx::load(params.row_scales + place.row + 8 * half) : 0.0f;
    }
  }
  __device__ __forceinline__ void load_x0(const CrossProductParams &params, const Place &place, int box) {
    if constexpr (TERMS<V> == 1) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int64 first = (place.row + 8 * half) * params.x0_stride + place.column + box * BOX_COLUMNS;
#pragma unroll
        for (int part = 0; part < 2; part++)
          x0[box][half][part] = ptx::load16(static_cast<const char *>(params.x0) + (first + 8 * part) * 2,
                                            place.is_inside(params, half, box, 8 * part));
      }
    }
  }
};

/* Ends a tile at `place`: the output takes the place of x. What is read ahead for the next one follows. */
template <class V>
__device__ __forceinline__ void end_tile(const CrossProductParams &params, const float (&sums)[V::columns / 2], const Ends<V> &ends,
                                         Ahead<V> &ahead, const Shared<V> &shared, const Place &place, const Place &next, int group,
                                         int thread) {
  const int row_in_tile = thread / 32 * 16 + thread % 32 / 4;
#pragma unroll
  for (int box = 0; box < BOXES<V>; box++) {
    ptx::Words<4> x[2][2];
    unsigned int at[2][2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int row = row_in_tile + 8 * half;
#pragma unroll
      for (int part = 0; part < 2; part++) {
        const int unit = (2 * (thread % 4) + part) ^ (row & 7);
        at[half][part] = shared.x(group) + box * BOX_BYTES + row * ROW_BYTES + unit * UNIT_BYTES;
        x[half][part] = ptx::load_shared16(at[half][part]);
        if constexpr (TERMS<V> == 2)
          ahead.x0[box][half][part] = ptx::load_shared16(at[half][part] + (params.x_is_x0 != 0 ? 0 : TERM_BYTES<V>));
      }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
      ptx::Words<4> rounded;
#pragma unroll
      for (int part = 0; part < 2; part++) {
        float own[8];
#pragma unroll
        for (int w = 0; w < 4; w++)
#pragma unroll
          for (int e = 0; e < 2; e++) own[2 * w + e] = sums[32 * box + 16 * part + 4 * w + 2 * half + e];
        const auto made = finish<V>(own, ends.bias[box] + 8 * part, ends.scales[box] + 8 * part, ahead.row_scales[half],
                                    ahead.x0[box][half][part], x[half][part]);
        ptx::store_shared16(at[half][part], made);
        rounded.word[2 * part] = in_eight_bits<V>(made, 0, ends.inverse);
        rounded.word[2 * part + 1] = in_eight_bits<V>(made, 4, ends.inverse);
      }
      if (params.rounded != nullptr && place.is_inside(params, half, box))
        ptx::store16(reinterpret_cast<char *>(params.rounded) + (place.row + 8 * half) * params.rounded_stride + place.column + box * BOX_COLUMNS,
                     rounded);
    }
    ahead.load_x0(params, next, box);
  }
  ahead.load_scales(params, next);
  ptx::publish_to_bulk();
  __syncwarp();
  if (thread % 32 == 0) ptx::arrive(shared.is_ended(group));
}

/* By a warp group: every second of the block's tiles. */
template <class V>
__device__ __forceinline__ void make_tiles(const CrossProductParams &params, const Shared<V> &shared, int chunks, int group) {
  const Tiles tiles(params.batch);
  const int thread = static_cast<int>(threadIdx.x) % GROUP_THREADS;
  const int first_column = static_cast<int>(blockIdx.x) * V::columns;
  copy_weight<V>(params, shared, first_column, chunks);
  Place place(tiles.row(group), first_column, thread);
  Ahead<V> ahead;
#pragma unroll
  for (int box = 0; box < BOXES<V>; box++) ahead.load_x0(params, place, box);
  ahead.load_scales(params, place);
  const Ends<V> ends(params, place.column);
  ptx::wait_for_copies<0>();
  ptx::publish_to_bulk();
  ptx::part_barrier(1, GROUPS * GROUP_THREADS);
  float sums[V::columns / 2];
  for (int tile = group, turn = 0; tile < tiles.count; tile += GROUPS, turn++) {
    /* The first turn is the first warp group's. */
    ptx::wait_for_phase(shared.turn_of(group), (turn & 1) ^ (group == 0 ? 1 : 0));
    multiply_tile<V>(sums, shared, tile * chunks, chunks, group, thread % 32);
    ptx::wait_for_phase(shared.terms_are_there(group), turn & 1);
    const Place next(tiles.row(tile + GROUPS), first_column, thread);
    end_tile<V>(params, sums, ends, ahead, shared, place, next, group, thread);
    place = next;
  }
}

} // namespace cross

/* V: Element (Float16, Bfloat16), is_bfloat16, factors, columns of a block (64, 128), stages. */
template <class V>
__device__ __forceinline__ void cross_product(const CrossProduct &product) {
  const CrossProductParams &params = product.params;
  const int chunks = static_cast<int>((params.inputs + cross::DEPTH<V> - 1) / cross::DEPTH<V>);
  const cross::Shared<V> shared(ptx::tiled_shared(), chunks);
  if (threadIdx.x == 0) cross::make_barriers<V>(shared);
  ptx::block_barrier();
  /* From one lane: so the compiler knows that a warp stays together. */
  const int group = ptx::shuffle<32>(static_cast<int>(threadIdx.x) / cross::GROUP_THREADS, 0);
  if (group == cross::GROUPS) {
    ptx::give_registers<cross::COPYING_REGISTERS>();
    const int thread = static_cast<int>(threadIdx.x) % cross::GROUP_THREADS;
    if (thread == 0) cross::copy_tiles<V>(product, shared, chunks);
    else if (thread == 32) cross::move_terms<V>(product, shared, 0);
    else if (thread == 64) cross::move_terms<V>(product, shared, 1);
  } else {
    ptx::take_registers<cross::MULTIPLYING_REGISTERS>();
    cross::make_tiles<V>(params, shared, chunks, group);
  }
}

} // namespace hotrow

#endif

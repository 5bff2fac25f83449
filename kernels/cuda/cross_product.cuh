/*
 * cross_product: a DCNv2 cross layer whole, on sm_90a: output = x0 ⊙ (h · Wᵀ + bias) + x. h, W, x0, x and output are of one
 * 16-bit format; sums, bias and the end are float32, rounded once.
 *
 * The product and what its end reads and writes take about as long as each other, so both go on all the time:
 *
 * - A block keeps its columns of W in shared memory, all of their depth, and goes through tiles of 64 rows.
 * - One thread has tiles of h copied into a ring of stages.
 * - Two warp groups take a tile each in turn: while one multiplies, the other ends and stores its last.
 * - The end is done in registers. A thread's sums are of 8 neighbouring columns, since W's rows are put into shared memory
 *   in another order, so it loads x0 and x 16 bytes at a time, for its next tile as soon as it has used those of its last.
 *
 * Rows of all matrices are aligned to 16 bytes; outputs and inputs are multiples of 8. A block is 384 threads, one a
 * multiprocessor; grid (blocks of columns; blocks that share the rows).
 */
#ifndef HOTROW_CROSS_PRODUCT_CUH
#define HOTROW_CROSS_PRODUCT_CUH

#include "hopper.cuh"
#include "rows.cuh"

namespace hotrow {

/* Every field is 8 bytes wide. Sizes are in elements. */
struct CrossProductParams {
  const void *weight;    /* [outputs, inputs] */
  int64 weight_stride;
  const float *bias;     /* [outputs]; NULL: none */
  const void *x0;        /* [batch, outputs] */
  int64 x0_stride;
  const void *x;         /* [batch, outputs] */
  int64 x_stride;
  void *output;          /* [batch, outputs]; may be x */
  int64 output_stride;
  int64 batch;
  int64 outputs;
  int64 inputs;
};

/* What the kernel is given. */
struct CrossProduct {
  TensorMap h;           /* [batch, inputs], in tiles of 64 rows and 64 columns */
  CrossProductParams params;
};

namespace cross {

constexpr int ROWS = 64;  /* of a tile */
constexpr int DEPTH = 64; /* columns of h in a stage */
constexpr int ROW_BYTES = 2 * DEPTH;
constexpr int STAGE_BYTES = ROWS * ROW_BYTES;
constexpr int GROUP_THREADS = 128;
constexpr int GROUPS = 2; /* that multiply; their threads come first */
constexpr int BARRIER_BYTES = 8;
/* Of 65,536 on a multiprocessor: the thread that copies needs few. */
constexpr int COPYING_REGISTERS = 24;
constexpr int MULTIPLYING_REGISTERS = 240;

/* The places of a block's dynamic shared memory. */
template <class V>
struct Shared {
  unsigned int weight, stages, bias, full, empty, turns;

  __device__ __forceinline__ Shared(const void *memory, int chunks) {
    weight = ptx::shared_address(memory);
    stages = weight + chunks * V::columns * ROW_BYTES;
    bias = stages + V::stages * STAGE_BYTES;
    full = bias + V::columns * 4;
    empty = full + V::stages * BARRIER_BYTES;
    turns = empty + V::stages * BARRIER_BYTES;
  }
  __device__ __forceinline__ unsigned int stage(int at) const { return stages + at % V::stages * STAGE_BYTES; }
  /* Ends a phase when the stage of position `at` of the ring is there … */
  __device__ __forceinline__ unsigned int is_full(int at) const { return full + at % V::stages * BARRIER_BYTES; }
  /* … when a warp group has read it … */
  __device__ __forceinline__ unsigned int is_empty(int at) const { return empty + at % V::stages * BARRIER_BYTES; }
  /* … and when it is a warp group's turn to multiply. */
  __device__ __forceinline__ unsigned int turn_of(int group) const { return turns + group * BARRIER_BYTES; }
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

/* The column, of 32, whose sums are at `position`: a thread's sums, 2 of each 8 positions, are of 8 neighbours. */
__device__ __forceinline__ int column_at(int position) {
  return (position >> 1 & 3) * 8 + (position >> 3 & 3) * 2 + (position & 1);
}

template <class V>
__device__ __forceinline__ void make_barriers(const Shared<V> &shared) {
  for (int stage = 0; stage < V::stages; stage++) {
    ptx::init_barrier(shared.is_full(stage), 1);
    ptx::init_barrier(shared.is_empty(stage), GROUP_THREADS / 32);
  }
  for (int group = 0; group < GROUPS; group++) ptx::init_barrier(shared.turn_of(group), GROUP_THREADS / 32);
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
      ptx::load_tile(shared.stage(at), &product.h, tiles.row(tile), chunk * DEPTH, shared.is_full(at));
    }
  }
}

/* By the warp groups that multiply: puts the block's columns of W, and their bias, into shared memory. */
template <class V>
__device__ __forceinline__ void place_weight(const CrossProductParams &params, const Shared<V> &shared, float *bias,
                                             int first_column, int chunks) {
  constexpr int THREADS = GROUPS * GROUP_THREADS;
  const int units = chunks * (DEPTH / 8);
  const char *weight = static_cast<const char *>(params.weight);
  for (int i = static_cast<int>(threadIdx.x); i < V::columns * units; i += THREADS) {
    const int position = i / units;
    const int unit = i - position * units;
    const int64 column = first_column + position / 32 * 32 + column_at(position % 32);
    const bool inside = column < params.outputs && unit * 8 < params.inputs;
    const unsigned int to = shared.weight + unit / 8 * (V::columns * ROW_BYTES) + position * ROW_BYTES + ((unit ^ position) & 7) * 16;
    ptx::copy16_async(to, weight + (inside ? (column * params.weight_stride + unit * 8) * 2 : 0), inside);
  }
  ptx::commit_copies();
  for (int i = static_cast<int>(threadIdx.x); i < V::columns; i += THREADS) {
    const bool is_biased = params.bias != nullptr && first_column + i < params.outputs;
    bias[i] = is_biased ? ptx::load(params.bias + first_column + i) : 0.0f;
  }
}

/* 8 neighbours of 2 rows, 8 apart, in each 32 columns: where a thread's sums are. */
template <class V>
struct Place {
  static constexpr int PIECES = V::columns / 32;
  using Pieces = ptx::Words<4>[2][PIECES];

  int row;
  unsigned int columns_inside = 0; /* bit p: those of piece p */
  int batch;

  __device__ __forceinline__ Place(const CrossProductParams &params, int first_row, int first_column) {
    row = first_row;
    batch = static_cast<int>(params.batch);
#pragma unroll
    for (int piece = 0; piece < PIECES; piece++)
      columns_inside |= (first_column + 32 * piece < params.outputs ? 1u : 0u) << piece;
  }
  __device__ __forceinline__ bool is_inside(int half, int piece, int rows_on = 0) const {
    return (columns_inside >> piece & 1) != 0 && row + rows_on + 8 * half < batch;
  }
};

/* A matrix at a thread's place. */
struct Cursor {
  char *at;
  int64 eight_rows; /* bytes */

  __device__ __forceinline__ Cursor(const void *matrix, int64 stride, int row, int column) {
    at = const_cast<char *>(static_cast<const char *>(matrix)) + (row * stride + column) * 2;
    eight_rows = stride * 16;
  }
  /* Of a piece of 32 columns, so many times 8 rows further. */
  __device__ __forceinline__ char *piece(int eights, int piece) const { return at + eights * eight_rows + piece * 64; }
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
    for (int step = 0; step < DEPTH / 16; step++)
      ptx::multiply<V::columns, V::is_bfloat16>(sums, left + 2 * step, right + 2 * step, chunk > 0 || step > 0);
    ptx::commit_products();
    ptx::wait_for_products<1>();
    if (chunk > 0 && lane == 0) ptx::arrive(shared.is_empty(at - 1));
  }
  if (lane == 0) ptx::arrive(shared.turn_of(1 - group));
  ptx::wait_for_products<0>();
  if (lane == 0) ptx::arrive(shared.is_empty(at - 1));
}

/* output = x0 ⊙ (sum + bias) + x, of the 8 neighbours of a piece. */
template <class V>
__device__ __forceinline__ ptx::Words<4> finish(const float *sums, const float *bias, const ptx::Words<4> &x0,
                                                const ptx::Words<4> &x) {
  using Element = typename V::Element;
  ptx::Words<4> output;
#pragma unroll
  for (int w = 0; w < 4; w++) {
    float ends[2];
#pragma unroll
    for (int e = 0; e < 2; e++)
      ends[e] = __fmaf_rn(Element::element(x0.word, 2 * w + e), __fadd_rn(sums[4 * w + e], bias[2 * w + e]),
                          Element::element(x.word, 2 * w + e));
    output.word[w] = V::is_bfloat16 ? ptx::to_bfloat16_pair(ends[0], ends[1]) : ptx::to_float16_pair(ends[0], ends[1]);
  }
  return output;
}

/* By a warp group: every second of the block's tiles. */
template <class V>
__device__ __forceinline__ void make_tiles(const CrossProductParams &params, const Shared<V> &shared, float *bias,
                                           int first_column, int chunks, int group) {
  using Own = Place<V>;
  const Tiles tiles(params.batch);
  const int thread = static_cast<int>(threadIdx.x) % GROUP_THREADS;
  const int lane = thread % 32;
  const int column = lane % 4 * 8; /* of the block's */
  const int rows_apart = GROUPS * static_cast<int>(gridDim.y) * ROWS;
  Own place(params, tiles.row(group) + thread / 32 * 16 + lane / 4, first_column + column);
  Cursor x0(params.x0, params.x0_stride, place.row, first_column + column);
  Cursor x(params.x, params.x_stride, place.row, first_column + column);
  Cursor output(params.output, params.output_stride, place.row, first_column + column);
  typename Own::Pieces x0_pieces, x_pieces;
#pragma unroll
  for (int piece = 0; piece < Own::PIECES; piece++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const bool inside = place.is_inside(half, piece);
      x0_pieces[half][piece] = ptx::load16(x0.piece(half, piece), inside);
      x_pieces[half][piece] = ptx::load16(x.piece(half, piece), inside);
    }
  }
  place_weight<V>(params, shared, bias, first_column, chunks);
  ptx::wait_for_copies<0>();
  ptx::publish_to_bulk();
  ptx::part_barrier(1, GROUPS * GROUP_THREADS);

  float sums[V::columns / 2];
  for (int tile = group, turn = 0; tile < tiles.count; tile += GROUPS, turn++) {
    /* The first turn is the first warp group's. */
    ptx::wait_for_phase(shared.turn_of(group), (turn & 1) ^ (group == 0 ? 1 : 0));
    multiply_tile<V>(sums, shared, tile * chunks, chunks, group, lane);
#pragma unroll
    for (int piece = 0; piece < Own::PIECES; piece++) {
      float own_bias[8];
#pragma unroll
      for (int e = 0; e < 8; e++) own_bias[e] = bias[32 * piece + column + e];
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float own_sums[16];
#pragma unroll
        for (int w = 0; w < 4; w++)
#pragma unroll
          for (int e = 0; e < 2; e++) own_sums[4 * w + e] = sums[16 * piece + 4 * w + 2 * half + e];
        const auto ends = finish<V>(own_sums, own_bias, x0_pieces[half][piece], x_pieces[half][piece]);
        if (place.is_inside(half, piece)) ptx::store16(output.piece(half, piece), ends);
        const bool inside = place.is_inside(half, piece, rows_apart);
        x0_pieces[half][piece] = ptx::load16(x0.piece(rows_apart / 8 + half, piece), inside);
        x_pieces[half][piece] = ptx::load16(x.piece(rows_apart / 8 + half, piece), inside);
      }
    }
    place.row += rows_apart;
    x0.at += rows_apart / 8 * x0.eight_rows;
    x.at += rows_apart / 8 * x.eight_rows;
    output.at += rows_apart / 8 * output.eight_rows;
  }
}

} // namespace cross

/* V: Element (Float16, Bfloat16), is_bfloat16, columns of a block, stages. */
template <class V>
__device__ __forceinline__ void cross_product(const CrossProduct &product) {
  const CrossProductParams &params = product.params;
  unsigned char *memory = ptx::tiled_shared();
  const int chunks = static_cast<int>((params.inputs + cross::DEPTH - 1) / cross::DEPTH);
  const cross::Shared<V> shared(memory, chunks);
  if (threadIdx.x == 0) cross::make_barriers<V>(shared);
  ptx::block_barrier();
  /* From one lane: so the compiler knows that a warp stays together. */
  const int group = ptx::shuffle<32>(static_cast<int>(threadIdx.x) / cross::GROUP_THREADS, 0);
  if (group == cross::GROUPS) {
    ptx::give_registers<cross::COPYING_REGISTERS>();
    if (threadIdx.x == cross::GROUPS * cross::GROUP_THREADS) cross::copy_tiles<V>(product, shared, chunks);
  } else {
    ptx::take_registers<cross::MULTIPLYING_REGISTERS>();
    float *bias = reinterpret_cast<float *>(memory + (shared.bias - shared.weight));
    cross::make_tiles<V>(params, shared, bias, static_cast<int>(blockIdx.x) * V::columns, chunks, group);
  }
}

} // namespace hotrow

#endif

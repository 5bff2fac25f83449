/*
 * Dot interaction: of every sample b, Z = input[b] as [features, dim], one triangle of Z·Zᵀ goes to output[b], packed
 * row by row. The full product is never written.
 *
 * A block makes one square tile of one sample's triangle; the tiles of a sample are neighbours in the grid, so that
 * what they share of Z is read from memory once and from L2 after that. Z comes in chunks of 128 bytes a row, 32 columns of
 * float32 or 64 of 16 bits, by asynchronous copies, `stages` chunks in flight. A row of a chunk is 8 units of 16 bytes in an
 * order (`swizzled`) that keeps both kinds of fragment loads free of bank conflicts. A warp makes 32 rows of the tile, keeps
 * them in registers, and writes them by way of shared memory, so that a row leaves in whole pieces whatever its alignment.
 *
 * The order of k within a chunk is permuted alike on both sides: a thread's operands of 16 columns, or of 32 of 16 bits, are
 * then one 16-byte unit, and the sum is the same.
 *
 * A variant is a struct with these members (src/backend/cuda/dense/dense-source.ts writes it):
 *   Element  Float32, Float16, Bfloat16: of Z and of the output
 *   Math     dot::TensorCores<Tf32Product>, <Float16Product>, <Bfloat16Product>; dot::FusedMultiplyAdd (float32)
 *   tile     32, 64 or 128; a triangle of at most so many features is one tile
 *   vector   whether rows are copied 16 bytes at a time: input, input_stride and dim are multiples of 16 bytes
 *
 * Launch: grid (batch · tiles), tiles = n (n + 1) / 2 for n = ⌈features / tile⌉; block (dot::threads<tile>); dynamic
 * shared memory dot::stages · tile · 128 bytes, twice that when a sample has more than one tile.
 */
#ifndef HOTROW_DOT_INTERACTION_CUH
#define HOTROW_DOT_INTERACTION_CUH

#include "pack.cuh"
#include "rows.cuh"

namespace hotrow {

/* Every field is 8 bytes wide. Sizes are in elements. */
struct DotInteractionParams {
  const void *input;   /* [batch, features · dim] of Element::Bits */
  int64 input_stride;
  int64 features;
  int64 dim;
  int64 diagonal;      /* 1: (i, i) is in the triangle */
  int64 upper;         /* 0: row i holds columns before i; 1: those after it */
  void *output;        /* [batch, pairs + padding] of Element::Bits */
  int64 output_stride;
  int64 batch;
  int64 padding;       /* zeros behind the pairs, of 16-bit elements: at most 7 */
};

namespace dot {

constexpr int stages = 3;
constexpr int chunk_words = 32;
constexpr int unit_words = 4;
constexpr int chunk_units = chunk_words / unit_words;
constexpr int warp_rows = 32;
constexpr int half_rows = 16;

template <int tile>
constexpr int warp_columns = tile < 64 ? tile : 64;
template <int tile>
constexpr int threads = 32 * (tile / warp_rows) * (tile / warp_columns<tile>);

/* 16 bytes, in words of 32 bits whatever the elements are. */
using Unit = Pack<float, unit_words>;

template <class Element>
constexpr int unit_elements = sizeof(Unit) / sizeof(typename Element::Bits);
template <class Element>
constexpr int chunk_columns = chunk_units * unit_elements<Element>;

/* What a sample's row of the output has in front of the padding. */
__device__ __forceinline__ int pairs_of(const DotInteractionParams &params) {
  const int features = static_cast<int>(params.features);
  return features * (features + 2 * static_cast<int>(params.diagonal) - 1) / 2;
}

/* Where unit `unit` of row `row` stands in its row. Eight rows, or a row and its neighbour, meet no bank twice. */
__device__ __forceinline__ int swizzled(int row, int unit) { return unit ^ ((row & 1) << 2 | (row >> 1 & 3)); }

__device__ __forceinline__ Unit unit_of(const float *rows, int row, int unit) {
  return *reinterpret_cast<const Unit *>(rows + row * chunk_words + swizzled(row, unit) * unit_words);
}

/* Four words of a unit, as a product takes them. */
__device__ __forceinline__ void words_of(uint32 (&to)[unit_words], const Unit &from) {
#pragma unroll
  for (int e = 0; e < unit_words; e++) to[e] = __float_as_uint(from.at[e]);
}

/*
 * sums[16 x 8] += rows g and g + 8 of a times row g of b, half of their units' words: over 8 columns of float32, 16 of 16 bits.
 * Of float32, tensor cores read 11 significant bits and drop the rest: rounding instead would take longer than they do.
 */
struct Tf32Product {
  static __device__ __forceinline__ void multiply(float *sums, const uint32 (&a)[4], const uint32 (&a8)[4],
                                                  const uint32 (&b)[4], int half) {
    const int k = 2 * half;
    ptx::multiply_tf32(sums, {a[k], a8[k], a[k + 1], a8[k + 1]}, {b[k], b[k + 1]});
  }
};

struct Float16Product {
  static __device__ __forceinline__ void multiply(float *sums, const uint32 (&a)[4], const uint32 (&a8)[4],
                                                  const uint32 (&b)[4], int half) {
    const int k = 2 * half;
    ptx::multiply_float16(sums, {a[k], a8[k], a[k + 1], a8[k + 1]}, {b[k], b[k + 1]});
  }
};

struct Bfloat16Product {
  static __device__ __forceinline__ void multiply(float *sums, const uint32 (&a)[4], const uint32 (&a8)[4],
                                                  const uint32 (&b)[4], int half) {
    const int k = 2 * half;
    ptx::multiply_bfloat16(sums, {a[k], a8[k], a[k + 1], a8[k + 1]}, {b[k], b[k + 1]});
  }
};

/*
 * How a warp multiplies 32 rows by `columns` rows: sums[32 x columns] += a · bᵀ over a chunk, `columns` sums a thread;
 * `put` writes 16 rows of them ([half · 16, …)) to `to` with `stride` floats a row.
 */
template <class Product>
struct TensorCores {
  template <int columns>
  static __device__ __forceinline__ void multiply(float (&sums)[columns], const float *a, const float *b) {
    const int lane = threadIdx.x % 32;
    const int g = lane / 4;
#pragma unroll
    for (int step = 0; step < 2; step++) {
      const int unit = 4 * step + lane % 4;
      uint32 low[2][unit_words], high[2][unit_words];
#pragma unroll
      for (int half = 0; half < 2; half++) {
        words_of(low[half], unit_of(a, half_rows * half + g, unit));
        words_of(high[half], unit_of(a, half_rows * half + g + 8, unit));
      }
#pragma unroll
      for (int n = 0; n < columns / 8; n++) {
        uint32 right[unit_words];
        words_of(right, unit_of(b, 8 * n + g, unit));
#pragma unroll
        for (int half = 0; half < 2; half++) {
#pragma unroll
          for (int part = 0; part < 2; part++)
            Product::multiply(sums + (half * columns / 8 + n) * 4, low[half], high[half], right, part);
        }
      }
    }
  }

  template <int columns>
  static __device__ __forceinline__ void put(const float (&sums)[columns], int half, float *to, int stride) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < columns / 8; n++) {
#pragma unroll
      for (int e = 0; e < 4; e++)
        to[(lane / 4 + 8 * (e / 2)) * stride + 8 * n + 2 * (lane % 4) + e % 2] = sums[(half * columns / 8 + n) * 4 + e];
    }
  }
};

/* Thread 8 g + t: rows g + 4 i, columns t + 8 j. Products are added in the order of k. */
struct FusedMultiplyAdd {
  template <int columns>
  static __device__ __forceinline__ void multiply(float (&sums)[columns], const float *a, const float *b) {
    const int lane = threadIdx.x % 32;
#pragma unroll 1
    for (int unit = 0; unit < chunk_units; unit++) {
      Unit right[columns / 8];
#pragma unroll
      for (int j = 0; j < columns / 8; j++) right[j] = unit_of(b, lane % 8 + 8 * j, unit);
#pragma unroll
      for (int i = 0; i < 8; i++) {
        const Unit left = unit_of(a, lane / 8 + 4 * i, unit);
#pragma unroll
        for (int j = 0; j < columns / 8; j++) {
#pragma unroll
          for (int e = 0; e < 4; e++)
            sums[i * columns / 8 + j] = __fmaf_rn(left.at[e], right[j].at[e], sums[i * columns / 8 + j]);
        }
      }
    }
  }

  template <int columns>
  static __device__ __forceinline__ void put(const float (&sums)[columns], int half, float *to, int stride) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
      for (int j = 0; j < columns / 8; j++)
        to[(lane / 8 + 4 * i) * stride + lane % 8 + 8 * j] = sums[(4 * half + i) * columns / 8 + j];
    }
  }
};

/* Starts copying a chunk: columns from `first_column` on of features [first_row, + tile); what lies outside of Z is 0. */
template <class V>
__device__ __forceinline__ void start_chunk(const DotInteractionParams &params, const typename V::Element::Bits *z,
                                            int first_row, int first_column, float *to) {
  using Bits = typename V::Element::Bits;
  constexpr int elements = unit_elements<typename V::Element>;
  const int features = static_cast<int>(params.features);
  const int dim = static_cast<int>(params.dim);
#pragma unroll 2
  for (int i = threadIdx.x; i < V::tile * chunk_units; i += threads<V::tile>) {
    const int row = i / chunk_units;
    const int unit = i % chunk_units;
    const int feature = first_row + row;
    const int column = first_column + unit * elements;
    const Bits *from = z + static_cast<int64>(feature) * dim + column;
    float *target = to + row * chunk_words + swizzled(row, unit) * unit_words;
    if constexpr (V::vector) {
      const bool inside = feature < features && column < dim;
      ptx::copy_async<16>(target, inside ? from : z, inside);
    } else {
#pragma unroll
      for (int e = 0; e < elements; e++) {
        const bool inside = feature < features && column + e < dim;
        /* Asynchronous copies are of 4 bytes or more. */
        if constexpr (sizeof(Bits) == 4) ptx::copy_async<4>(target + e, inside ? from + e : z, inside);
        else reinterpret_cast<Bits *>(target)[e] = inside ? ptx::load(from + e) : Bits{0};
      }
    }
  }
}

/* The columns of row i that the triangle has, [begin, end), and where column 0 of the row would stand. */
struct TriangleRow {
  int begin, end;
  int64 column_0;
};

__device__ __forceinline__ TriangleRow triangle_row(const DotInteractionParams &params, int i) {
  const int features = static_cast<int>(params.features);
  const int diagonal = static_cast<int>(params.diagonal);
  const int64 row = i;
  if (params.upper == 0) return {0, i + diagonal, row * (row + 2 * diagonal - 1) / 2};
  return {i + 1 - diagonal, features, row * features - row * (row + 1) / 2 - (1 - diagonal) * (row + 1)};
}

/* Whether rows [row, + 32) and columns [column, + columns) hold any of the triangle. */
__device__ __forceinline__ bool holds_any(const DotInteractionParams &params, int row, int column, int columns) {
  if (row >= params.features || column >= params.features) return false;
  const int diagonal = static_cast<int>(params.diagonal);
  return params.upper == 0 ? row + warp_rows - 1 + diagonal > column : column + columns - 1 + diagonal > row;
}

/* Starts the copies of a chunk of a tile's rows, and of its columns where they are others, as one group. */
template <class V>
struct ChunkStarter {
  const DotInteractionParams &params;
  const typename V::Element::Bits *z;
  float *shared;
  int first_row, first_column, stage_words, chunks;
  bool on_diagonal;

  __device__ __forceinline__ void operator()(int chunk) const {
    constexpr int tile_words = V::tile * chunk_words;
    constexpr int columns = chunk_columns<typename V::Element>;
    if (chunk < chunks) {
      float *stage = shared + chunk % stages * stage_words;
      start_chunk<V>(params, z, first_row, chunk * columns, stage);
      if (!on_diagonal) start_chunk<V>(params, z, first_column, chunk * columns, stage + tile_words);
    }
    ptx::commit_copies();
  }
};

} // namespace dot

template <class V>
__device__ __forceinline__ void dot_interaction(const DotInteractionParams &params) {
  using namespace dot;
  using Element = typename V::Element;
  using Bits = typename Element::Bits;
  constexpr int columns = warp_columns<V::tile>;
  constexpr int tile_words = V::tile * chunk_words;
  constexpr int staging_stride = columns + 8; /* rows of a fragment meet no bank twice */

  const int features = static_cast<int>(params.features);
  const int dim = static_cast<int>(params.dim);
  const uint32 side = static_cast<uint32>(features + V::tile - 1) / V::tile;
  const uint32 tiles = side * (side + 1) / 2;
  const uint32 sample = blockIdx.x / tiles;
  /* Tiles of the lower triangle, row by row; the upper one's are their mirror images. */
  int major = 0, minor = static_cast<int>(blockIdx.x - sample * tiles);
  while (minor > major) minor -= ++major;
  const int first_row = (params.upper == 0 ? major : minor) * V::tile;
  const int first_column = (params.upper == 0 ? minor : major) * V::tile;
  const bool on_diagonal = major == minor;

  if constexpr (sizeof(Bits) < 4) {
    const int column = static_cast<int>(threadIdx.x);
    Bits *behind = static_cast<Bits *>(params.output) + static_cast<int64>(sample) * params.output_stride + pairs_of(params);
    if (major == 0 && column < params.padding) ptx::store(behind + column, Bits{0});
  }

  const Bits *z = static_cast<const Bits *>(params.input) + static_cast<int64>(sample) * params.input_stride;
  float *shared = static_cast<float *>(ptx::dynamic_shared());
  const int stage_words = on_diagonal ? tile_words : 2 * tile_words;
  const int chunks = (dim + chunk_columns<Element> - 1) / chunk_columns<Element>;
  const ChunkStarter<V> start{params, z, shared, first_row, first_column, stage_words, chunks, on_diagonal};

  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_row = warp % (V::tile / warp_rows) * warp_rows;
  const int warp_column = warp / (V::tile / warp_rows) * columns;
  const bool works = holds_any(params, first_row + warp_row, first_column + warp_column, columns);
  float sums[columns] = {};

#pragma unroll
  for (int chunk = 0; chunk < stages - 1; chunk++) start(chunk);
#pragma unroll 1
  for (int chunk = 0; chunk < chunks; chunk++) {
    ptx::wait_for_copies<stages - 2>();
    /* Every thread's copies of this chunk are there, and nobody reads the stage that is filled next. */
    __syncthreads();
    start(chunk + stages - 1);
    if (!works) continue;
    const float *stage = shared + chunk % stages * stage_words;
    const float *right = on_diagonal ? stage : stage + tile_words;
    V::Math::multiply(sums, stage + warp_row * chunk_words, right + warp_column * chunk_words);
  }
  ptx::wait_for_copies<0>();
  __syncthreads();
  if (!works) return;

  Bits *output = static_cast<Bits *>(params.output) + static_cast<int64>(sample) * params.output_stride;
  float *staging = shared + warp * half_rows * staging_stride;
#pragma unroll
  for (int half = 0; half < warp_rows / half_rows; half++) {
    V::Math::put(sums, half, staging, staging_stride);
    __syncwarp();
#pragma unroll 1
    for (int r = 0; r < half_rows; r++) {
      const int i = first_row + warp_row + half * half_rows + r;
      if (i >= features) break;
      const TriangleRow row = triangle_row(params, i);
#pragma unroll
      for (int c = lane; c < columns; c += 32) {
        const int j = first_column + warp_column + c;
        if (j >= row.begin && j < row.end) 
          ptx::store(output + row.column_0 + j, Element::narrow(staging[r * staging_stride + c]));
      }
    }
    __syncwarp();
  }
}

} // namespace hotrow

#endif

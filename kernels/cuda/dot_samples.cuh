/*
 * Dot interaction of 129 to 256 features, whole samples at a time (dot_interaction.cuh says what it computes).
 *
 * A block makes a sample's triangle at once. Of the triangle's squares of 64 by 64, those on the diagonal are a warp's each,
 * those below it two warps' each, so that all sums stay in registers, Z is read once, and little above the diagonal is
 * computed. A block takes one sample after the other. Chunks of 128 bytes a row, three in flight, come in all the while; sums are
 * packed in shared memory as the output has them, and leave from there in one asynchronous copy while the next sample is
 * multiplied.
 *
 * A variant is a struct with these members (src/backend/cuda/dense/dense-source.ts writes it):
 *   Element  as of dot_interaction.cuh
 *   Math     dot::SampleTensorCores<Tf32Product>, <Float16Product>, <Bfloat16Product>; dot::SampleFusedMultiplyAdd
 *            (float32)
 *
 * Launch: input, input_stride and dim are multiples of 16 bytes, dim not 0; any grid (x), block (dot::sample_threads);
 * dynamic shared memory dot::ring_bytes + 16 · ⌈(pairs + padding + n − 1) / n⌉ bytes, n the elements of 16 bytes. One block lives on a multiprocessor. Needs sm_90.
 */
#ifndef HOTROW_DOT_SAMPLES_CUH
#define HOTROW_DOT_SAMPLES_CUH

#include "dot_interaction.cuh"

namespace hotrow {
namespace dot {

constexpr int sample_threads = 512;
constexpr int most_features = 256;
constexpr int square = 64;
constexpr int ring_stage_words = most_features * chunk_words;
constexpr int ring_bytes = stages * ring_stage_words * 4;

/* What a warp makes: rows [row, …) by `square` columns [column, …). */
struct Piece {
  int row, column;
  bool on_diagonal; /* row = column */
};

/*
 * Warps 0 to 11: the lower halves and the upper ones of the squares below the diagonal; 12 to 15: the squares on it. Warps
 * w, w + 4, … share a quarter of the tensor cores: each quarter has the same to do.
 */
__device__ __forceinline__ Piece piece_of(int warp) {
  if (warp >= 12) return {(warp - 12) * square, (warp - 12) * square, true};
  int major = 1, minor = warp / 2;
  while (minor >= major) minor -= major++;
  return {major * square + warp % 2 * warp_rows, minor * square, false};
}

template <bool on_diagonal>
constexpr int piece_rows = on_diagonal ? square : warp_rows;

/*
 * How a warp multiplies: sums += a · bᵀ over half a chunk, a = b on the diagonal. A thread has sums of rows row(r) by columns
 * column(c), in sums[at(r, c)]; on the diagonal those that are `above` it have no place.
 */
template <class Product>
struct SampleTensorCores {
  template <bool on_diagonal>
  static constexpr int thread_rows = piece_rows<on_diagonal> / 8;
  static constexpr int thread_columns = square / 4;

  static __device__ __forceinline__ int row(int r) { return 8 * r + static_cast<int>(threadIdx.x) % 32 / 4; }
  static __device__ __forceinline__ int column(int c) {
    return 8 * (c / 2) + static_cast<int>(threadIdx.x) % 4 * 2 + c % 2;
  }
  template <bool on_diagonal>
  static __host__ __device__ constexpr bool above(int r, int c) {
    return on_diagonal && c / 2 > r / 2 * 2 + 1;
  }
  /* Of a fragment of 16 rows by 8 columns, four sums. */
  template <bool on_diagonal>
  static __host__ __device__ constexpr int at(int r, int c) {
    const int q = r / 2, n = c / 2;
    return ((on_diagonal ? q * (q + 1) : q * (square / 8)) + n) * 4 + r % 2 * 2 + c % 2;
  }

  template <bool on_diagonal>
  static __device__ __forceinline__ void multiply(float *sums, const float *a, const float *b, int half) {
    constexpr int rows = piece_rows<on_diagonal>;
    const int lane = threadIdx.x % 32;
    const int g = lane / 4;
    const int unit = chunk_units / 2 * half + lane % 4;
    uint32 left[rows / 8][unit_words];
#pragma unroll
    for (int r = 0; r < rows / 8; r++) words_of(left[r], unit_of(a, 8 * r + g, unit));
#pragma unroll
    for (int n = 0; n < square / 8; n++) {
      uint32 right[unit_words];
      if constexpr (on_diagonal) {
#pragma unroll
        for (int word = 0; word < unit_words; word++) right[word] = left[n][word];
      } else {
        words_of(right, unit_of(b, 8 * n + g, unit));
      }
      /* A sum's next addition waits for its last: other sums' go between. */
#pragma unroll
      for (int part = 0; part < 2; part++) {
#pragma unroll
        for (int q = 0; q < rows / 16; q++) {
          if (above<on_diagonal>(2 * q, 2 * n)) continue;
          Product::multiply(sums + at<on_diagonal>(2 * q, 2 * n), left[2 * q], left[2 * q + 1], right, part);
        }
      }
    }
  }
};

/* Products are added in the order of k. */
struct SampleFusedMultiplyAdd {
  template <bool on_diagonal>
  static constexpr int thread_rows = piece_rows<on_diagonal> / 4;
  static constexpr int thread_columns = square / 8;

  static __device__ __forceinline__ int row(int r) { return 4 * r + static_cast<int>(threadIdx.x) % 32 / 8; }
  static __device__ __forceinline__ int column(int c) { return 8 * c + static_cast<int>(threadIdx.x) % 8; }
  template <bool on_diagonal>
  static __host__ __device__ constexpr bool above(int r, int c) {
    return on_diagonal && c > r / 2;
  }
  template <bool on_diagonal>
  static __host__ __device__ constexpr int at(int r, int c) {
    return (on_diagonal ? (r / 2 + r % 2) * (r / 2 + 1) : r * thread_columns) + c;
  }

  template <bool on_diagonal>
  static __device__ __forceinline__ void multiply(float *sums, const float *a, const float *b, int half) {
#pragma unroll 1
    for (int unit = chunk_units / 2 * half; unit < chunk_units / 2 * (half + 1); unit++) {
      /* Rows that are 8 apart have their units at the same place. */
      const float *lefts[2] = {place_of(a, row(0), unit), place_of(a, row(1), unit)};
      const float *rights = place_of(b, column(0), unit);
      Unit right[thread_columns];
#pragma unroll
      for (int c = 0; c < thread_columns; c++) right[c] = unit_at(rights + c * 8 * chunk_words);
#pragma unroll
      for (int r = 0; r < thread_rows<on_diagonal>; r++) {
        const Unit left = unit_at(lefts[r % 2] + r / 2 * 8 * chunk_words);
#pragma unroll
        for (int c = 0; c < thread_columns; c++) {
          if (above<on_diagonal>(r, c)) continue;
          float &sum = sums[at<on_diagonal>(r, c)];
#pragma unroll
          for (int e = 0; e < unit_words; e++) sum = __fmaf_rn(left.at[e], right[c].at[e], sum);
        }
      }
    }
  }

private:
  static __device__ __forceinline__ const float *place_of(const float *rows, int row, int unit) {
    return rows + row * chunk_words + swizzled(row, unit) * unit_words;
  }
  static __device__ __forceinline__ Unit unit_at(const float *place) { return *reinterpret_cast<const Unit *>(place); }
};

template <class Math, bool on_diagonal>
constexpr int sums_of = Math::template at<on_diagonal>(Math::template thread_rows<on_diagonal> - 1, Math::thread_columns - 1) + 1;

/* Puts a warp's sums where the packed triangle has them. */
template <class V, bool on_diagonal>
__device__ __forceinline__ void put_sums(const DotInteractionParams &params, const float *sums, const Piece &piece,
                                         typename V::Element::Bits *packed) {
  using Math = typename V::Math;
  using Element = typename V::Element;
  using Bits = typename Element::Bits;
  const int features = static_cast<int>(params.features);
  const int diagonal = static_cast<int>(params.diagonal);
  const int first_row = ptx::anew(piece.row + Math::row(0));
  const int first_column = ptx::anew(piece.column + Math::column(0));
  if (params.upper == 0) {
#pragma unroll
    for (int r = 0; r < Math::template thread_rows<on_diagonal>; r++) {
      const int i = first_row + (Math::row(r) - Math::row(0));
      if (i >= features) continue;
      Bits *to = packed + (i * (i + 2 * diagonal - 1) / 2 + first_column);
#pragma unroll
      for (int c = 0; c < Math::thread_columns; c++) {
        if (Math::template above<on_diagonal>(r, c)) continue;
        const int right = Math::column(c) - Math::column(0);
        if (!on_diagonal || first_column + right < i + diagonal) 
          to[right] = Element::narrow(sums[Math::template at<on_diagonal>(r, c)]);
      }
    }
  } else {
    /* The mirror image: row j, column i. */
#pragma unroll
    for (int c = 0; c < Math::thread_columns; c++) {
      const int j = first_column + (Math::column(c) - Math::column(0));
      Bits *to = packed + (j * features - j * (j + 1) / 2 - (1 - diagonal) * (j + 1) + first_row);
#pragma unroll
      for (int r = 0; r < Math::template thread_rows<on_diagonal>; r++) {
        if (Math::template above<on_diagonal>(r, c)) continue;
        const int down = Math::row(r) - Math::row(0);
        if (first_row + down < features && (!on_diagonal || j < first_row + down + diagonal))
          to[down] = Element::narrow(sums[Math::template at<on_diagonal>(r, c)]);
      }
    }
  }
}

/* Starts the copies of a block's chunks, one after the other through all of its samples. */
template <class Element>
struct SampleChunks {
  const DotInteractionParams &params;
  int sample;
  int column;

  /* Of one chunk, as one group; what lies outside of Z is 0. When there is none left, an empty group. */
  __device__ __forceinline__ void start(float *to_stage) {
    using Bits = typename Element::Bits;
    constexpr int pass_rows = sample_threads / chunk_units;
    static_assert(pass_rows % 8 == 0, "a thread's units stand at the same place of their rows");
    if (sample < static_cast<int>(params.batch)) {
      const int features = static_cast<int>(params.features);
      const int dim = static_cast<int>(params.dim);
      const Bits *z = static_cast<const Bits *>(params.input) + sample * params.input_stride;
      const uint32 thread = ptx::anew(threadIdx.x);
      const int first_row = static_cast<int>(thread / chunk_units);
      const int unit = static_cast<int>(thread % chunk_units);
      const int from_column = column + unit * unit_elements<Element>;
      float *to = to_stage + first_row * chunk_words + swizzled(first_row, unit) * unit_words;
      int from = first_row * dim + from_column;
#pragma unroll
      for (int pass = 0; pass < most_features / pass_rows; pass++) {
        const bool inside = first_row + pass * pass_rows < features && from_column < dim;
        ptx::copy_async<16>(to + pass * pass_rows * chunk_words, z + from, inside);
        from += pass_rows * dim;
      }
      column += chunk_columns<Element>;
      if (column >= dim) {
        column = 0;
        sample += static_cast<int>(gridDim.x);
      }
    }
    ptx::commit_copies();
  }
};

/* Writes what all threads have packed: whole units of 16 bytes by one asynchronous copy, what is beside them by itself. */
template <class Bits>
__device__ __forceinline__ void send_packed(Bits *output, const Bits *packed, int lead, int count) {
  constexpr int elements = 16 / sizeof(Bits);
  const int head = (elements - lead) % elements;
  const int body = count < head ? 0 : (count - head) / elements * elements;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0 && body > 0) ptx::store_bulk(output + head, packed + head, body * static_cast<int>(sizeof(Bits)));
  const int beside = thread - 32; /* of the second warp */
  if (beside < 0 || beside >= 2 * elements) return;
  const int at = beside < elements ? beside : head + body + beside - elements;
  if (at < count && (at < head || beside >= elements)) ptx::store(output + at, packed[at]);
}

/* A warp's part in the samples of its block: all warps come to the same barriers. */
template <class V, bool on_diagonal>
__device__ __forceinline__ void make_samples(const DotInteractionParams &params, const Piece &piece) {
  using Math = typename V::Math;
  using Element = typename V::Element;
  using Bits = typename Element::Bits;
  const int features = static_cast<int>(params.features);
  const int chunks = (static_cast<int>(params.dim) + chunk_columns<Element> - 1) / chunk_columns<Element>;
  float *ring = static_cast<float *>(ptx::dynamic_shared());
  Bits *staging = reinterpret_cast<Bits *>(ring + stages * ring_stage_words);
  const bool works = piece.row < features;

  const int batch = static_cast<int>(params.batch);
  SampleChunks<Element> to_come{params, static_cast<int>(blockIdx.x), 0};
#pragma unroll
  for (int chunk = 0; chunk < stages - 1; chunk++) to_come.start(ring + chunk * ring_stage_words);

  int stage = 0;
#pragma unroll 1
  for (int sample = static_cast<int>(blockIdx.x); sample < batch; sample += static_cast<int>(gridDim.x)) {
    float sums[sums_of<Math, on_diagonal>] = {};
#pragma unroll 1
    for (int chunk = 0; chunk < chunks; chunk++) {
      ptx::wait_for_copies<stages - 2>();
      /* The sample before has left `staging`, … */
      if (chunk == chunks - 1 && threadIdx.x == 0) ptx::wait_for_bulk_reads();
      /* … every thread's copies of this chunk are there, and nobody reads the stage that is filled next. */
      ptx::block_barrier();
      const float *a = ring + stage * ring_stage_words + piece.row * chunk_words;
      const float *b = ring + stage * ring_stage_words + piece.column * chunk_words;
      if (works) Math::template multiply<on_diagonal>(sums, a, b, 0);
      /* Amid the products: the warps that multiply hide what it takes to start copies. */
      to_come.start(ring + (stage == 0 ? stages - 1 : stage - 1) * ring_stage_words);
      if (works) Math::template multiply<on_diagonal>(sums, a, b, 1);
      stage = stage == stages - 1 ? 0 : stage + 1;
    }

    Bits *output = static_cast<Bits *>(params.output) + sample * params.output_stride;
    /* Elements before the packed sums: they are as far from a multiple of 16 bytes as the output is. */
    const int lead = static_cast<int>(reinterpret_cast<uint64>(output) / sizeof(Bits) % (16 / sizeof(Bits)));
    if (works) put_sums<V, on_diagonal>(params, sums, piece, staging + lead);
    int count = pairs_of(params);
    if constexpr (sizeof(Bits) < 4) {
      const int padding = static_cast<int>(params.padding);
      if (static_cast<int>(threadIdx.x) < padding) staging[lead + count + static_cast<int>(threadIdx.x)] = Bits{0};
      count += padding;
    }
    ptx::publish_to_bulk();
    ptx::block_barrier();
    send_packed(output, staging + lead, lead, count);
  }
  ptx::wait_for_copies<0>();
  if (threadIdx.x == 0) ptx::wait_for_bulk_reads();
}

} // namespace dot

template <class V>
__device__ __forceinline__ void dot_samples(const DotInteractionParams &params) {
  const dot::Piece piece = dot::piece_of(static_cast<int>(threadIdx.x) / 32);
  if (piece.on_diagonal) dot::make_samples<V, true>(params, piece);
  else dot::make_samples<V, false>(params, piece);
}

} // namespace hotrow

#endif

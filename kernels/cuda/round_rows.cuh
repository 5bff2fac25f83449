/*
 * Inputs of layers in 8 bits: output = e4m3(input · (1 / scale)). scale: the same for all rows, or the largest |x| of each / 448,
 * NaN left out, at least 2^-100, which is written beside the output. Wider rows end in zeros.
 */
#ifndef HOTROW_ROUND_ROWS_CUH
#define HOTROW_ROUND_ROWS_CUH

#include "pack.cuh"

namespace hotrow {

/* Every field is 8 bytes wide. Sizes are in elements. */
struct RoundRowsParams {
  const void *input;     /* [rows, columns] of From::Bits */
  int64 input_stride;
  unsigned char *output; /* [rows, output_columns], float8 e4m3 */
  int64 output_stride;
  float *scales;         /* [rows], where each row has its own */
  int64 input_scale;     /* the bits of a float32; 0: each row has its own */
  int64 rows;
  int64 columns;
  int64 output_columns;  /* columns or more */
};

namespace round_rows {

/* Elements [column, column + width) of a row; zeros behind its last. */
template <class From, int width>
__device__ __forceinline__ Pack<float, width> values_at(const typename From::Bits *row, int64 column, int64 columns) {
  using Bits = typename From::Bits;
  Pack<Bits, width> bits = {};
  if (column + width <= columns) {
    bits = load_pack<Bits, width>(row + column);
  } else {
#pragma unroll
    for (int e = 0; e < width; e++)
      if (column + e < columns) bits.at[e] = ptx::load(row + column + e);
  }
  Pack<float, width> values;
#pragma unroll
  for (int e = 0; e < width; e++) values.at[e] = From::widen(bits.at[e]);
  return values;
}

} // namespace round_rows

/*
 * From: Float32, Float16. `width` divides output_columns and strides; packs of it are aligned on both sides. Blocks of whole warps, a
 * warp a row; the grid covers the rows.
 */
template <class From, int width>
__device__ __forceinline__ void round_rows_e4m3(const RoundRowsParams &params) {
  const int64 row = static_cast<int64>((static_cast<uint64>(blockIdx.x) * blockDim.x + threadIdx.x) / 32);
  const int lane = static_cast<int>(threadIdx.x % 32);
  if (row >= params.rows) return;
  const typename From::Bits *input =
      static_cast<const typename From::Bits *>(params.input) + row * params.input_stride;
  float scale = __uint_as_float(static_cast<uint32>(params.input_scale));
  if (params.input_scale == 0) {
    float largest = 0.0f;
    for (int64 column = lane * width; column < params.columns; column += 32 * width) {
      const auto values = round_rows::values_at<From, width>(input, column, params.columns);
#pragma unroll
      for (int e = 0; e < width; e++) {
        const float size = fabsf(values.at[e]);
        largest = size > largest ? size : largest; /* NaN is no more than anything */
      }
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
      const float other = ptx::shuffle_xor(largest, distance);
      largest = other > largest ? other : largest;
    }
    scale = __fdiv_rn(largest, 448.0f);
    scale = scale > 0x1p-100f ? scale : 0x1p-100f;
    if (lane == 0) ptx::store(params.scales + row, scale);
  }
  const float inverse = __fdiv_rn(1.0f, scale);
  for (int64 column = lane * width; column < params.output_columns; column += 32 * width) {
    const auto values = round_rows::values_at<From, width>(input, column, params.columns);
    Pack<unsigned char, width> rounded;
#pragma unroll
    for (int e = 0; e < width; e++)
      rounded.at[e] = column + e < params.columns ? ptx::to_float8_e4m3(__fmul_rn(values.at[e], inverse)) : 0;
    store_pack(params.output + row * params.output_stride + column, rounded);
  }
}

} // namespace hotrow

#endif

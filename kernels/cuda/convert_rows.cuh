/* output = input, rows of float32 to rows of another format, or of the same: a strided copy. Wider rows end in zeros. */
#ifndef HOTROW_CONVERT_ROWS_CUH
#define HOTROW_CONVERT_ROWS_CUH

#include "pack.cuh"

namespace hotrow {

/* Every field is 8 bytes wide. Sizes are in elements. */
struct ConvertRowsParams {
  const float *input;    /* [rows, columns] */
  int64 input_stride;
  void *output;          /* [rows, output_columns] of To::Bits */
  int64 output_stride;
  int64 rows;
  int64 columns;
  int64 output_columns;  /* columns or more */
};

/* A struct and not a lambda, which NVRTC may take for host code. */
template <class To, int width>
struct ConvertPack {
  const ConvertRowsParams &params;
  __device__ __forceinline__ void operator()(int64 row, int64 column) const {
    using Bits = typename To::Bits;
    const float *from = params.input + row * params.input_stride + column;
    Bits *to = static_cast<Bits *>(params.output) + row * params.output_stride + column;
    Pack<float, width> values = {};
    if (column + width <= params.columns) {
      values = ptx::load(reinterpret_cast<const Pack<float, width> *>(from));
    } else {
#pragma unroll
      for (int e = 0; e < width; e++)
        if (column + e < params.columns) values.at[e] = ptx::load(from + e);
    }
    Pack<Bits, width> narrowed;
#pragma unroll
    for (int e = 0; e < width; e++) narrowed.at[e] = To::narrow(values.at[e]);
    ptx::store(reinterpret_cast<Pack<Bits, width> *>(to), narrowed);
  }
};

/* To: Float32, Float16, Bfloat16. `width` divides output_columns and strides; packs of it are aligned on both sides. */
template <class To, int width>
__device__ __forceinline__ void convert_rows(const ConvertRowsParams &params) {
  for_each_pack<width>(params.rows, params.output_columns, ConvertPack<To, width>{params});
}

} // namespace hotrow

#endif

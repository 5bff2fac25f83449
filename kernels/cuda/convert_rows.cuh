/* output = input, rows of one format to rows of another, or of the same: a strided copy. Wider rows end in zeros. */
#ifndef HOTROW_CONVERT_ROWS_CUH
#define HOTROW_CONVERT_ROWS_CUH

#include "pack.cuh"

namespace hotrow {

/* Every field is 8 bytes wide. Sizes are in elements. */
struct ConvertRowsParams {
  const void *input;     /* [rows, columns] of From::Bits */
  int64 input_stride;
  void *output;          /* [rows, output_columns] of To::Bits */
  int64 output_stride;
  int64 rows;
  int64 columns;
  int64 output_columns;  /* columns or more */
};

/* The nearest in another format; in the same, the same bits. */
template <class From, class To>
__device__ __forceinline__ typename To::Bits converted(typename From::Bits bits) {
  if constexpr (From::number == To::number) return bits;
  else return To::narrow(From::widen(bits));
}

/* A struct and not a lambda, which NVRTC may take for host code. */
template <class From, class To, int width>
struct ConvertPack {
  const ConvertRowsParams &params;
  __device__ __forceinline__ void operator()(int64 row, int64 column) const {
    using Bits = typename From::Bits;
    const Bits *from = static_cast<const Bits *>(params.input) + row * params.input_stride + column;
    Pack<Bits, width> values = {};
    if (column + width <= params.columns) {
      values = load_pack<Bits, width>(from);
    } else {
#pragma unroll
      for (int e = 0; e < width; e++)
        if (column + e < params.columns) values.at[e] = ptx::load(from + e);
    }
    Pack<typename To::Bits, width> made;
#pragma unroll
    for (int e = 0; e < width; e++) made.at[e] = converted<From, To>(values.at[e]);
    store_pack(static_cast<typename To::Bits *>(params.output) + row * params.output_stride + column, made);
  }
};

/* From, To: Float32, Float16, Bfloat16. `width` divides output_columns and strides; packs of it are aligned on both sides. */
template <class From, class To, int width>
__device__ __forceinline__ void convert_rows(const ConvertRowsParams &params) {
  for_each_pack<width>(params.rows, params.output_columns, ConvertPack<From, To, width>{params});
}

} // namespace hotrow

#endif

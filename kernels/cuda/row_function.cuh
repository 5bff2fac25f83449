/* output[b] = Function(input[b]): a function of each row alone, a warp per row. */
#ifndef HOTROW_ROW_FUNCTION_CUH
#define HOTROW_ROW_FUNCTION_CUH

#include "rows.cuh"

namespace hotrow {

/* Every field is 8 bytes wide. Sizes are in elements. */
struct RowFunctionParams {
  const void *input;     /* [batch, columns] of Format::Bits */
  int64 input_stride;
  int64 columns;
  void *output;          /* [batch, what the function makes of so many columns] of Format::Bits */
  int64 output_stride;
  int64 batch;
};

/*
 * Function::row<Format>(input, columns, output, lane) is called by all lanes of a warp. Format: Float32, Float16, Bfloat16.
 * Blocks of whole warps; the grid covers `batch` warps.
 */
template <class Function, class Format>
__device__ __forceinline__ void row_function(const RowFunctionParams &params) {
  const int64 row = static_cast<int64>((static_cast<uint64>(blockIdx.x) * blockDim.x + threadIdx.x) / 32);
  const int lane = static_cast<int>(threadIdx.x % 32);
  if (row >= params.batch) return;
  using Bits = typename Format::Bits;
  const Bits *input = static_cast<const Bits *>(params.input) + row * params.input_stride;
  Bits *output = static_cast<Bits *>(params.output) + row * params.output_stride;
  Function::template row<Format>(input, params.columns, output, lane);
}

/* The lanes' values added up, in an order that is always the same, for all of them. */
__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) value = __fadd_rn(value, ptx::shuffle_xor(value, mask));
  return value;
}

} // namespace hotrow

#endif

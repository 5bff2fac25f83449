/*
 * output[0] = ((sum of x)^2 - sum of x^2) / 2: the sum of the products of all pairs of elements
 * (torchrec/modules/deepfm.py, FactorizationMachine).
 */
#ifndef HOTROW_FACTORIZATION_MACHINE_CUH
#define HOTROW_FACTORIZATION_MACHINE_CUH

#include "row_function.cuh"

namespace hotrow {

struct FactorizationMachine {
  template <class Format>
  static __device__ __forceinline__ void row(const typename Format::Bits *input, int64 columns,
                                             typename Format::Bits *output, int lane) {
    float sum = 0.0f, squares = 0.0f;
#pragma unroll 4
    for (int64 k = lane; k < columns; k += 32) {
      const float x = Format::widen(ptx::load(input + k));
      sum = __fadd_rn(sum, x);
      squares = __fmaf_rn(x, x, squares);
    }
    sum = warp_sum(sum);
    squares = warp_sum(squares);
    if (lane != 0) return;
    ptx::store(output, Format::narrow(__fmul_rn(0.5f, __fadd_rn(__fmul_rn(sum, sum), -squares))));
  }
};

} // namespace hotrow

#endif

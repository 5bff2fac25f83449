/*
 * What is left of linear layers beside the matrix product of cuBLASLt:
 *
 *   direct_linear  the whole layer, a warp per (sample, output), for one output or few samples, where a matrix product
 *                  would leave most of the GPU idle
 *   finish_linear  bias, then activation or the DCNv2 cross, after a matrix product that does not do them itself
 *
 * Both, y by the scales of its row and output first where they are given: output = activation(y + bias), or with x0 given: x0 ⊙ (y + bias) + x, in float32, rounded once to the output's format.
 * The output may be x, or the sums.
 */
#ifndef HOTROW_LINEAR_CUH
#define HOTROW_LINEAR_CUH

#include "pack.cuh"

namespace hotrow {

enum class Activation { None, Relu, Sigmoid };

/* Every field is 8 bytes wide. Sizes are in elements. */
struct FinishLinearParams {
  const void *sums;      /* [batch, outputs] of Sums::Bits */
  int64 sums_stride;
  const float *bias;     /* [outputs]; NULL: none */
  int64 activation;      /* an Activation */
  const void *x0;        /* [batch, outputs] of Output::Bits; NULL: no cross */
  int64 x0_stride;
  const void *x;         /* [batch, outputs] of Output::Bits */
  int64 x_stride;
  void *output;          /* [batch, outputs] of Output::Bits */
  int64 output_stride;
  int64 batch;
  int64 outputs;
  const float *row_scales;    /* [batch], of 8-bit inputs; NULL: the sums are whole */
  const float *weight_scales; /* [outputs], of 8-bit weights */
};

struct DirectLinearParams {
  const void *input;     /* [batch, inputs] of Input::Bits */
  int64 input_stride;
  const void *weight;    /* [outputs, inputs] of Weight::Bits */
  int64 weight_stride;
  int64 inputs;
  const float *bias;     /* from here on as above */
  int64 activation;
  const void *x0;
  int64 x0_stride;
  const void *x;
  int64 x_stride;
  void *output;
  int64 output_stride;
  int64 batch;
  int64 outputs;
  const float *row_scales;
  const float *weight_scales;
};

namespace linear {

/* Both branches keep e^… at or below 1, so that nothing overflows; NaN stays NaN. */
__device__ __forceinline__ float sigmoid(float x) {
  const float e = expf(-fabsf(x));
  return __fdiv_rn(x < 0.0f ? e : 1.0f, __fadd_rn(1.0f, e));
}

__device__ __forceinline__ float activate(float y, Activation activation) {
  if (activation == Activation::Relu) return y < 0.0f ? 0.0f : y; /* NaN stays NaN */
  return activation == Activation::Sigmoid ? sigmoid(y) : y;
}

/* The DCNv2 cross: x0 · y + x. */
__device__ __forceinline__ float cross(float x0, float y, float x) { return __fmaf_rn(x0, y, x); }

/* Finishes `width` sums of a row and stores them. */
template <class Output, int width, class Params>
__device__ __forceinline__ void finish(const Params &params, int64 row, int64 column, Pack<float, width> y) {
  using Bits = typename Output::Bits;
  if (params.row_scales != nullptr) {
    const float row_scale = ptx::load(params.row_scales + row);
    const auto scales = load_pack<float, width>(params.weight_scales + column);
#pragma unroll
    for (int e = 0; e < width; e++) y.at[e] = __fmul_rn(__fmul_rn(y.at[e], row_scale), scales.at[e]);
  }
  if (params.bias != nullptr) {
    const auto bias = load_pack<float, width>(params.bias + column);
#pragma unroll
    for (int e = 0; e < width; e++) y.at[e] = __fadd_rn(y.at[e], bias.at[e]);
  }
  if (params.x0 != nullptr) {
    const auto x0 = load_pack<Bits, width>(static_cast<const Bits *>(params.x0) + row * params.x0_stride + column);
    const auto x = load_pack<Bits, width>(static_cast<const Bits *>(params.x) + row * params.x_stride + column);
#pragma unroll
    for (int e = 0; e < width; e++) y.at[e] = cross(Output::widen(x0.at[e]), y.at[e], Output::widen(x.at[e]));
  } else {
#pragma unroll
    for (int e = 0; e < width; e++) y.at[e] = activate(y.at[e], static_cast<Activation>(params.activation));
  }
  Pack<Bits, width> narrowed;
#pragma unroll
  for (int e = 0; e < width; e++) narrowed.at[e] = Output::narrow(y.at[e]);
  store_pack(static_cast<Bits *>(params.output) + row * params.output_stride + column, narrowed);
}

/* A struct and not a lambda, which NVRTC may take for host code. */
template <class Sums, class Output, int width>
struct FinishPack {
  const FinishLinearParams &params;
  __device__ __forceinline__ void operator()(int64 row, int64 column) const {
    using Bits = typename Sums::Bits;
    const auto sums = load_pack<Bits, width>(static_cast<const Bits *>(params.sums) + row * params.sums_stride + column);
    Pack<float, width> y;
#pragma unroll
    for (int e = 0; e < width; e++) y.at[e] = Sums::widen(sums.at[e]);
    finish<Output, width>(params, row, column, y);
  }
};

} // namespace linear

/* Sums, Output: Float32, Float16, Bfloat16. `width` divides outputs and strides, and packs of it are aligned everywhere. */
template <class Sums, class Output, int width>
__device__ __forceinline__ void finish_linear(const FinishLinearParams &params) {
  for_each_pack<width>(params.batch, params.outputs, linear::FinishPack<Sums, Output, width>{params});
}

/*
 * Input, Weight, Output: Float32, Float16, Bfloat16; Input and Weight: Float8E4m3 with scales. `width` divides inputs and strides, and packs of it are aligned in input and
 * weight. Blocks of whole warps, a warp a sum; the grid covers batch · outputs warps.
 */
template <class Input, class Weight, class Output, int width>
__device__ __forceinline__ void direct_linear(const DirectLinearParams &params) {
  const uint64 warp = (static_cast<uint64>(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int64 row = static_cast<int64>(warp / static_cast<uint64>(params.outputs));
  const int64 column = static_cast<int64>(warp - static_cast<uint64>(row * params.outputs));
  if (row >= params.batch) return;
  using InputBits = typename Input::Bits;
  using WeightBits = typename Weight::Bits;
  const InputBits *input = static_cast<const InputBits *>(params.input) + row * params.input_stride;
  const WeightBits *weight = static_cast<const WeightBits *>(params.weight) + column * params.weight_stride;
  float sum = 0.0f;
#pragma unroll 4
  for (int64 k = lane * width; k < params.inputs; k += 32 * width) {
    const auto left = load_pack<InputBits, width>(input + k);
    const auto right = load_pack<WeightBits, width>(weight + k);
#pragma unroll
    for (int e = 0; e < width; e++) sum = __fmaf_rn(Input::widen(left.at[e]), Weight::widen(right.at[e]), sum);
  }
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, distance));
  if (lane == 0) linear::finish<Output, 1>(params, row, column, {{sum}});
}

} // namespace hotrow

#endif

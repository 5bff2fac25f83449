/*
 * What a GPU reaches at best:
 *
 *   hotrow_read_bytes     reads `bytes` in order, `rounds` times over: from memory, or from L2 when they fit there
 *   hotrow_multiply_add   `rounds` · MULTIPLY_ADDS float32 multiply-adds a thread, on registers alone
 *
 * Any one-dimensional grid and block. What they compute goes to `sink` only where it has a value that it never has, so
 * that the compiler keeps the work.
 */
#ifndef HOTROW_CEILINGS_CUH
#define HOTROW_CEILINGS_CUH

#include "rows.cuh"

namespace hotrow {

/* Every field is 8 bytes wide. */
struct CeilingsParams {
  const void *memory; /* [bytes], aligned to 16 */
  int64 bytes;        /* a multiple of 16 */
  int64 rounds;
  uint32 *sink;
};

namespace ceilings {

constexpr int LOADS = 8;          /* in flight a thread */
constexpr int CHAINS = 16;        /* independent sums a thread */
constexpr int MULTIPLY_ADDS = 64; /* a chain and round */

} // namespace ceilings

__device__ __forceinline__ void read_bytes(const CeilingsParams &params) {
  using namespace ceilings;
  const uint64 vectors = static_cast<uint64>(params.bytes) / sizeof(uint4);
  const uint64 threads = static_cast<uint64>(gridDim.x) * blockDim.x;
  const uint4 *memory = static_cast<const uint4 *>(params.memory);
  uint32 sum = 0;
  for (int64 round = 0; round < params.rounds; round++) {
    uint64 at = static_cast<uint64>(blockIdx.x) * blockDim.x + threadIdx.x;
    for (; at + (LOADS - 1) * threads < vectors; at += LOADS * threads) {
      uint4 loaded[LOADS];
#pragma unroll
      for (int i = 0; i < LOADS; i++) loaded[i] = ptx::load_past_l1(memory + at + i * threads);
#pragma unroll
      for (int i = 0; i < LOADS; i++) sum += loaded[i].x ^ loaded[i].y ^ loaded[i].z ^ loaded[i].w;
    }
    for (; at < vectors; at += threads) sum += ptx::load_past_l1(memory + at).x;
  }
  if (sum == 0x9e3779b9u) ptx::store(params.sink, sum);
}

__device__ __forceinline__ void multiply_add(const CeilingsParams &params) {
  using namespace ceilings;
  float sums[CHAINS];
  const float factor = 1.0f + 1e-7f * static_cast<float>(threadIdx.x);
#pragma unroll
  for (int i = 0; i < CHAINS; i++) sums[i] = static_cast<float>(i);
#pragma unroll 1
  for (int64 round = 0; round < params.rounds; round++) {
#pragma unroll
    for (int step = 0; step < MULTIPLY_ADDS; step++)
#pragma unroll
      for (int i = 0; i < CHAINS; i++) sums[i] = __fmaf_rn(sums[i], factor, 1e-9f);
  }
  float total = 0;
#pragma unroll
  for (int i = 0; i < CHAINS; i++) total += sums[i];
  if (total == -1.0f) ptx::store(params.sink, 1u);
}

} // namespace hotrow

#endif

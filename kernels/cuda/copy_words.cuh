/*
 * Copies between host and device that are too short for a copy engine: it starts later than a kernel does, and a graph of
 * kernels alone is launched, and runs on from one to the next, in less time.
 *
 * Any one-dimensional grid and block.
 */
#ifndef HOTROW_COPY_WORDS_CUH
#define HOTROW_COPY_WORDS_CUH

#include "rows.cuh"

namespace hotrow {

/* Every field is 8 bytes wide. */
struct CopyWordsParams {
  uint32 *source; /* [words]; host memory that the device reads by itself, or device memory */
  uint32 *target; /* [words]; likewise */
  int64 words;    /* of 4 bytes */
  int64 clears;   /* 1: the source is 0 afterwards; 0: it stays */
};

__device__ __forceinline__ void copy_words(const CopyWordsParams &params) {
  const int64 step = static_cast<int64>(gridDim.x) * blockDim.x;
  for (int64 i = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x; i < params.words; i += step) {
    ptx::store(params.target + i, ptx::load(params.source + i));
    if (params.clears != 0) ptx::store(params.source + i, 0u);
  }
}

} // namespace hotrow

#endif

/*
 * Scaled rows as files have them, a header in front of each row's elements, to rows as kernels read them: the elements
 * first, then all headers (rows.cuh).
 *
 * Any one-dimensional grid and block.
 */
#ifndef HOTROW_SPLIT_ROWS_CUH
#define HOTROW_SPLIT_ROWS_CUH

#include "rows.cuh"

namespace hotrow {

/* Every field is 8 bytes wide. Strides are in words of 4 bytes. */
struct SplitRowsParams {
  const uint32 *source; /* [rows, source_stride]: a header, elements, padding */
  uint32 *elements;     /* [rows, stride]: elements, padding */
  uint32 *headers;      /* [rows] */
  int64 rows;
  int64 source_stride;
  int64 stride;
};

__device__ __forceinline__ void split_rows(const SplitRowsParams &params) {
  const uint64 stride = static_cast<uint64>(params.stride);
  const uint64 source_stride = static_cast<uint64>(params.source_stride);
  /* A row's words, the header last. */
  const uint64 words = static_cast<uint64>(params.rows) * (stride + 1);
  const uint64 step = static_cast<uint64>(gridDim.x) * blockDim.x;
  for (uint64 i = static_cast<uint64>(blockIdx.x) * blockDim.x + threadIdx.x; i < words; i += step) {
    const uint64 row = i / (stride + 1);
    const uint64 word = i - row * (stride + 1);
    const uint32 *from = params.source + row * source_stride;
    if (word == stride) ptx::store(params.headers + row, ptx::load(from));
    else ptx::store(params.elements + row * stride + word, word + 1 < source_stride ? ptx::load(from + word + 1) : 0u);
  }
}

} // namespace hotrow

#endif

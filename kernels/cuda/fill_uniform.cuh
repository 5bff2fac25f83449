/*
 * Seeded rows, uniform in [-1, 1): the values of the CPU's hr_fill_uniform, bit for bit. Every pair of elements comes
 * from a hash of the seed and the pair's number (SplitMix64); the steps between values are the widest that the format
 * holds exactly over the whole range.
 *
 * Any one-dimensional grid and block.
 */
#ifndef HOTROW_FILL_UNIFORM_CUH
#define HOTROW_FILL_UNIFORM_CUH

#include "rows.cuh"

namespace hotrow {

/* Every field is 8 bytes wide. */
struct FillUniformParams {
  void *target;     /* [count] elements */
  int64 row_format; /* the number of a plain one in rows.cuh */
  int64 count;
  uint64 seed;
};

namespace fill {

__device__ __forceinline__ uint64 hash(uint64 seed, uint64 number) {
  uint64 z = seed + (number + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

__device__ __forceinline__ float uniform(uint32 bits, int value_bits) {
  return static_cast<float>(static_cast<int32>(bits >> (32 - value_bits))) * (2.0f / static_cast<float>(1 << value_bits)) - 1.0f;
}

/* For a value that is 0 or at least 2^-14 and exact in float16. */
__device__ __forceinline__ unsigned short to_float16(float x) {
  const uint32 bits = __float_as_uint(x);
  const uint32 magnitude = bits & 0x7fffffff;
  return static_cast<unsigned short>((bits >> 16 & 0x8000) | (magnitude != 0 ? (magnitude >> 13) - (112 << 10) : 0));
}

__device__ __forceinline__ void put(const FillUniformParams &params, uint64 position, uint32 bits) {
  if (params.row_format == Float32::number) {
    ptx::store(static_cast<float *>(params.target) + position, uniform(bits, 24));
    return;
  }
  const unsigned short half = params.row_format == Float16::number
                                  ? to_float16(uniform(bits, 12))
                                  : static_cast<unsigned short>(__float_as_uint(uniform(bits, 9)) >> 16);
  ptx::store(static_cast<unsigned short *>(params.target) + position, half);
}

} // namespace fill

__device__ __forceinline__ void fill_uniform(const FillUniformParams &params) {
  const uint64 count = static_cast<uint64>(params.count);
  const uint64 seed = fill::hash(0, params.seed);
  const uint64 step = static_cast<uint64>(gridDim.x) * blockDim.x;
  for (uint64 pair = static_cast<uint64>(blockIdx.x) * blockDim.x + threadIdx.x; 2 * pair < count; pair += step) {
    const uint64 bits = fill::hash(seed, pair);
    fill::put(params, 2 * pair, static_cast<uint32>(bits));
    if (2 * pair + 1 < count) fill::put(params, 2 * pair + 1, static_cast<uint32>(bits >> 32));
  }
}

/* Every field is 8 bytes wide. */
struct FillQuantizedParams {
  void *target;     /* [rows, row_stride_bytes], then headers (rows.cuh) */
  int64 row_format; /* the number of a quantised one in rows.cuh */
  int64 rows;
  int64 dim;
  int64 row_stride_bytes; /* a multiple of 8, as is the next */
  int64 file_stride_bytes; /* of a row with its header in front, as the CPU has it */
  uint64 seed;
};

namespace fill {

/*
 * 64 bits, from `word` on, of a row as the CPU has it: random elements, behind a scale of 2 / 255 or 2 / 15 and a bias of
 * -1, before zeros.
 */
__device__ __forceinline__ uint64 quantized_word(const FillQuantizedParams &params, uint64 seed, uint64 row, uint64 word) {
  const uint64 words = static_cast<uint64>(params.file_stride_bytes) / 8;
  const bool is_scaled = params.row_format != Float8E4m3::number;
  uint64 bits = hash(seed, row * words + word);
  /* float8: without the top bit of the exponent, no NaN. */
  if (!is_scaled) bits &= 0xbfbfbfbfbfbfbfbfull;
  if (is_scaled && word == 0) {
    const uint64 header = 0xbc000000u | (params.row_format == Int8::number ? 0x2004u : 0x3044u);
    bits = (bits & 0xffffffff00000000ull) | header;
  }
  const uint64 end = (is_scaled ? 32 : 0) + static_cast<uint64>(params.dim) * (params.row_format == Int4::number ? 4 : 8);
  if (end <= 64 * word) return 0;
  return end - 64 * word >= 64 ? bits : bits & ((1ull << (end - 64 * word)) - 1);
}

} // namespace fill

/* The values of the CPU's hr_fill_quantized, bit for bit; headers go behind the rows. */
__device__ __forceinline__ void fill_quantized(const FillQuantizedParams &params) {
  const uint64 words = static_cast<uint64>(params.row_stride_bytes) / 8;
  const uint64 file_words = static_cast<uint64>(params.file_stride_bytes) / 8;
  const bool is_scaled = params.row_format != Float8E4m3::number;
  const uint64 rows = static_cast<uint64>(params.rows);
  uint64 *elements = static_cast<uint64 *>(params.target);
  uint32 *headers = reinterpret_cast<uint32 *>(elements + rows * words);
  const uint64 seed = fill::hash(0, params.seed);
  const uint64 step = static_cast<uint64>(gridDim.x) * blockDim.x;
  for (uint64 i = static_cast<uint64>(blockIdx.x) * blockDim.x + threadIdx.x; i < rows * words; i += step) {
    const uint64 row = i / words;
    const uint64 word = i - row * words;
    uint64 bits = fill::quantized_word(params, seed, row, word);
    if (is_scaled) {
      if (word == 0) ptx::store(headers + row, static_cast<uint32>(bits));
      /* Elements begin behind the header, half a word further on. */
      const uint64 next = word + 1 < file_words ? fill::quantized_word(params, seed, row, word + 1) : 0;
      bits = bits >> 32 | next << 32;
    }
    ptx::store(elements + i, bits);
  }
}

} // namespace hotrow

#endif

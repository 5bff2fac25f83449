/*
 * Integer names, numbers of rows, and the formats of embedding rows and of dense weights. No header is needed: NVRTC compiles these files as they are.
 *
 * `number` is that of hotrow_cpu.h. A row of `dim` elements lies in stride(dim) bytes: the elements, `bits` each, lower bits first, then what pads it.
 * Quantised rows are padded to 16 bytes. Scaled ones have a header, a float16 scale and a float16 bias: an element's value
 * is scale · q + bias; element() gives q. A table's headers lie behind its rows, [row_count] words: in front of its
 * elements, as files have it, a header would move a row of 128 bytes off the lines of memory and cost it half a line more
 * (split_rows.cuh takes files' rows apart).
 */
#ifndef HOTROW_ROWS_CUH
#define HOTROW_ROWS_CUH

#include "ptx.cuh"

namespace hotrow {

using int32 = int;
using int64 = long long;
using uint32 = unsigned int;
using uint64 = unsigned long long;

template <bool wide>
struct RowNumberOf {
  using Type = uint32;
};
template <>
struct RowNumberOf<true> {
  using Type = uint64;
};

/* The number of a row, of a variant that may have tables of more than 2^31, or of one that has none. */
template <class V>
using RowNumber = typename RowNumberOf<V::wide_rows>::Type;

/* The index of a pruned row, in variants of tables that have such rows (V::pruned). As a row's number it is none. */
constexpr int64 PRUNED_INDEX = -1;

template <class V>
__device__ __forceinline__ bool is_pruned(RowNumber<V> row) {
  return V::pruned && row == static_cast<RowNumber<V>>(PRUNED_INDEX);
}

__host__ __device__ constexpr int align16(int bytes) { return (bytes + 15) / 16 * 16; }

template <class T>
__device__ __forceinline__ T load_bits(const char *from) {
  return ptx::load_read_only(reinterpret_cast<const T *>(from));
}

/* The widest vector, up to 16 bytes, that rows of `bytes` bytes without padding are whole numbers of. */
__host__ __device__ constexpr int widest_vector(int bytes) {
  return bytes % 16 == 0 ? 16 : bytes % 8 == 0 ? 8 : bytes % 4 == 0 ? 4 : 2;
}

/*
 * For kernels that give each feature to a thread: Bits is what a thread loads of a row, bits_at() loads it, from the first
 * byte of the feature's element and from the row's header, and widen() gives its value (`feature` tells which half of the
 * byte it is).
 */
template <int element_bits>
struct PlainRow {
  static constexpr int bits = element_bits;
  static constexpr bool is_scaled = false;
  static __host__ __device__ constexpr int stride(int dim) { return dim * bits / 8; }
  static __host__ __device__ constexpr int vector_bytes(int dim) { return widest_vector(stride(dim)); }
};

struct Float32 : PlainRow<32> {
  static constexpr int number = 0;
  using Bits = float;
  static __device__ __forceinline__ Bits bits_at(const char *element, const uint32 *) { return load_bits<Bits>(element); }
  static __device__ __forceinline__ float widen(Bits bits, uint32 = 0) { return bits; }
  static __device__ __forceinline__ Bits narrow(float value) { return value; }
  static __device__ __forceinline__ float element(const uint32 *words, int e) { return __uint_as_float(words[e]); }
};

struct Float16 : PlainRow<16> {
  static constexpr int number = 1;
  using Bits = unsigned short;
  static __device__ __forceinline__ Bits bits_at(const char *element, const uint32 *) { return load_bits<Bits>(element); }
  static __device__ __forceinline__ float widen(Bits bits, uint32 = 0) { return ptx::float16_to_float32(bits); }
  static __device__ __forceinline__ Bits narrow(float value) { return ptx::to_float16(value); }
  static __device__ __forceinline__ float element(const uint32 *words, int e) {
    return widen(static_cast<Bits>(words[e / 2] >> (e % 2 * 16)));
  }
};

struct Bfloat16 : PlainRow<16> {
  static constexpr int number = 2;
  using Bits = unsigned short;
  static __device__ __forceinline__ Bits bits_at(const char *element, const uint32 *) { return load_bits<Bits>(element); }
  static __device__ __forceinline__ float widen(Bits bits, uint32 = 0) { return __uint_as_float(static_cast<uint32>(bits) << 16); }
  static __device__ __forceinline__ Bits narrow(float value) { return ptx::to_bfloat16(value); }
  static __device__ __forceinline__ float element(const uint32 *words, int e) {
    return __uint_as_float(e % 2 == 0 ? words[e / 2] << 16 : words[e / 2] & 0xffff0000u);
  }
};

template <int element_bits>
struct ScaledRow {
  static constexpr int bits = element_bits;
  static constexpr bool is_scaled = true;
  static __host__ __device__ constexpr int stride(int dim) { return align16((dim * bits + 7) / 8); }
  static __host__ __device__ constexpr int vector_bytes(int) { return 16; }

  /* Scale and bias, and a byte with the element. */
  struct Bits {
    uint32 header;
    unsigned char byte;
  };
  static __device__ __forceinline__ Bits bits_at(const char *element, const uint32 *header) {
    return {ptx::load_read_only(header), load_bits<unsigned char>(element)};
  }
  /* scale · q + bias, rounded once: scale · q is exact. */
  static __device__ __forceinline__ float widen(Bits loaded, uint32 feature) {
    const uint32 shift = bits == 4 ? feature % 2 * 4 : 0;
    const float q = static_cast<float>(static_cast<int>(loaded.byte >> shift & ((1u << bits) - 1)));
    const float scale = ptx::float16_to_float32(static_cast<unsigned short>(loaded.header));
    const float bias = ptx::float16_to_float32(static_cast<unsigned short>(loaded.header >> 16));
    return __fmaf_rn(scale, q, bias);
  }
};

struct Int8 : ScaledRow<8> {
  static constexpr int number = 3;
  static __device__ __forceinline__ float element(const uint32 *words, int e) {
    return ptx::byte_to_float32(words[e / 4], e % 4);
  }
};

struct Int4 : ScaledRow<4> {
  static constexpr int number = 4;
  static __device__ __forceinline__ float element(const uint32 *words, int e) {
    return ptx::byte_to_float32(words[e / 8] >> (e % 2 * 4) & 0x0f0f0f0fu, e % 8 / 2);
  }
};

struct Float8E4m3 {
  static constexpr int number = 5;
  using Bits = unsigned char;
  static __device__ __forceinline__ Bits bits_at(const char *element, const uint32 *) { return load_bits<Bits>(element); }
  static __device__ __forceinline__ float widen(Bits loaded, uint32 = 0) { return ptx::float8_e4m3_to_float32(loaded); }
  static constexpr int bits = 8;
  static constexpr bool is_scaled = false;
  static __host__ __device__ constexpr int stride(int dim) { return align16(dim); }
  static __host__ __device__ constexpr int vector_bytes(int) { return 16; }
  static __device__ __forceinline__ float element(const uint32 *words, int e) {
    return ptx::float8_e4m3_at(words[e / 4], e % 4);
  }
};

} // namespace hotrow

#endif

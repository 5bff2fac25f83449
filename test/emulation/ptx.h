/* kernels/cuda/ptx.cuh for the host: the same functions and the same guard, every access checked. */
#ifndef HOTROW_PTX_CUH
#define HOTROW_PTX_CUH

#include "simt.h"

namespace hotrow {
namespace ptx {

template <class T>
T load(const T *from) {
  simt::counts.reads++;
  T value{};
  if (simt::may_access(from, sizeof(T), simt::Access::Read)) std::memcpy(&value, from, sizeof(T));
  return value;
}

template <class T>
T load_read_only(const T *from) {
  return load(from);
}

template <class T>
T load_past_l1(const T *from) {
  return load(from);
}

template <class T>
void store(T *to, T value) {
  simt::counts.writes++;
  if (simt::may_access(to, sizeof(T), simt::Access::Write)) std::memcpy(to, &value, sizeof(T));
}

template <class T>
void atomic_add(T *to, T value) {
  store(to, static_cast<T>(load(to) + value));
}

inline unsigned int fetch_add(unsigned int *to, unsigned int value) {
  const unsigned int before = load(to);
  store(to, before + value);
  return before;
}

inline void atomic_max(unsigned long long *to, unsigned long long value) {
  const unsigned long long before = load(to);
  store(to, before > value ? before : value);
}

template <int count>
struct Words {
  unsigned int word[count];
};

template <int bytes>
Words<bytes < 4 ? 1 : bytes / 4> load_vector(const char *from) {
  struct alignas(bytes) Bytes {
    unsigned char byte[bytes];
  };
  const Bytes loaded = load(reinterpret_cast<const Bytes *>(from));
  Words<bytes < 4 ? 1 : bytes / 4> words{};
  std::memcpy(words.word, &loaded, bytes);
  return words;
}

template <class T>
T load_struct(const T *from) {
  T value;
  for (std::size_t i = 0; i < sizeof(T) / 16; i++)
    reinterpret_cast<uint4 *>(&value)[i] = load(reinterpret_cast<const uint4 *>(from) + i);
  return value;
}

inline void store4(float *to, float a, float b, float c, float d) {
  struct alignas(16) Four {
    float a, b, c, d;
  };
  store(reinterpret_cast<Four *>(to), Four{a, b, c, d});
}

inline void fence() {}

template <int width, class T>
T shuffle(T value, int lane) {
  return simt::value_of_lane(value, simt::lane() / width * width + lane % width);
}
inline float shuffle_xor(float value, int mask) { return simt::value_of_lane(value, simt::lane() ^ mask); }

inline unsigned int ballot(bool holds) {
  const unsigned long long *held = simt::exchange(holds ? 1 : 0);
  unsigned int lanes = 0;
  for (int lane = 0; lane < 32; lane++) lanes |= static_cast<unsigned int>(held[lane]) << lane;
  return lanes;
}
inline unsigned int warp_max(unsigned int value) {
  const unsigned long long *values = simt::exchange(value);
  unsigned int greatest = 0;
  for (int lane = 0; lane < 32; lane++)
    if (values[lane] > greatest) greatest = static_cast<unsigned int>(values[lane]);
  return greatest;
}
inline unsigned int count_bits(unsigned int bits) { return static_cast<unsigned int>(__builtin_popcount(bits)); }

inline float byte_to_float32(unsigned int word, int which) { return static_cast<float>(word >> (8 * which) & 0xffu); }

inline void prefetch(const void *address) {
  simt::counts.prefetches++;
  simt::may_access(address, 1, simt::Access::Prefetch);
}
inline void prefetch_l1(const void *address) { prefetch(address); }
inline void prefetch_l2_evict_last(const void *address) { prefetch(address); }
inline void prefetch_l2_evict_normal(const void *address) { prefetch(address); }

template <class T>
T *opaque(T *pointer) {
  return pointer;
}

inline unsigned long long multiply_wide(unsigned int a, unsigned int b) {
  return static_cast<unsigned long long>(a) * b;
}

inline float float16_to_float32(unsigned short bits) {
  const int exponent = bits >> 10 & 31;
  const int fraction = bits & 1023;
  const float sign = bits >> 15 ? -1.0f : 1.0f;
  if (exponent == 31) return fraction ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -24);
  return sign * std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
}

inline float float8_e4m3_to_float32(unsigned int bits) {
  const int exponent = bits >> 3 & 15;
  const int mantissa = bits & 7;
  const float sign = bits & 0x80 ? -1.0f : 1.0f;
  if (exponent == 15 && mantissa == 7) return NAN;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -9);
  return sign * std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
}

} // namespace ptx
} // namespace hotrow

#endif

/* kernels/cuda/ptx.cuh for the host: the same functions and the same guard, every access checked. */
#ifndef HOTROW_PTX_CUH
#define HOTROW_PTX_CUH

#include "simt.h"

namespace hotrow {
namespace ptx {

template <class T>
T load(const T *from) {
  static_assert((sizeof(T) & (sizeof(T) - 1)) == 0, "a GPU loads and stores powers of two");
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

/* Here each access happens where it stands. */
inline float before_what_follows(float value) { return value; }

template <class T>
void store(T *to, T value) {
  static_assert((sizeof(T) & (sizeof(T) - 1)) == 0, "a GPU loads and stores powers of two");
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

template <class T>
void store4(T *to, T a, T b, T c, T d) {
  struct alignas(4 * sizeof(T)) Four {
    T a, b, c, d;
  };
  store(reinterpret_cast<Four *>(to), Four{a, b, c, d});
}

inline void block_barrier() { simt::block_barrier(); }
inline void fence() {}

template <int width, class T>
T shuffle(T value, int lane) {
  return simt::value_of_lane(value, static_cast<int>(simt::lane()) / width * width + lane % width);
}

inline float shuffle_xor(float value, int mask) { return simt::value_of_lane(value, static_cast<int>(simt::lane()) ^ mask); }

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

template <class T>
T anew(T value) {
  return value;
}

inline unsigned long long multiply_wide(unsigned int a, unsigned int b) {
  return static_cast<unsigned long long>(a) * b;
}

inline float float16_to_float32(unsigned short bits) {
  const int exponent = bits >> 10 & 31;
  const int fraction = bits & 1023;
  const float sign = bits >> 15 ? -1.0f : 1.0f;
  if (exponent == 31) return fraction ? __builtin_nanf("") : sign * __builtin_inff();
  if (exponent == 0) return sign * __builtin_ldexpf(static_cast<float>(fraction), -24);
  return sign * __builtin_ldexpf(static_cast<float>(fraction + 1024), exponent - 25);
}

inline float float8_e4m3_to_float32(unsigned int bits) {
  const int exponent = bits >> 3 & 15;
  const int mantissa = bits & 7;
  const float sign = bits & 0x80 ? -1.0f : 1.0f;
  if (exponent == 15 && mantissa == 7) return __builtin_nanf("");
  if (exponent == 0) return sign * __builtin_ldexpf(static_cast<float>(mantissa), -9);
  return sign * __builtin_ldexpf(static_cast<float>(8 + mantissa), exponent - 10);
}

inline float float8_e4m3_at(unsigned int word, int which) { return float8_e4m3_to_float32(word >> which * 8 & 0xff); }

/* The upper bits of a float32, rounded to `bits` significant ones; ties to even. */
inline unsigned int round_float32(float value, int bits) {
  const unsigned int from = __float_as_uint(value);
  const int lost = 24 - bits;
  if (value != value || __builtin_isinf(value)) return from;
  const unsigned int tie = 1u << (lost - 1);
  const unsigned int odd = from >> lost & 1;
  return (from + tie - 1 + odd) & ~((1u << lost) - 1);
}

inline unsigned short to_bfloat16(float value) {
  return static_cast<unsigned short>(round_float32(value, 8) >> 16);
}

inline unsigned short to_float16(float value) {
  const unsigned int sign = __float_as_uint(value) >> 16 & 0x8000;
  const float size = fabsf(value);
  if (value != value) return 0x7fff;
  if (size >= 65520.0f) return static_cast<unsigned short>(sign | 0x7c00);
  if (size < 0x1p-14f) return static_cast<unsigned short>(sign | static_cast<unsigned int>(__builtin_nearbyintf(size * 0x1p24f)));
  const unsigned int rounded = round_float32(size, 11);
  return static_cast<unsigned short>(sign | ((rounded >> 13) - (112u << 10)));
}

inline unsigned char to_float8_e4m3(float value) {
  const unsigned int sign = __float_as_uint(value) >> 24 & 0x80;
  if (value != value) return 0x7f;
  const float size = fabsf(value);
  if (size >= 448.0f) return static_cast<unsigned char>(sign | 0x7e);
  if (size < 0x1p-6f) return static_cast<unsigned char>(sign | static_cast<unsigned int>(__builtin_nearbyintf(size * 0x1p9f)));
  return static_cast<unsigned char>(sign | ((round_float32(size, 4) >> 20) - (120u << 3)));
}
inline unsigned int to_float8_e4m3_pair(float low, float high) {
  return to_float8_e4m3(low) | static_cast<unsigned int>(to_float8_e4m3(high)) << 8;
}

inline unsigned int to_float16_pair(float low, float high) {
  return to_float16(low) | static_cast<unsigned int>(to_float16(high)) << 16;
}
inline unsigned int to_bfloat16_pair(float low, float high) {
  return to_bfloat16(low) | static_cast<unsigned int>(to_bfloat16(high)) << 16;
}

inline void *dynamic_shared() { return simt::dynamic_shared(); }

template <int bytes>
void copy_async(void *to, const void *from, bool inside) {
  if (inside) simt::counts.reads++;
  const bool good = inside && simt::may_access(from, bytes, simt::Access::Read);
  simt::start_copy(to, good ? from : nullptr, bytes);
}
inline void commit_copies() { simt::commit_copies(); }
template <int groups>
void wait_for_copies() {
  simt::wait_for_copies(groups);
}

inline void store_bulk(void *to, const void *from, int bytes) {
  for (int done = 0; done < bytes; done += 16) {
    simt::counts.writes++;
    if (!simt::may_access(static_cast<char *>(to) + done, 16, simt::Access::Write)) return;
  }
  simt::start_bulk_copy(to, from, static_cast<std::size_t>(bytes));
}
inline void publish_to_bulk() {}
inline void wait_for_bulk_reads() { simt::wait_for_bulk_copies(); }

/*
 * The product of a warp: every thread shows its words, then each adds up its own four sums in float64, rounded once.
 * `value(word, odd)`: the number in a word; `k_words`: columns of a that a word holds.
 */
template <int depth, int k_words, class Value>
void multiply(float *sums, const unsigned int (&a)[4], const unsigned int (&b)[2], Value value) {
  const unsigned int words[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
  const simt::Shown &shown = simt::show(words, 6);
  constexpr int half = depth / 2;
  for (int e = 0; e < 4; e++) {
    const int row = static_cast<int>(simt::lane() / 4) + 8 * (e / 2);
    const int column = static_cast<int>(simt::lane() % 4) * 2 + e % 2;
    double sum = sums[e];
    for (int k = 0; k < depth; k++) {
      const int place = k % half / k_words;
      const int odd = k % k_words;
      const unsigned int left = shown[row % 8 * 4 + place][row / 8 + 2 * (k / half)];
      const unsigned int right = shown[column * 4 + place][4 + k / half];
      sum += static_cast<double>(value(left, odd)) * static_cast<double>(value(right, odd));
    }
    sums[e] = static_cast<float>(sum);
  }
  simt::stop_showing();
}

inline void multiply_tf32(float *sums, const unsigned int (&a)[4], const unsigned int (&b)[2]) {
  multiply<8, 1>(sums, a, b, [](unsigned int word, int) { return __uint_as_float(word & ~0x1fffu); });
}
inline void multiply_float16(float *sums, const unsigned int (&a)[4], const unsigned int (&b)[2]) {
  multiply<16, 2>(sums, a, b, [](unsigned int word, int odd) {
    return float16_to_float32(static_cast<unsigned short>(word >> 16 * odd));
  });
}
inline void multiply_bfloat16(float *sums, const unsigned int (&a)[4], const unsigned int (&b)[2]) {
  multiply<16, 2>(sums, a, b, [](unsigned int word, int odd) { return __uint_as_float(word >> 16 * odd << 16); });
}

} // namespace ptx
} // namespace hotrow

#endif

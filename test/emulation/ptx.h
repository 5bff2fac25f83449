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

} // namespace ptx
} // namespace hotrow

#endif

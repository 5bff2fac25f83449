/*
 * The SIMD vocabulary of the operators: one float vector type of HR_LANES lanes and the few operations they need.
 *
 * Pointers need no alignment. `partial` operations touch the first `lanes` elements (0 < lanes < HR_LANES) and no
 * byte beyond them; a partial load fills the other lanes with zero. hr_vec_max(w, m) is `w > m ? w : m` in every
 * lane, NaN included. hr_vec_fma rounds once on AVX2, AVX-512 and NEON, and twice in the portable x86 version.
 */
#ifndef HOTROW_SIMD_H
#define HOTROW_SIMD_H

#include <stdint.h>
#include <string.h>

#include "hotrow_cpu.h"
#include "isa.h"

#define HR_INLINE static inline __attribute__((always_inline))

#ifdef __clang__
#define HR_UNROLL _Pragma("unroll")
#else
#define HR_UNROLL _Pragma("GCC unroll 32")
#endif

#if HR_ISA == 2
#include "simd_avx512.h"
#elif HR_ISA == 1
#include "simd_avx2.h"
#else
#include "simd_portable.h"
#endif

/* The lanes added in a fixed order: halves onto each other until one is left. */
HR_INLINE float hr_vec_sum(hr_vec v) {
  float lane[HR_LANES];
  hr_vec_store(lane, v);
  for (int half = HR_LANES / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) lane[i] += lane[i + half];
  return lane[0];
}

/* `row_format` is a compile-time constant wherever this is used. */
HR_INLINE hr_vec hr_vec_load_as(int row_format, const char *p) {
  if (row_format == HR_FLOAT16) return hr_vec_load_f16(p);
  if (row_format == HR_BFLOAT16) return hr_vec_load_bf16(p);
  return hr_vec_load(p);
}

HR_INLINE hr_vec hr_vec_load_as_partial(int row_format, const char *p, int64_t lanes) {
  if (row_format == HR_FLOAT16) return hr_vec_load_f16_partial(p, lanes);
  if (row_format == HR_BFLOAT16) return hr_vec_load_bf16_partial(p, lanes);
  return hr_vec_load_partial(p, lanes);
}

#endif

/*
 * The SIMD vocabulary of the operators: one float vector type of HR_LANES lanes and the few operations they need.
 *
 * An operator file that includes this is compiled once per instruction set, with -DHR_ISA=0, 1 or 2 (hotrow_cpu.h's
 * HR_ISA_…) and that set's -m flags; HR_NAME(x) then gives each copy's external functions their own names.
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

#ifndef HR_ISA
#error "compile with -DHR_ISA=0 (portable), 1 (AVX2) or 2 (AVX-512)"
#endif

#define HR_INLINE static inline __attribute__((always_inline))

#ifdef __clang__
#define HR_UNROLL _Pragma("unroll")
#else
#define HR_UNROLL _Pragma("GCC unroll 32")
#endif

/* A macro for the preprocessor: `HR_ISA == 2` rather than the enum, which #if cannot see. */
#if HR_ISA == 2
#define HR_NAME(base) base##_avx512
#include "simd_avx512.h"
#elif HR_ISA == 1
#define HR_NAME(base) base##_avx2
#include "simd_avx2.h"
#else
#define HR_NAME(base) base##_portable
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

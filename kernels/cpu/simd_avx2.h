/* simd.h for AVX2 with FMA and F16C: 8 lanes, 16 registers. */
#include <immintrin.h>

#define HR_LANES 8
#define HR_REGISTERS 16

typedef __m256 hr_vec;

HR_INLINE __m256i hr_first_lanes(int64_t lanes) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)lanes), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

HR_INLINE hr_vec hr_vec_zero(void) { return _mm256_setzero_ps(); }
HR_INLINE hr_vec hr_vec_broadcast(float x) { return _mm256_set1_ps(x); }
HR_INLINE hr_vec hr_vec_add(hr_vec a, hr_vec b) { return _mm256_add_ps(a, b); }
HR_INLINE hr_vec hr_vec_mul(hr_vec a, hr_vec b) { return _mm256_mul_ps(a, b); }
HR_INLINE hr_vec hr_vec_div(hr_vec a, hr_vec b) { return _mm256_div_ps(a, b); }
HR_INLINE hr_vec hr_vec_fma(hr_vec a, hr_vec b, hr_vec c) { return _mm256_fmadd_ps(a, b, c); }
HR_INLINE hr_vec hr_vec_max(hr_vec w, hr_vec m) { return _mm256_max_ps(w, m); }

HR_INLINE hr_vec hr_vec_load(const void *p) { return _mm256_loadu_ps(p); }
HR_INLINE void hr_vec_store(void *p, hr_vec v) { _mm256_storeu_ps(p, v); }
HR_INLINE hr_vec hr_vec_load_partial(const void *p, int64_t lanes) {
  return _mm256_maskload_ps(p, hr_first_lanes(lanes));
}
HR_INLINE void hr_vec_store_partial(void *p, hr_vec v, int64_t lanes) {
  _mm256_maskstore_ps(p, hr_first_lanes(lanes), v);
}

/* The first `lanes` 16-bit elements at p, the others zero. */
HR_INLINE __m128i hr_load_halves_partial(const void *p, int64_t lanes) {
  uint16_t half[8] = {0};
  const char *from = p;
  for (int64_t i = 0; i < lanes; i++) memcpy(&half[i], from + i * 2, 2);
  return _mm_loadu_si128((const __m128i *)half);
}

HR_INLINE hr_vec hr_vec_from_bf16(__m128i half) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

HR_INLINE hr_vec hr_vec_load_f16(const void *p) { return _mm256_cvtph_ps(_mm_loadu_si128(p)); }
HR_INLINE hr_vec hr_vec_load_bf16(const void *p) { return hr_vec_from_bf16(_mm_loadu_si128(p)); }
HR_INLINE hr_vec hr_vec_load_f16_partial(const void *p, int64_t lanes) {
  return _mm256_cvtph_ps(hr_load_halves_partial(p, lanes));
}
HR_INLINE hr_vec hr_vec_load_bf16_partial(const void *p, int64_t lanes) {
  return hr_vec_from_bf16(hr_load_halves_partial(p, lanes));
}

HR_INLINE __m256i hr_load_bytes(const void *p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64(p)); }

HR_INLINE hr_vec hr_vec_load_u8(const void *p) { return _mm256_cvtepi32_ps(hr_load_bytes(p)); }

/* Eight halves of bytes, from the low (`odd` = 0) or the high one of the first on. */
HR_INLINE hr_vec hr_vec_load_u4(const char *p, int odd) {
  uint32_t word;
  memcpy(&word, p, 4);
  if (odd) word = word >> 4 | (uint32_t)(uint8_t)p[4] << 28;
  const __m256i shifts = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
  const __m256i halves = _mm256_srlv_epi32(_mm256_set1_epi32((int)word), shifts);
  return _mm256_cvtepi32_ps(_mm256_and_si256(halves, _mm256_set1_epi32(15)));
}

/* Exponent and mantissa are moved into place and rebiased by a multiplication with 2^120, which is exact. */
HR_INLINE hr_vec hr_vec_load_e4m3(const void *p) {
  const __m256i bytes = hr_load_bytes(p);
  const __m256i magnitude = _mm256_and_si256(bytes, _mm256_set1_epi32(0x7f));
  const __m256i sign = _mm256_slli_epi32(_mm256_and_si256(bytes, _mm256_set1_epi32(0x80)), 24);
  const __m256 size = _mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32(magnitude, 20)), _mm256_set1_ps(0x1p120f));
  const __m256 value = _mm256_or_ps(size, _mm256_castsi256_ps(sign));
  const __m256 is_nan = _mm256_castsi256_ps(_mm256_cmpeq_epi32(magnitude, _mm256_set1_epi32(0x7f)));
  return _mm256_blendv_ps(value, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000)), is_nan);
}

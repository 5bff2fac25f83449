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

/* simd.h for AVX-512 F, BW, DQ and VL: 16 lanes, 32 registers. */
#include <immintrin.h>

#define HR_LANES 16
#define HR_REGISTERS 32

typedef __m512 hr_vec;

HR_INLINE __mmask16 hr_first_lanes(int64_t lanes) { return (__mmask16)((1u << lanes) - 1u); }

HR_INLINE hr_vec hr_vec_zero(void) { return _mm512_setzero_ps(); }
HR_INLINE hr_vec hr_vec_broadcast(float x) { return _mm512_set1_ps(x); }
HR_INLINE hr_vec hr_vec_add(hr_vec a, hr_vec b) { return _mm512_add_ps(a, b); }
HR_INLINE hr_vec hr_vec_mul(hr_vec a, hr_vec b) { return _mm512_mul_ps(a, b); }
HR_INLINE hr_vec hr_vec_div(hr_vec a, hr_vec b) { return _mm512_div_ps(a, b); }
HR_INLINE hr_vec hr_vec_fma(hr_vec a, hr_vec b, hr_vec c) { return _mm512_fmadd_ps(a, b, c); }
HR_INLINE hr_vec hr_vec_max(hr_vec w, hr_vec m) { return _mm512_max_ps(w, m); }

HR_INLINE hr_vec hr_vec_load(const void *p) { return _mm512_loadu_ps(p); }
HR_INLINE void hr_vec_store(void *p, hr_vec v) { _mm512_storeu_ps(p, v); }
HR_INLINE hr_vec hr_vec_load_partial(const void *p, int64_t lanes) {
  return _mm512_maskz_loadu_ps(hr_first_lanes(lanes), p);
}
HR_INLINE void hr_vec_store_partial(void *p, hr_vec v, int64_t lanes) {
  _mm512_mask_storeu_ps(p, hr_first_lanes(lanes), v);
}

HR_INLINE hr_vec hr_vec_from_bf16(__m256i half) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

HR_INLINE hr_vec hr_vec_load_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }
HR_INLINE hr_vec hr_vec_load_bf16(const void *p) { return hr_vec_from_bf16(_mm256_loadu_si256(p)); }
HR_INLINE hr_vec hr_vec_load_f16_partial(const void *p, int64_t lanes) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(hr_first_lanes(lanes), p));
}
HR_INLINE hr_vec hr_vec_load_bf16_partial(const void *p, int64_t lanes) {
  return hr_vec_from_bf16(_mm256_maskz_loadu_epi16(hr_first_lanes(lanes), p));
}

HR_INLINE __m512i hr_load_bytes(const void *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128(p)); }

HR_INLINE hr_vec hr_vec_load_u8(const void *p) { return _mm512_cvtepi32_ps(hr_load_bytes(p)); }

/* Sixteen halves of bytes, from the low (`odd` = 0) or the high one of the first on. */
HR_INLINE hr_vec hr_vec_load_u4(const char *p, int odd) {
  uint64_t word;
  memcpy(&word, p, 8);
  if (odd) word = word >> 4 | (uint64_t)(uint8_t)p[8] << 60;
  const __m512i shifts = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
  const __m512i words = _mm512_mask_set1_epi32(_mm512_set1_epi32((int)word), 0xff00, (int)(word >> 32));
  return _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srlv_epi32(words, shifts), _mm512_set1_epi32(15)));
}

/* Exponent and mantissa are moved into place and rebiased by a multiplication with 2^120, which is exact. */
HR_INLINE hr_vec hr_vec_load_e4m3(const void *p) {
  const __m512i bytes = hr_load_bytes(p);
  const __m512i magnitude = _mm512_and_si512(bytes, _mm512_set1_epi32(0x7f));
  const __m512i sign = _mm512_slli_epi32(_mm512_and_si512(bytes, _mm512_set1_epi32(0x80)), 24);
  const __m512 size = _mm512_mul_ps(_mm512_castsi512_ps(_mm512_slli_epi32(magnitude, 20)), _mm512_set1_ps(0x1p120f));
  const __m512 value = _mm512_or_ps(size, _mm512_castsi512_ps(sign));
  const __mmask16 is_nan = _mm512_cmpeq_epi32_mask(magnitude, _mm512_set1_epi32(0x7f));
  return _mm512_mask_blend_ps(is_nan, value, _mm512_castsi512_ps(_mm512_set1_epi32(0x7fc00000)));
}

/* simd.h for any processor: 4 lanes, by the vector extensions of GCC and Clang. */
#ifdef __aarch64__
#include <arm_neon.h>
#define HR_REGISTERS 32
#else
#define HR_REGISTERS 16
#endif

#define HR_LANES 4

typedef float hr_vec __attribute__((vector_size(16)));
typedef uint32_t hr_bits __attribute__((vector_size(16)));
typedef uint16_t hr_halves __attribute__((vector_size(8)));

HR_INLINE hr_vec hr_vec_zero(void) { return (hr_vec){0, 0, 0, 0}; }
HR_INLINE hr_vec hr_vec_broadcast(float x) { return (hr_vec){x, x, x, x}; }
HR_INLINE hr_vec hr_vec_add(hr_vec a, hr_vec b) { return a + b; }
HR_INLINE hr_vec hr_vec_mul(hr_vec a, hr_vec b) { return a * b; }
HR_INLINE hr_vec hr_vec_div(hr_vec a, hr_vec b) { return a / b; }
HR_INLINE hr_vec hr_vec_fma(hr_vec a, hr_vec b, hr_vec c) {
#ifdef __aarch64__
  return (hr_vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}
/* Lanes of `a` where the mask's bits are set, else of `b`. */
HR_INLINE hr_bits hr_bits_select(hr_bits mask, hr_bits a, hr_bits b) { return (mask & a) | (~mask & b); }
HR_INLINE hr_vec hr_vec_max(hr_vec w, hr_vec m) {
  return (hr_vec)hr_bits_select((hr_bits)(w > m), (hr_bits)w, (hr_bits)m);
}

HR_INLINE hr_vec hr_vec_load(const void *p) {
  hr_vec v;
  memcpy(&v, p, sizeof v);
  return v;
}
HR_INLINE void hr_vec_store(void *p, hr_vec v) { memcpy(p, &v, sizeof v); }
HR_INLINE hr_vec hr_vec_load_partial(const void *p, int64_t lanes) {
  float lane[HR_LANES] = {0};
  for (int64_t i = 0; i < lanes; i++) memcpy(&lane[i], (const char *)p + i * 4, 4);
  return hr_vec_load(lane);
}
HR_INLINE void hr_vec_store_partial(void *p, hr_vec v, int64_t lanes) {
  float lane[HR_LANES];
  hr_vec_store(lane, v);
  for (int64_t i = 0; i < lanes; i++) memcpy((char *)p + i * 4, &lane[i], 4);
}

HR_INLINE hr_halves hr_load_halves(const void *p) {
  hr_halves half;
  memcpy(&half, p, sizeof half);
  return half;
}
HR_INLINE hr_halves hr_load_halves_partial(const void *p, int64_t lanes) {
  uint16_t half[HR_LANES] = {0};
  for (int64_t i = 0; i < lanes; i++) memcpy(&half[i], (const char *)p + i * 2, 2);
  return hr_load_halves(half);
}

/*
 * Half to single without a conversion instruction: exponent and mantissa are moved into place and rebiased by a
 * multiplication with 2^112, which is exact, also for subnormals; the exponent of infinities and NaNs is set by hand
 * (and a NaN is made quiet, as the instructions do).
 */
HR_INLINE hr_vec hr_vec_from_f16(hr_halves half) {
  hr_bits h = __builtin_convertvector(half, hr_bits);
  hr_bits magnitude = h & 0x7fff;
  hr_bits finite = (hr_bits)((hr_vec)(magnitude << 13) * 0x1p112f);
  hr_bits quiet = (hr_bits)(magnitude > 0x7c00) & 0x400000;
  hr_bits special = (magnitude << 13) | 0x7f800000 | quiet;
  return (hr_vec)(hr_bits_select((hr_bits)(magnitude >= 0x7c00), special, finite) | ((h & 0x8000) << 16));
}
HR_INLINE hr_vec hr_vec_from_bf16(hr_halves half) {
  return (hr_vec)(__builtin_convertvector(half, hr_bits) << 16);
}

HR_INLINE hr_vec hr_vec_load_f16(const void *p) { return hr_vec_from_f16(hr_load_halves(p)); }
HR_INLINE hr_vec hr_vec_load_bf16(const void *p) { return hr_vec_from_bf16(hr_load_halves(p)); }
HR_INLINE hr_vec hr_vec_load_f16_partial(const void *p, int64_t lanes) {
  return hr_vec_from_f16(hr_load_halves_partial(p, lanes));
}
HR_INLINE hr_vec hr_vec_load_bf16_partial(const void *p, int64_t lanes) {
  return hr_vec_from_bf16(hr_load_halves_partial(p, lanes));
}

HR_INLINE hr_bits hr_load_bytes(const void *p) {
  uint8_t byte[HR_LANES];
  memcpy(byte, p, sizeof byte);
  return (hr_bits){byte[0], byte[1], byte[2], byte[3]};
}
HR_INLINE hr_vec hr_vec_from_integers(hr_bits v) {
  return __builtin_convertvector((int32_t __attribute__((vector_size(16))))v, hr_vec);
}

HR_INLINE hr_vec hr_vec_load_u8(const void *p) { return hr_vec_from_integers(hr_load_bytes(p)); }

/* Four halves of bytes, from the low (`odd` = 0) or the high one of the first on. */
HR_INLINE hr_vec hr_vec_load_u4(const char *p, int odd) {
  uint16_t half;
  memcpy(&half, p, 2);
  uint32_t word = half;
  if (odd) word = word >> 4 | (uint32_t)(uint8_t)p[2] << 12;
  return hr_vec_from_integers((hr_bits){word & 15, word >> 4 & 15, word >> 8 & 15, word >> 12 & 15});
}

/* Exponent and mantissa are moved into place and rebiased by a multiplication with 2^120, which is exact. */
HR_INLINE hr_vec hr_vec_load_e4m3(const void *p) {
  hr_bits byte = hr_load_bytes(p);
  hr_bits magnitude = byte & 0x7f;
  hr_bits size = (hr_bits)((hr_vec)(magnitude << 20) * 0x1p120f);
  hr_bits nan = (hr_bits){0x7fc00000, 0x7fc00000, 0x7fc00000, 0x7fc00000};
  return (hr_vec)hr_bits_select((hr_bits)(magnitude == 0x7f), nan, size | ((byte & 0x80) << 24));
}

/* Rows rounded to float8 e4m3 (no infinities; the largest is 448, the smallest normal one 2^-6), as HR_OP_LINEAR has it. */
#ifndef HOTROW_FLOAT8_H
#define HOTROW_FLOAT8_H

#include <math.h>

#include "pool.h"
#include "simd.h"

/* To the nearest, ties to even; what is larger becomes the largest, NaN stays. Without branches, for vectors. */
static inline float round_e4m3(float x) {
  const float size = fabsf(x) > 448.0f ? 448.0f : fabsf(x);
  uint32_t bits;
  memcpy(&bits, &size, 4);
  bits = (bits + 0x7ffff + (bits >> 20 & 1)) & 0xfff00000; /* three bits behind the leading one */
  float normal;
  memcpy(&normal, &bits, 4);
  const float subnormal = (size + 0x1.8p14f) - 0x1.8p14f; /* in steps of 2^-9 */
  const float rounded = size < 0x1p-6f ? subnormal : normal;
  return x != x ? x : copysignf(rounded, x);
}

/* What a row is divided by before it is rounded. */
static float float8_row_scale(const float *row, int64_t count, double input_scale) {
  if (input_scale != 0) return (float)input_scale;
  float most = 0;
  for (int64_t k = 0; k < count; k++) {
    const float size = fabsf(hr_load_float(row, k));
    most = size > most ? size : most; /* NaN is no more than anything */
  }
  const float scale = most / 448.0f;
  return scale > 0x1p-100f ? scale : 0x1p-100f;
}

static void round_row_e4m3(float *rounded, const float *row, int64_t count, float scale) {
  const float inverse = 1.0f / scale;
  for (int64_t k = 0; k < count; k++) rounded[k] = round_e4m3(hr_load_float(row, k) * inverse);
}

#endif

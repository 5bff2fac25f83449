/* What HR_OP_LINEAR does to the sums of a row: scales of 8-bit factors, bias, then activation or the DCNv2 cross. */
#ifndef HOTROW_LINEAR_EPILOGUE_H
#define HOTROW_LINEAR_EPILOGUE_H

#include <math.h>

#include "pool.h"
#include "simd.h"

/* Both branches keep e^… at or below 1, so that nothing overflows; NaN stays NaN. */
static inline float sigmoid(float x) {
  float e = expf(-fabsf(x));
  return (x < 0 ? e : 1.0f) / (1.0f + e);
}

HR_INLINE hr_vec finish_vector(const hr_op_linear *op, hr_vec y, hr_vec bias, hr_vec x0, hr_vec x) {
  if (op->bias) y = hr_vec_add(y, bias);
  if (op->cross_x0) y = hr_vec_add(hr_vec_mul(x0, y), x);
  /* max(0, y) is y where y is NaN */
  if (op->activation == HR_ACTIVATION_RELU) y = hr_vec_max(hr_vec_zero(), y);
  return y;
}

/* Sums of 8-bit factors by the scales of their row and of the outputs from `first` on; others stay. */
static void scale_row(const hr_op_linear *op, float *sums, float row_scale, int64_t first, int64_t columns) {
  if (!op->weight_scales) return;
  for (int64_t n = 0; n < columns; n++)
    sums[n] = sums[n] * row_scale * hr_load_float(op->weight_scales, first + n);
}

/* output[row, first : first + columns] from `columns` sums; `sums` is readable up to a whole vector. */
static void finish_row(const hr_op_linear *op, const float *sums, int64_t row, int64_t first, int64_t columns) {
  float *output = op->output + row * op->output_stride + first;
  const float *bias = op->bias ? op->bias + first : NULL;
  const float *x0 = op->cross_x0 ? op->cross_x0 + row * op->cross_x0_stride + first : NULL;
  const float *x = op->cross_x ? op->cross_x + row * op->cross_x_stride + first : NULL;
  const hr_vec none = hr_vec_zero();
  int64_t n = 0;
  for (; n + HR_LANES <= columns; n += HR_LANES)
    hr_vec_store(output + n, finish_vector(op, hr_vec_load(sums + n), bias ? hr_vec_load(bias + n) : none,
                                           x0 ? hr_vec_load(x0 + n) : none, x ? hr_vec_load(x + n) : none));
  const int64_t rest = columns - n;
  if (rest > 0)
    hr_vec_store_partial(output + n,
                         finish_vector(op, hr_vec_load(sums + n), bias ? hr_vec_load_partial(bias + n, rest) : none,
                                       x0 ? hr_vec_load_partial(x0 + n, rest) : none,
                                       x ? hr_vec_load_partial(x + n, rest) : none),
                         rest);
  if (op->activation != HR_ACTIVATION_SIGMOID) return;
  for (n = 0; n < columns; n++) {
    float y = sigmoid(hr_load_float(output, n));
    memcpy((char *)output + n * 4, &y, 4);
  }
}

#endif

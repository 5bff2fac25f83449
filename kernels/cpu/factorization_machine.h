/*
 * output[0] = ((sum of x)^2 - sum of x^2) / 2: the sum of the products of all pairs of elements
 * (torchrec/modules/deepfm.py, FactorizationMachine).
 */
#ifndef HOTROW_FACTORIZATION_MACHINE_H
#define HOTROW_FACTORIZATION_MACHINE_H

#include "simd.h"

HR_INLINE void factorization_machine(const float *row, int64_t columns, float *output) {
  hr_vec sums = hr_vec_zero(), squares = hr_vec_zero();
  int64_t at = 0;
  for (; at + HR_LANES <= columns; at += HR_LANES) {
    const hr_vec x = hr_vec_load(row + at);
    sums = hr_vec_add(sums, x);
    squares = hr_vec_fma(x, x, squares);
  }
  if (at < columns) {
    const hr_vec x = hr_vec_load_partial(row + at, columns - at);
    sums = hr_vec_add(sums, x);
    squares = hr_vec_fma(x, x, squares);
  }
  const float sum = hr_vec_sum(sums);
  output[0] = (sum * sum - hr_vec_sum(squares)) / 2;
}

#endif

/*
 * The functions of a row, in the order of their numbers (src/backend/row-functions.ts): X(name), with
 * `void name(const float *row, int64_t columns, float *output)` in name.h.
 */
#ifndef HOTROW_ROW_FUNCTIONS_H
#define HOTROW_ROW_FUNCTIONS_H

#define HR_FOR_EACH_ROW_FUNCTION(X) X(factorization_machine)

#define HR_COUNT_ONE(name) +1
enum { HR_ROW_FUNCTIONS = 0 HR_FOR_EACH_ROW_FUNCTION(HR_COUNT_ONE) };

#endif

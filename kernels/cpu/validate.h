/* hr_run's check of an operator's arguments. */
#ifndef HOTROW_VALIDATE_H
#define HOTROW_VALIDATE_H

#include <stdint.h>

/* 1 when every enumeration, size and count of the operator at `op` is one that the operators can take. The contents
 * of indices, offsets and matrices are not read. */
int hr_is_valid_operator(const int64_t *op);

#endif

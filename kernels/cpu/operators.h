/* The functions that every instruction set has a copy of; operators.c gathers them in an hr_kernels. */
#ifndef HOTROW_OPERATORS_H
#define HOTROW_OPERATORS_H

#include "isa.h"
#include "pool.h"

int64_t HR_NAME(hr_check_bags)(hr_pool *pool, const hr_op_check_bags *op);
/* How many of `count` indices are no rows of the table, nor pruned ones; and the same made row 0. */
int64_t HR_NAME(hr_count_bad_indices)(const hr_table *table, const void *indices, int64_t index_bytes, int64_t count);
void HR_NAME(hr_repair_indices)(const hr_table *table, void *indices, int64_t index_bytes, int64_t count);
int64_t HR_NAME(hr_embedding_bags)(hr_pool *pool, const hr_op_embedding_bags *op);
int64_t HR_NAME(hr_linear)(hr_pool *pool, const hr_op_linear *op);
int64_t HR_NAME(hr_packed_linear_bytes)(int64_t outputs, int64_t inputs);
void HR_NAME(hr_pack_linear)(hr_pool *pool, const float *weight, int64_t outputs, int64_t inputs, void *packed);
int64_t HR_NAME(hr_dot_interaction)(hr_pool *pool, const hr_op_dot_interaction *op);
int64_t HR_NAME(hr_row_function)(hr_pool *pool, const hr_op_row_function *op);
int64_t HR_NAME(hr_multiply_adds)(int64_t rounds);
void HR_NAME(hr_read_all)(const char *memory, int64_t bytes);

#endif

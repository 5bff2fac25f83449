/*
 * The inner loops of HR_OP_EMBEDDING_BAGS, for one column block of one table.
 *
 * A block is at most hr_most_vectors wide, so that the whole accumulator of a bag stays in registers while its
 * rows pass. The number of vectors, the row format and the reduction are compile-time constants of each copy. Where
 * the vectors are more than the width needs, those in excess lie over the block's last HR_LANES columns: the shared
 * columns are reduced more than once, to the same value. Only a block narrower than a vector needs partial loads.
 */
#ifndef HOTROW_EMBEDDING_REDUCE_H
#define HOTROW_EMBEDDING_REDUCE_H

#include "pool.h"
#include "simd.h"

enum { MOST_VECTORS = 16 };

typedef struct hr_reduce_job {
  const char *rows; /* row 0 at the block's first column */
  int64_t bytes_before; /* of a row before that: scale and bias stand there */
  int64_t columns;
  const hr_table *table;
  int64_t reduction; /* REDUCE_… */
  int64_t bag_count;
  const int64_t *bounds; /* [bag_count + 1], rising: bag b holds the lookups at positions [bounds[b], bounds[b + 1]) */
  int64_t first_position; /* where `indices` and `weights` begin */
  const void *indices; /* every one is a row, or a pruned one's -1 */
  int64_t index_bytes;
  const float *weights; /* NULL: none */
  float *output; /* the first bag's, at the block's first column */
  int64_t output_stride;
  int64_t prefetch_distance, prefetch_level;
} hr_reduce_job;

enum { REDUCE_SUM, REDUCE_WEIGHTED_SUM, REDUCE_MAX, REDUCTIONS };

/*
 * The order in which a row's vectors are read. Columns are independent, so any order gives the same sums; this one is
 * no stream that a hardware prefetcher would follow past the end of the row, into a row that nobody asked for. With
 * software prefetch on Zen 5, random rows take 10 to 15 % less time than when read in ascending order.
 */
HR_INLINE int vector_in_order(int step, const int count) {
  static const uint8_t order_of_4[4] = {2, 0, 3, 1};
  static const uint8_t order_of_8[8] = {3, 0, 5, 2, 7, 4, 1, 6};
  static const uint8_t order_of_16[16] = {3, 8, 13, 2, 7, 12, 1, 6, 11, 0, 5, 10, 15, 4, 9, 14};
  return count == 4 ? order_of_4[step] : count == 8 ? order_of_8[step] : count == 16 ? order_of_16[step] : step;
}

/* The column where vector v of a copy begins. The first half of a copy's vectors always lies inside the block. */
HR_INLINE int64_t first_column(int v, const int vectors, int64_t columns) {
  return v < vectors / 2 ? v * HR_LANES : hr_min(v * HR_LANES, columns - HR_LANES);
}

/* Asks for the cache lines of the `bytes` from `row` on, and of its last byte. Harmless for any address. */
HR_INLINE void prefetch_row(uintptr_t row, int64_t level, int bytes, uintptr_t last_byte) {
#define PREFETCH_LINES(locality)                                             \
  HR_UNROLL                                                                  \
  for (int byte = 0; byte < bytes; byte += 64)                               \
    __builtin_prefetch((const void *)(row + (uintptr_t)byte), 0, locality);  \
  if (row % 64 != 0) __builtin_prefetch((const void *)(row + last_byte), 0, locality)
  switch (level) {
    case HR_PREFETCH_L1: PREFETCH_LINES(3); break;
    case HR_PREFETCH_L2: PREFETCH_LINES(2); break;
    case HR_PREFETCH_L3: PREFETCH_LINES(1); break;
    default: PREFETCH_LINES(0); break;
  }
#undef PREFETCH_LINES
}

/* The rows that the loop below would have asked for before the first lookup of its run. */
static void prefetch_first_rows(const hr_reduce_job *job, int64_t count) {
  const uintptr_t bytes = (uintptr_t)hr_ceil_div(job->columns * hr_row_bits(job->table->row_format), 8);
  for (int64_t p = 0; p < count; p++) {
    const uintptr_t index = (uintptr_t)hr_load_integer(job->indices, job->index_bytes, p);
    uintptr_t row = (uintptr_t)job->rows + index * (uintptr_t)job->table->row_stride_bytes;
    for (uintptr_t byte = 0; byte < bytes; byte += 64) prefetch_row(row + byte, job->prefetch_level, 64, 63);
  }
}

/* The loops, of tables without and with pruned rows. */
#define PRUNED 0
#include "embedding_reduce_loop.h"
#undef PRUNED
#define PRUNED 1
#include "embedding_reduce_loop.h"
#undef PRUNED

typedef void (*reduce_function)(const hr_reduce_job *job);

/* Widths in vectors; a block of another width is reduced by the next wider copy. */
#define FOR_EACH_WIDTH(X, format, reduction, pruned)                                                                  \
  X(0, format, reduction, pruned) X(1, format, reduction, pruned) X(2, format, reduction, pruned)                     \
  X(4, format, reduction, pruned) X(8, format, reduction, pruned)

#define FOR_EACH_REDUCTION(X, format)                                                                                 \
  FOR_EACH_WIDTH(X, format, REDUCE_SUM, 0)                                                                            \
  FOR_EACH_WIDTH(X, format, REDUCE_WEIGHTED_SUM, 0) FOR_EACH_WIDTH(X, format, REDUCE_MAX, 0)                          \
  FOR_EACH_WIDTH(X, format, REDUCE_WEIGHTED_SUM, 1) FOR_EACH_WIDTH(X, format, REDUCE_MAX, 1)

#define REDUCTIONS_OF(X, name, number, bits, header_bytes) FOR_EACH_REDUCTION(X, HR_##name)

#define FOR_EACH_COPY(X)           \
  X(16, HR_FLOAT32, REDUCE_SUM, 0) \
  HR_FOR_EACH_ROW_FORMAT(REDUCTIONS_OF, X)

#define DEFINE_COPY(vectors, format, reduction, pruned)                                         \
  static void reduce_##vectors##_##format##_##reduction##_##pruned(const hr_reduce_job *job) {  \
    reduce_bags_##pruned(job, vectors, format, reduction);                                      \
  }
FOR_EACH_COPY(DEFINE_COPY)

#define COPY_ENTRY(vectors, format, reduction, pruned) \
  [pruned][format][reduction][vectors] = reduce_##vectors##_##format##_##reduction##_##pruned,
static const reduce_function reduce_functions[2][HR_ROW_FORMATS][REDUCTIONS][MOST_VECTORS + 1] = {
    FOR_EACH_COPY(COPY_ENTRY)};

static int reduction_of(const hr_table *table, const hr_bags *bags) {
  if (table->pooling == HR_POOL_MAX) return REDUCE_MAX;
  const int is_weighted = table->pruned || (table->pooling == HR_POOL_SUM && (bags->weights || table->row_weights));
  return is_weighted ? REDUCE_WEIGHTED_SUM : REDUCE_SUM;
}

/* The widest block, in vectors, that a table's rows can be reduced in: all registers of AVX2 where nothing but the sums
 * needs one. */
static int64_t hr_most_vectors(const hr_table *table, const hr_bags *bags) {
  const int needs_only_sums = reduction_of(table, bags) == REDUCE_SUM && table->row_format == HR_FLOAT32;
  return needs_only_sums ? MOST_VECTORS : MOST_VECTORS / 2;
}

static void hr_reduce_bags(const hr_reduce_job *job) {
  int64_t vectors = job->columns < HR_LANES ? 0 : 1;
  while (vectors > 0 && vectors * HR_LANES < job->columns) vectors *= 2;
  reduce_functions[job->table->pruned][job->table->row_format][job->reduction][vectors](job);
}

#endif

/*
 * The inner loops of HR_OP_EMBEDDING_BAGS, for one column block of one table.
 *
 * A block is at most MOST_VECTORS vectors wide, so that the whole accumulator of a bag stays in registers while its
 * rows pass. The number of vectors, the row format and the reduction are compile-time constants of each copy. The last
 * vector of a block ends with the block and overlaps the one before it where the width is no multiple of HR_LANES:
 * the shared columns are reduced twice to the same value. Only a block narrower than one vector needs partial loads.
 */
#ifndef HOTROW_EMBEDDING_REDUCE_H
#define HOTROW_EMBEDDING_REDUCE_H

#include "pool.h"
#include "simd.h"

enum { MOST_VECTORS = 16 };

typedef struct hr_reduce_job {
  const char *rows; /* row 0 at the block's first column */
  int64_t columns;
  const hr_table *table;
  const hr_bags *bags;
  float *output; /* bag 0 at the block's first column */
  int64_t output_stride;
  int64_t first_bag, last_bag;
  int64_t repair;
  int64_t prefetch_distance, prefetch_level;
} hr_reduce_job;

enum { REDUCE_SUM, REDUCE_WEIGHTED_SUM, REDUCE_MAX, REDUCTIONS };

/* The lookups of a table, each of which becomes a row: out-of-range indices become 0 when `index_limit` is the row
 * count (repair), and nothing is changed when it is UINT64_MAX. */
typedef struct lookup_reader {
  const char *indices;
  int64_t index_bytes;
  uint64_t index_limit;
} lookup_reader;

HR_INLINE int64_t read_lookup(const lookup_reader *reader, int64_t position) {
  int64_t index = hr_load_integer(reader->indices, reader->index_bytes, position);
  return (uint64_t)index < reader->index_limit ? index : 0;
}

/* Asks for `vectors` vectors' worth of cache lines from `row` on. Harmless for any address. */
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

/* vectors = 0: one partial vector. */
HR_INLINE void reduce_bags(const hr_reduce_job *job, const int vectors, const int row_format, const int reduction) {
  const int count = vectors ? vectors : 1;
  const int element_bytes = row_format == HR_FLOAT32 ? 4 : 2;
  const hr_table *table = job->table;
  const hr_bags *bags = job->bags;
  const lookup_reader reader = {
      .indices = bags->indices,
      .index_bytes = bags->index_bytes,
      .index_limit = job->repair ? (uint64_t)table->row_count : UINT64_MAX,
  };
  const uintptr_t rows = (uintptr_t)job->rows;
  const uintptr_t row_stride = (uintptr_t)table->row_stride_bytes;
  const int64_t columns = job->columns;
  const int64_t last_vector = columns - HR_LANES; /* column of the last full vector */
  const uintptr_t last_byte = (uintptr_t)(columns * element_bytes - 1);
  const int64_t padding = table->padding_index;
  const float *weights = bags->weights;
  const float *row_weights = table->row_weights;
  const int64_t lookups = table->row_count > 0 ? bags->lookups : 0;
  const int64_t level = job->prefetch_level;

  const int64_t first_lookup =
      hr_clamp(hr_load_integer(bags->offsets, bags->offset_bytes, job->first_bag), 0, lookups);
  int64_t prefetch_end = lookups;
  if (job->last_bag < bags->offset_count)
    prefetch_end = hr_clamp(hr_load_integer(bags->offsets, bags->offset_bytes, job->last_bag), 0, lookups);
  const int64_t distance = job->prefetch_distance > 0 ? job->prefetch_distance : lookups;
  const int64_t prefetch_until = prefetch_end - distance; /* the first position that has nothing to prefetch */
  if (job->prefetch_distance > 0)
    for (int64_t p = first_lookup; p < hr_min(first_lookup + distance, prefetch_end); p++)
      prefetch_row(rows + (uintptr_t)read_lookup(&reader, p) * row_stride, level, count * HR_LANES * element_bytes,
                   last_byte);

  int64_t end = first_lookup;
  for (int64_t bag = job->first_bag; bag < job->last_bag; bag++) {
    int64_t begin = hr_clamp(hr_load_integer(bags->offsets, bags->offset_bytes, bag), 0, lookups);
    end = lookups;
    if (bag + 1 < bags->offset_count)
      end = hr_clamp(hr_load_integer(bags->offsets, bags->offset_bytes, bag + 1), begin, lookups);
    hr_vec sum[MOST_VECTORS];
    HR_UNROLL
    for (int v = 0; v < count; v++) sum[v] = hr_vec_zero();
    int64_t counted = 0;

    for (int64_t p = begin; p < end; p++) {
      if (p < prefetch_until)
        prefetch_row(rows + (uintptr_t)read_lookup(&reader, p + distance) * row_stride, level,
                     count * HR_LANES * element_bytes, last_byte);
      int64_t index = read_lookup(&reader, p);
      if (index == padding) continue;
      const char *row = (const char *)(rows + (uintptr_t)index * row_stride);
      hr_vec weight = hr_vec_zero();
      if (reduction == REDUCE_WEIGHTED_SUM) {
        float w = weights ? hr_load_float(weights, p) : 1.0f;
        if (row_weights) w *= hr_load_float(row_weights, index);
        weight = hr_vec_broadcast(w);
      }
      HR_UNROLL
      for (int v = 0; v < count; v++) {
        int64_t column = v == count - 1 ? last_vector : v * HR_LANES;
        hr_vec x = vectors ? hr_vec_load_as(row_format, row + column * element_bytes)
                           : hr_vec_load_as_partial(row_format, row, columns);
        if (reduction == REDUCE_SUM) sum[v] = hr_vec_add(sum[v], x);
        if (reduction == REDUCE_WEIGHTED_SUM) sum[v] = hr_vec_fma(weight, x, sum[v]);
        if (reduction == REDUCE_MAX) sum[v] = counted == 0 ? x : hr_vec_max(x, sum[v]);
      }
      counted++;
    }

    float *output = job->output + bag * job->output_stride;
    const int is_mean = reduction == REDUCE_SUM && table->pooling == HR_POOL_MEAN && counted > 0;
    const hr_vec divisor = hr_vec_broadcast(is_mean ? (float)counted : 1.0f);
    HR_UNROLL
    for (int v = 0; v < count; v++) {
      hr_vec y = is_mean ? hr_vec_div(sum[v], divisor) : sum[v];
      if (vectors)
        hr_vec_store(output + (v == count - 1 ? last_vector : v * HR_LANES), y);
      else
        hr_vec_store_partial(output, y, columns);
    }
  }
}

typedef void (*reduce_function)(const hr_reduce_job *job);

#define FOR_EACH_WIDTH(X, format, reduction)                                                                     \
  X(0, format, reduction) X(1, format, reduction) X(2, format, reduction) X(3, format, reduction)                \
  X(4, format, reduction) X(5, format, reduction) X(6, format, reduction) X(7, format, reduction)                \
  X(8, format, reduction) X(9, format, reduction) X(10, format, reduction) X(11, format, reduction)              \
  X(12, format, reduction) X(13, format, reduction) X(14, format, reduction) X(15, format, reduction)            \
  X(16, format, reduction)

#define FOR_EACH_COPY(X)                                                                                         \
  FOR_EACH_WIDTH(X, HR_FLOAT32, REDUCE_SUM) FOR_EACH_WIDTH(X, HR_FLOAT32, REDUCE_WEIGHTED_SUM)                   \
  FOR_EACH_WIDTH(X, HR_FLOAT32, REDUCE_MAX) FOR_EACH_WIDTH(X, HR_FLOAT16, REDUCE_SUM)                            \
  FOR_EACH_WIDTH(X, HR_FLOAT16, REDUCE_WEIGHTED_SUM) FOR_EACH_WIDTH(X, HR_FLOAT16, REDUCE_MAX)                   \
  FOR_EACH_WIDTH(X, HR_BFLOAT16, REDUCE_SUM) FOR_EACH_WIDTH(X, HR_BFLOAT16, REDUCE_WEIGHTED_SUM)                 \
  FOR_EACH_WIDTH(X, HR_BFLOAT16, REDUCE_MAX)

#define DEFINE_COPY(vectors, format, reduction)                                         \
  static void reduce_##vectors##_##format##_##reduction(const hr_reduce_job *job) {     \
    reduce_bags(job, vectors, format, reduction);                                       \
  }
FOR_EACH_COPY(DEFINE_COPY)

#define COPY_ENTRY(vectors, format, reduction) \
  [format][reduction][vectors] = reduce_##vectors##_##format##_##reduction,
static const reduce_function reduce_functions[3][REDUCTIONS][MOST_VECTORS + 1] = {FOR_EACH_COPY(COPY_ENTRY)};

static void hr_reduce_bags(const hr_reduce_job *job) {
  const hr_table *table = job->table;
  int reduction = REDUCE_SUM;
  if (table->pooling == HR_POOL_MAX)
    reduction = REDUCE_MAX;
  else if (table->pooling == HR_POOL_SUM && (job->bags->weights || table->row_weights))
    reduction = REDUCE_WEIGHTED_SUM;
  int64_t vectors = job->columns < HR_LANES ? 0 : hr_ceil_div(job->columns, HR_LANES);
  reduce_functions[table->row_format][reduction][vectors](job);
}

#endif

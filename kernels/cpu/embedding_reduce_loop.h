/*
 * The loop over bags of embedding_reduce.h, which includes this file twice: PRUNED 0, for tables without pruned rows, and 1.
 * The loop has all registers in use; what only some tables need is kept out of the others' as a constant of the preprocessor,
 * which leaves their code as it is without.
 *
 * With PRUNED, a sum without weights is reduced as one with weights of 1, which gives the same bits.
 */
#define REDUCE_BAGS_NAME(pruned) reduce_bags_##pruned
#define REDUCE_BAGS(pruned) REDUCE_BAGS_NAME(pruned)

/* vectors = 0: one partial vector. */
HR_INLINE void REDUCE_BAGS(PRUNED)(const hr_reduce_job *job, const int vectors, const int row_format,
                                   const int reduction) {
  const int count = vectors ? vectors : 1;
  const int is_scaled = hr_row_header(row_format) > 0;
  const int bits = (int)hr_row_bits(row_format);
  const hr_table *table = job->table;
  const uintptr_t rows = (uintptr_t)job->rows;
  const uintptr_t row_stride = (uintptr_t)table->row_stride_bytes;
  const int64_t columns = job->columns;
  const uintptr_t last_byte = (uintptr_t)(hr_ceil_div(columns * bits, 8) - 1);
  const int64_t padding = table->padding_index;
  /* Positions count from the first lookup that is held. */
  const void *indices = job->indices;
  const int64_t index_bytes = job->index_bytes;
  const float *weights = job->weights;
  const int64_t *bounds = job->bounds;
  const int64_t first_position = job->first_position;
  const float *row_weights = table->row_weights;
  const int64_t level = job->prefetch_level;
  const int64_t lookups = bounds[job->bag_count] - first_position;
  const int64_t distance = job->prefetch_distance > 0 ? job->prefetch_distance : lookups;
  const int64_t prefetch_until = lookups - distance; /* the first position that has nothing to prefetch */
  if (job->prefetch_distance > 0) prefetch_first_rows(job, hr_min(distance, lookups));

  int64_t prefetched = -1; /* a row that several lookups in a row name is asked for once */
  for (int64_t bag = 0; bag < job->bag_count; bag++) {
    const int64_t begin = bounds[bag] - first_position;
    const int64_t end = bounds[bag + 1] - first_position;
    hr_vec sum[MOST_VECTORS];
    HR_UNROLL
    for (int v = 0; v < count; v++) sum[v] = hr_vec_zero();
    int64_t counted = 0;

    for (int64_t p = begin; p < end; p++) {
      if (p < prefetch_until) {
        const int64_t ahead = hr_load_integer(indices, index_bytes, p + distance);
        if (ahead != prefetched)
          prefetch_row(rows + (uintptr_t)ahead * row_stride, level, count * HR_LANES * bits / 8, last_byte);
        prefetched = ahead;
      }
      int64_t index = hr_load_integer(indices, index_bytes, p);
      if (PRUNED && index == -1) {
        counted += reduction != REDUCE_MAX;
        continue;
      }
      if (index == padding) continue;
      const char *row = (const char *)(rows + (uintptr_t)index * row_stride);
      hr_vec weight = hr_vec_zero();
      if (reduction == REDUCE_WEIGHTED_SUM) {
        float w = weights ? hr_load_float(weights, p) : 1.0f;
        if (row_weights) w *= hr_load_float(row_weights, index);
        weight = hr_vec_broadcast(w);
      }
      hr_vec scale = hr_vec_zero(), bias = hr_vec_zero();
      if (is_scaled) {
        scale = hr_vec_broadcast_f16(row - job->bytes_before);
        bias = hr_vec_broadcast_f16(row - job->bytes_before + 2);
      }
      HR_UNROLL
      for (int step = 0; step < count; step++) {
        const int v = vector_in_order(step, count);
        const int64_t column = first_column(v, vectors, columns);
        hr_vec x = vectors ? hr_vec_load_as(row_format, row, column) : hr_vec_load_as_partial(row_format, row, columns);
        /* scale · q is exact: 11 bits by 8. */
        if (is_scaled) x = hr_vec_fma(scale, x, bias);
        if (reduction == REDUCE_SUM) sum[v] = hr_vec_add(sum[v], x);
        if (reduction == REDUCE_WEIGHTED_SUM) sum[v] = hr_vec_fma(weight, x, sum[v]);
        if (reduction == REDUCE_MAX) sum[v] = counted == 0 ? x : hr_vec_max(x, sum[v]);
      }
      counted++;
    }

    float *output = job->output + bag * job->output_stride;
    const int is_mean = (reduction == REDUCE_SUM || PRUNED) && table->pooling == HR_POOL_MEAN && counted > 0;
    const hr_vec divisor = hr_vec_broadcast(is_mean ? (float)counted : 1.0f);
    HR_UNROLL
    for (int v = 0; v < count; v++) {
      hr_vec y = is_mean ? hr_vec_div(sum[v], divisor) : sum[v];
      if (vectors)
        hr_vec_store(output + first_column(v, vectors, columns), y);
      else
        hr_vec_store_partial(output, y, columns);
    }
  }
}

#undef REDUCE_BAGS_NAME
#undef REDUCE_BAGS

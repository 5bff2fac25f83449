/*
 * The loop over bags of embedding_reduce.h, which includes this file twice: PRUNED 0, for tables without pruned rows, and 1.
 * The loop has all registers in use; what only some tables need is kept out of the others' as a constant of the preprocessor,
 * which leaves their code as it is without.
 *
 * With PRUNED, a sum without weights is reduced as one with weights of 1, which gives the same bits.
 */
#define REDUCE_BAGS_NAME(pruned) reduce_bags_##pruned
#define REDUCE_BAGS(pruned) REDUCE_BAGS_NAME(pruned)
#define READ_LOOKUP(reader, position) \
  (PRUNED ? read_lookup_or_pruned(reader, position) : read_lookup(reader, position))

/* vectors = 0: one partial vector. */
HR_INLINE void REDUCE_BAGS(PRUNED)(const hr_reduce_job *job, const int vectors, const int row_format,
                                   const int reduction) {
  const int count = vectors ? vectors : 1;
  const int is_scaled = row_format == HR_INT8 || row_format == HR_INT4;
  const int bits = (int)hr_row_bits(row_format);
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
  const uintptr_t last_byte = (uintptr_t)(hr_ceil_div(columns * bits, 8) - 1);
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
    prefetch_first_rows(job, &reader, first_lookup, hr_min(first_lookup + distance, prefetch_end));

  int64_t prefetched = -1; /* a row that several lookups in a row name is asked for once */
  for (int64_t bag = job->first_bag; bag < job->last_bag; bag++) {
    int64_t begin = hr_clamp(hr_load_integer(bags->offsets, bags->offset_bytes, bag), 0, lookups);
    int64_t end = lookups;
    if (bag + 1 < bags->offset_count)
      end = hr_clamp(hr_load_integer(bags->offsets, bags->offset_bytes, bag + 1), begin, lookups);
    hr_vec sum[MOST_VECTORS];
    HR_UNROLL
    for (int v = 0; v < count; v++) sum[v] = hr_vec_zero();
    int64_t counted = 0;

    for (int64_t p = begin; p < end; p++) {
      if (p < prefetch_until) {
        const int64_t ahead = READ_LOOKUP(&reader, p + distance);
        if (ahead != prefetched)
          prefetch_row(rows + (uintptr_t)ahead * row_stride, level, count * HR_LANES * bits / 8, last_byte);
        prefetched = ahead;
      }
      int64_t index = READ_LOOKUP(&reader, p);
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
#undef READ_LOOKUP

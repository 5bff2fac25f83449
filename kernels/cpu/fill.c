/* hr_fill_uniform: every pair of elements comes from a hash of the seed and the pair's number (SplitMix64). */
#include "pool.h"
#include "row_format.h"

enum { TASK_PAIRS = 1 << 15 };

typedef struct fill_context {
  char *target;
  int64_t row_format;
  int64_t count;
  uint64_t seed;
  hr_counter tasks;
} fill_context;

static inline uint64_t hash(uint64_t seed, uint64_t number) {
  uint64_t z = seed + (number + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/*
 * The steps between the values of [-1, 1) are the widest that the format holds exactly over that whole range, so that
 * nothing is rounded: 2^-23, 2^-11 (float16) and 2^-8 (bfloat16), from the high bits of a half of the hash.
 */
static inline float uniform(uint32_t bits, int value_bits) {
  return (float)(int32_t)(bits >> (32 - value_bits)) * (2.0f / (float)(1 << value_bits)) - 1.0f;
}

/* For a value that is 0 or at least 2^-14 and exact in float16. */
static inline uint16_t to_float16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  uint32_t magnitude = bits & 0x7fffffff;
  return (uint16_t)((bits >> 16 & 0x8000) | (magnitude ? (magnitude >> 13) - (112 << 10) : 0));
}

static inline uint16_t to_bfloat16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return (uint16_t)(bits >> 16);
}

static inline void put(char *target, int64_t row_format, int64_t position, uint32_t bits) {
  if (row_format == HR_FLOAT32) {
    float x = uniform(bits, 24);
    memcpy(target + position * 4, &x, 4);
    return;
  }
  uint16_t half = row_format == HR_FLOAT16 ? to_float16(uniform(bits, 12)) : to_bfloat16(uniform(bits, 9));
  memcpy(target + position * 2, &half, 2);
}

static inline __attribute__((always_inline)) void fill_pairs(const fill_context *fill, int64_t first, int64_t last,
                                                             const int64_t row_format) {
  for (int64_t pair = first; pair < last; pair++) {
    uint64_t bits = hash(fill->seed, (uint64_t)pair);
    put(fill->target, row_format, 2 * pair, (uint32_t)bits);
    put(fill->target, row_format, 2 * pair + 1, (uint32_t)(bits >> 32));
  }
}

static void fill_task(void *context, int64_t member) {
  (void)member;
  fill_context *fill = context;
  for (;;) {
    int64_t first = hr_next(&fill->tasks) * TASK_PAIRS;
    int64_t last = hr_min(first + TASK_PAIRS, fill->count / 2);
    if (first >= last) return;
    if (fill->row_format == HR_FLOAT32) fill_pairs(fill, first, last, HR_FLOAT32);
    if (fill->row_format == HR_FLOAT16) fill_pairs(fill, first, last, HR_FLOAT16);
    if (fill->row_format == HR_BFLOAT16) fill_pairs(fill, first, last, HR_BFLOAT16);
  }
}

HR_EXPORT int64_t hr_fill_uniform(hr_pool *pool, void *target, int64_t row_format, int64_t count, int64_t seed) {
  if (row_format < HR_FLOAT32 || row_format > HR_BFLOAT16 || count < 0) return HR_RUN_BAD_ARGUMENT;
  fill_context fill = {.target = target, .row_format = row_format, .count = count, .seed = hash(0, (uint64_t)seed)};
  pthread_mutex_lock(&pool->one_run_at_a_time);
  hr_team_run(pool->team, hr_threads_for(pool, 0, count / (2 * TASK_PAIRS)), fill_task, &fill);
  pthread_mutex_unlock(&pool->one_run_at_a_time);
  if (count % 2) put(target, row_format, count - 1, (uint32_t)hash(fill.seed, (uint64_t)(count / 2)));
  return HR_RUN_DONE;
}

typedef struct fill_rows_context {
  char *target;
  int64_t row_format, rows, dim, stride;
  uint64_t seed;
  hr_counter tasks;
} fill_rows_context;

enum { TASK_ROWS = 1 << 12 };

/* float16: 2 / 255, 2 / 15, -1. */
static const uint16_t int8_scale = 0x2004, int4_scale = 0x3044, minus_one = 0xbc00;

static void fill_row(const fill_rows_context *fill, int64_t row) {
  char *to = fill->target + row * fill->stride;
  const int64_t words = fill->stride / 8;
  /* float8: without the top bit of the exponent, no NaN. */
  const uint64_t mask = fill->row_format == HR_FLOAT8_E4M3 ? 0xbfbfbfbfbfbfbfbfu : UINT64_MAX;
  for (int64_t w = 0; w < words; w++) {
    const uint64_t bits = hash(fill->seed, (uint64_t)(row * words + w)) & mask;
    memcpy(to + 8 * w, &bits, 8);
  }
  int64_t end = fill->dim;
  if (fill->row_format != HR_FLOAT8_E4M3) {
    memcpy(to, fill->row_format == HR_INT8 ? &int8_scale : &int4_scale, 2);
    memcpy(to + 2, &minus_one, 2);
    end = 4 + (fill->row_format == HR_INT8 ? fill->dim : hr_ceil_div(fill->dim, 2));
    if (fill->row_format == HR_INT4 && fill->dim % 2) to[end - 1] &= 15;
  }
  memset(to + end, 0, (size_t)(fill->stride - end));
}

static void fill_rows_task(void *context, int64_t member) {
  (void)member;
  fill_rows_context *fill = context;
  for (;;) {
    int64_t first = hr_next(&fill->tasks) * TASK_ROWS;
    int64_t last = hr_min(first + TASK_ROWS, fill->rows);
    if (first >= last) return;
    for (int64_t row = first; row < last; row++) fill_row(fill, row);
  }
}

HR_EXPORT int64_t hr_fill_quantized(hr_pool *pool, void *target, int64_t row_format, int64_t rows, int64_t dim,
                                    int64_t row_stride_bytes, int64_t seed) {
  if (row_format < HR_INT8 || row_format >= HR_ROW_FORMATS || rows < 0 || dim < 1) return HR_RUN_BAD_ARGUMENT;
  const int64_t bytes = hr_row_header(row_format) + hr_ceil_div(dim * hr_row_bits(row_format), 8);
  if (row_stride_bytes % 8 != 0 || row_stride_bytes < bytes) return HR_RUN_BAD_ARGUMENT;
  fill_rows_context fill = {
      .target = target,
      .row_format = row_format,
      .rows = rows,
      .dim = dim,
      .stride = row_stride_bytes,
      .seed = hash(0, (uint64_t)seed),
  };
  pthread_mutex_lock(&pool->one_run_at_a_time);
  hr_team_run(pool->team, hr_threads_for(pool, 0, hr_ceil_div(rows, TASK_ROWS)), fill_rows_task, &fill);
  pthread_mutex_unlock(&pool->one_run_at_a_time);
  return HR_RUN_DONE;
}

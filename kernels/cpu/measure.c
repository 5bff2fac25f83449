/* hr_measure_…: what the processor and its memory can do at most, to compare the operators with. */
#include "pool.h"

typedef struct rate_context {
  const hr_pool *pool;
  double seconds;
  pthread_mutex_t mutex;
  double rate; /* of all threads together */
} rate_context;

static void measure_multiply_adds(void *context, int64_t member) {
  enum { ROUNDS = 20000 };
  (void)member;
  rate_context *rate = context;
  int64_t done = 0;
  const double start = hr_now_seconds();
  double elapsed;
  do {
    done += rate->pool->kernels->multiply_adds(ROUNDS);
    elapsed = hr_now_seconds() - start;
  } while (elapsed < rate->seconds);
  pthread_mutex_lock(&rate->mutex);
  rate->rate += (double)done / elapsed;
  pthread_mutex_unlock(&rate->mutex);
}

HR_EXPORT double hr_measure_fma_rate(hr_pool *pool, double seconds) {
  rate_context rate = {.pool = pool, .seconds = seconds, .mutex = PTHREAD_MUTEX_INITIALIZER};
  pthread_mutex_lock(&pool->one_run_at_a_time);
  hr_team_run(pool->team, pool->threads, measure_multiply_adds, &rate);
  pthread_mutex_unlock(&pool->one_run_at_a_time);
  return rate.rate;
}

typedef struct read_context {
  const hr_pool *pool;
  const char *memory;
  int64_t part_bytes;
  hr_counter parts;
} read_context;

static void read_part(void *context, int64_t member) {
  (void)member;
  read_context *read = context;
  int64_t part = hr_next(&read->parts);
  for (; part < read->pool->threads; part = hr_next(&read->parts))
    read->pool->kernels->read_all(read->memory + part * read->part_bytes, read->part_bytes);
}

HR_EXPORT double hr_measure_read_rate(hr_pool *pool, const void *memory, int64_t bytes) {
  read_context read = {.pool = pool, .memory = memory, .part_bytes = bytes / pool->threads};
  pthread_mutex_lock(&pool->one_run_at_a_time);
  const double start = hr_now_seconds();
  hr_team_run(pool->team, pool->threads, read_part, &read);
  const double elapsed = hr_now_seconds() - start;
  pthread_mutex_unlock(&pool->one_run_at_a_time);
  return elapsed > 0 ? (double)(read.part_bytes * pool->threads) / elapsed : 0;
}

/* What stands behind hr_pool, and the operators' entry points, which run.c calls through one table per instruction
 * set. Every entry point takes arguments that run.c has checked, and returns hr_run's status. */
#ifndef HOTROW_POOL_H
#define HOTROW_POOL_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "hotrow_cpu.h"
#include "thread_exit.h"
#include "thread_pool.h"

#define HR_EXPORT __attribute__((visibility("default")))

enum {
  HR_RUN_DONE = 0,
  HR_RUN_STOPPED = 1,
  HR_RUN_ARRAYS_GONE = 2,
  HR_RUN_FILE_CHANGED = 3,
  HR_RUN_BAD_ARGUMENT = -1,
  HR_RUN_NO_MEMORY = -2
};

typedef struct hr_kernels {
  int64_t (*check_bags)(hr_pool *pool, const hr_op_check_bags *op);
  int64_t (*embedding_bags)(hr_pool *pool, const hr_op_embedding_bags *op);
  int64_t (*linear)(hr_pool *pool, const hr_op_linear *op);
  int64_t (*packed_linear_bytes)(int64_t outputs, int64_t inputs);
  void (*pack_linear)(hr_pool *pool, const float *weight, int64_t outputs, int64_t inputs, void *packed);
  int64_t (*dot_interaction)(hr_pool *pool, const hr_op_dot_interaction *op);
  int64_t (*row_function)(hr_pool *pool, const hr_op_row_function *op);
  /* Does `rounds` rounds of multiply-adds in registers and returns how many that were. */
  int64_t (*multiply_adds)(int64_t rounds);
  /* Reads every byte of [memory, memory + bytes) but the last few. */
  void (*read_all)(const char *memory, int64_t bytes);
} hr_kernels;

struct hr_pool {
  hr_owned owned;
  int64_t threads;
  hr_team *team;
  const hr_kernels *kernels;
  pthread_mutex_t one_run_at_a_time;
  char *scratch;
  int64_t scratch_bytes; /* per thread */
};

extern const hr_kernels hr_kernels_portable, hr_kernels_avx2, hr_kernels_avx512;

int64_t hr_copy(hr_pool *pool, const hr_op_copy *op);
int64_t hr_spread_rows(hr_pool *pool, const hr_op_spread_rows *op);

/* Makes at least `bytes` of 64-byte aligned scratch memory per thread; 0: no memory. Contents are undefined. */
int hr_pool_reserve_scratch(hr_pool *pool, int64_t bytes);

static inline char *hr_pool_scratch(const hr_pool *pool, int64_t member) {
  return pool->scratch + member * pool->scratch_bytes;
}

static inline int64_t hr_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t hr_max(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t hr_clamp(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }
static inline int64_t hr_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t hr_round_up(int64_t a, int64_t unit) { return hr_ceil_div(a, unit) * unit; }

/* The threads for an operator: at most `asked` (0: all), and no more than there are grains of work, since waking a
 * thread costs some microseconds. */
static inline int64_t hr_threads_for(const hr_pool *pool, int64_t asked, int64_t grains) {
  int64_t most = asked > 0 ? hr_min(asked, pool->threads) : pool->threads;
  return hr_clamp(grains, 1, most);
}

static inline double hr_now_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Element `position` of an array of int32 (bytes = 4) or int64 (bytes = 8) at any address. */
static inline int64_t hr_load_integer(const void *array, int64_t bytes, int64_t position) {
  if (bytes == 4) {
    int32_t value;
    memcpy(&value, (const char *)array + position * 4, 4);
    return value;
  }
  int64_t value;
  memcpy(&value, (const char *)array + position * 8, 8);
  return value;
}

static inline float hr_load_float(const float *array, int64_t position) {
  float value;
  memcpy(&value, (const char *)array + position * 4, 4);
  return value;
}

#endif

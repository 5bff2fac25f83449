/* Pools and hr_run: arguments are checked here, all of a list's before its first operator runs. */
#include <stdlib.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "faults.h"
#include "pool.h"
#include "validate.h"

/* HR_ONE_ISA: a build of the portable copy alone, for sanitizers. */
#if defined(__x86_64__) && !defined(HR_ONE_ISA)
/* Asked of the processor: __builtin_cpu_supports of clang 14 does not know it. Its registers are AVX's. */
static int has_f16c(void) {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C) != 0;
}

static int has_isa(int64_t isa) {
  __builtin_cpu_init();
  int has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  if (isa == HR_ISA_AVX512)
    return has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return isa == HR_ISA_AVX2 ? has_avx2 : isa == HR_ISA_PORTABLE;
}

static const hr_kernels *kernels_of(int64_t isa) {
  return isa == HR_ISA_AVX512 ? &hr_kernels_avx512 : isa == HR_ISA_AVX2 ? &hr_kernels_avx2 : &hr_kernels_portable;
}
#else
static int has_isa(int64_t isa) { return isa == HR_ISA_PORTABLE; }
static const hr_kernels *kernels_of(int64_t isa) {
  (void)isa;
  return &hr_kernels_portable;
}
#endif

HR_EXPORT int64_t hr_abi_version(void) { return HR_ABI_VERSION; }

HR_EXPORT int64_t hr_best_isa(void) {
  return has_isa(HR_ISA_AVX512) ? HR_ISA_AVX512 : has_isa(HR_ISA_AVX2) ? HR_ISA_AVX2 : HR_ISA_PORTABLE;
}

static void wait_for_pool(void *what) {
  hr_pool *pool = what;
  pthread_mutex_lock(&pool->one_run_at_a_time);
  pthread_mutex_unlock(&pool->one_run_at_a_time);
}

static void give_pool_back(void *pool) { hr_pool_destroy(pool); }

static void free_pool(hr_pool *pool) {
  hr_team_destroy(pool->team);
  pthread_mutex_destroy(&pool->one_run_at_a_time);
  free(pool->scratch);
  free(pool);
}

HR_EXPORT hr_pool *hr_pool_create(int64_t threads, int64_t isa) {
  if (threads < 1 || !has_isa(isa)) return NULL;
  hr_pool *pool = calloc(1, sizeof *pool);
  if (!pool) return NULL;
  hr_handle_faults();
  pool->owned = (hr_owned){
      .kind = HR_OWNED_POOL, .amount = threads - 1, .what = pool, .wait = wait_for_pool, .give_back = give_pool_back};
  pool->threads = threads;
  pool->kernels = kernels_of(isa);
  pthread_mutex_init(&pool->one_run_at_a_time, NULL);
  pool->team = hr_team_create(threads);
  if (pool->team && hr_own(&pool->owned)) return pool;
  free_pool(pool);
  return NULL;
}

HR_EXPORT void hr_pool_destroy(hr_pool *pool) {
  if (!pool) return;
  hr_disown(&pool->owned);
  wait_for_pool(pool);
  free_pool(pool);
}

int hr_pool_reserve_scratch(hr_pool *pool, int64_t bytes) {
  /* 192 more bytes keep the threads' parts from starting in the same cache sets. */
  int64_t part_bytes = hr_round_up(bytes, 4096) + 192;
  if (part_bytes <= pool->scratch_bytes) return 1;
  int64_t all_bytes;
  void *scratch = NULL;
  if (__builtin_mul_overflow(part_bytes, pool->threads, &all_bytes)) return 0;
  if (posix_memalign(&scratch, 64, (size_t)all_bytes) != 0) return 0;
  free(pool->scratch);
  pool->scratch = scratch;
  pool->scratch_bytes = part_bytes;
  return 1;
}

static int64_t run_operator(hr_pool *pool, const void *op) {
  switch (*(const int64_t *)op) {
    case HR_OP_CHECK_BAGS: return pool->kernels->check_bags(pool, op);
    case HR_OP_EMBEDDING_BAGS: return pool->kernels->embedding_bags(pool, op);
    case HR_OP_LINEAR: return pool->kernels->linear(pool, op);
    case HR_OP_DOT_INTERACTION: return pool->kernels->dot_interaction(pool, op);
    case HR_OP_ROW_FUNCTION: return pool->kernels->row_function(pool, op);
    case HR_OP_COPY: return hr_copy(pool, op);
    case HR_OP_SPREAD_ROWS: return hr_spread_rows(pool, op);
    default: return HR_RUN_BAD_ARGUMENT;
  }
}

HR_EXPORT int64_t hr_run(hr_pool *pool, const void *operators, int64_t count, double *seconds) {
  const int64_t *words = operators;
  for (int64_t i = 0; i < count; i++)
    if (!hr_is_valid_operator(words + i * HR_OP_WORDS)) return HR_RUN_BAD_ARGUMENT;
  int64_t status = HR_RUN_DONE;
  pthread_mutex_lock(&pool->one_run_at_a_time);
  double start = hr_now_seconds();
  for (int64_t i = 0; i < count && status == HR_RUN_DONE; i++) {
    status = run_operator(pool, words + i * HR_OP_WORDS);
    double end = hr_now_seconds();
    if (seconds) seconds[i] = end - start;
    start = end;
  }
  pthread_mutex_unlock(&pool->one_run_at_a_time);
  return status;
}

HR_EXPORT int64_t hr_packed_linear_bytes(hr_pool *pool, int64_t outputs, int64_t inputs) {
  if (outputs < 0 || inputs < 0 || outputs > INT64_MAX / 128 || inputs > INT64_MAX / 128) return -1;
  return pool->kernels->packed_linear_bytes(outputs, inputs);
}

HR_EXPORT int64_t hr_pack_linear(hr_pool *pool, const float *weight, int64_t outputs, int64_t inputs, void *packed) {
  if (hr_packed_linear_bytes(pool, outputs, inputs) < 0) return HR_RUN_BAD_ARGUMENT;
  pthread_mutex_lock(&pool->one_run_at_a_time);
  pool->kernels->pack_linear(pool, weight, outputs, inputs, packed);
  pthread_mutex_unlock(&pool->one_run_at_a_time);
  return HR_RUN_DONE;
}

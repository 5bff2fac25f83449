/* What threads leave open when they end, for the thread sanitizer: scripts/sanitize.mjs builds this with the library's files. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "../../kernels/cpu/pool.h"

enum { THREADS = 4, ROUNDS = 20, ELEMENTS = 1 << 21, HANDLES = 3 };

static int wrong;
static void check(int is_right, const char *what) {
  if (is_right) return;
  fprintf(stderr, "thread-exit.c: %s\n", what);
  wrong += 1;
}

static void *current;
static char context;
static int waits, given_back, order_is_right = 1, in_context = 1;
static int64_t handles[HANDLES];

static int set_current(void *to) { return current = to, 0; }
static int wait_for(void *handle) {
  (void)handle;
  waits += 1;
  in_context &= current == &context;
  order_is_right &= given_back == 0;
  return 0;
}
static int give_back(void *handle) {
  in_context &= current == &context;
  order_is_right &= handle == &handles[HANDLES - 1 - given_back++];
  return 0;
}

static const char *file;

/* Opens one of everything, and closes nothing but a handle. */
static void *open_and_end(void *unused) {
  (void)unused;
  hr_pool *pool = hr_pool_create(THREADS, HR_ISA_PORTABLE);
  void *memory = hr_alloc(100, 0), *huge = hr_alloc(3 << 20, 1);
  void *bytes;
  int64_t length, error;
  hr_mapping *mapping = hr_map_file(file, &bytes, &length, &error);
  check(pool && memory && huge && mapping, "could not open everything");
  hr_handle_calls calls = {.set_current = (void *)set_current, .context = &context, .wait = (void *)wait_for,
                           .give_back = (void *)give_back};
  for (int h = 0; h < HANDLES; h++) {
    calls.is_known = h % 2;
    calls.handle = h % 2 ? &handles[h] : NULL;
    hr_handle *handle = hr_own_handle(&calls);
    check(handle != NULL, "could not keep a handle");
    handle->made = &handles[h];
  }
  hr_handle *forgotten = hr_own_handle(&calls);
  forgotten->made = &context;
  hr_disown_handle(forgotten);
  check(hr_own_handle(&calls) != NULL, "could not keep a handle that is never made");
  hr_counts counts;
  hr_get_counts(&counts);
  check(counts.pools == 1 && counts.pool_threads == THREADS - 1 && counts.allocations == 2 &&
            counts.allocated_bytes == 100 + (3 << 20) && counts.mapped_files == 1 && counts.mapped_bytes == length &&
            counts.handles == HANDLES + 1,
        "wrong counts while all is open");
  return NULL;
}

static hr_pool *pool;
static float *values;
static atomic_int has_ended;
static pthread_t other;
static int calls_met;

static void *fill(void *unused) {
  (void)unused;
  check(hr_fill_uniform(pool, values, HR_FLOAT32, ELEMENTS, 1) == 0, "a fill failed");
  atomic_store(&has_ended, 1);
  return NULL;
}

/* Opens a pool, and memory that a call of another thread fills, and ends, or closes both, while that is under way. */
static void *end_during_call(void *closes) {
  pool = hr_pool_create(THREADS, HR_ISA_PORTABLE);
  values = hr_alloc(ELEMENTS * sizeof *values, 0);
  atomic_store(&has_ended, 0);
  pthread_create(&other, NULL, fill, NULL);
  while (!atomic_load(&has_ended) && pthread_mutex_trylock(&pool->one_run_at_a_time) == 0)
    pthread_mutex_unlock(&pool->one_run_at_a_time);
  calls_met += !atomic_load(&has_ended);
  if (!closes) return NULL;
  hr_pool_destroy(pool);
  hr_free(values);
  return NULL;
}

static int nothing_is_open(void) {
  hr_counts counts;
  static const hr_counts none;
  hr_get_counts(&counts);
  return memcmp(&counts, &none, sizeof counts) == 0;
}

int main(int count, char **arguments) {
  (void)count;
  file = arguments[0];
  pthread_t thread;
  for (int round = 0; round < ROUNDS; round++) {
    waits = given_back = 0;
    pthread_create(&thread, NULL, open_and_end, NULL);
    pthread_join(thread, NULL);
    check(nothing_is_open(), "a thread that ended left something open");
    check(waits == HANDLES && given_back == HANDLES, "handles were not given back");
  }
  check(order_is_right, "handles were given back in a wrong order");
  check(in_context, "a function was called without its context");
  for (int round = 0; round < ROUNDS; round++) {
    pthread_create(&thread, NULL, end_during_call, round % 2 ? &context : NULL);
    pthread_join(thread, NULL);
    pthread_join(other, NULL);
    check(nothing_is_open(), "a pool that was in use stayed open");
  }
  check(calls_met > 0, "no call was under way");
  void *memory = hr_alloc(1, 0);
  hr_free(memory);
  hr_free(memory); /* is left alone */
  check(nothing_is_open(), "memory was not given back once");
  return wrong != 0;
}

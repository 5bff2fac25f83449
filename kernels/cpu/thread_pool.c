/* Persistent threads that spin for a short while after each task, so that the next operator of a list finds them
 * awake, and then sleep on a condition variable. */
#include "thread_pool.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { SPIN_NS = 40000, PAUSES_PER_CLOCK_READ = 16 };

/* A worker's state. Only the caller moves IDLE to POSTED; POSTED goes to RUNNING by the worker or back to IDLE by the
 * caller, who takes an offer back that nobody needs any more; RUNNING goes to IDLE by the worker. STOP stays. */
enum { IDLE, POSTED, RUNNING, STOP };

typedef struct worker {
  _Alignas(64) atomic_int state;
  atomic_int asleep;
  int64_t member;
  hr_team *team;
  pthread_t thread;
  pthread_mutex_t mutex;
  pthread_cond_t wake;
} worker;

struct hr_team {
  int64_t workers; /* members without the caller */
  hr_task task;
  void *context;
  _Alignas(64) atomic_int_fast64_t unfinished;
  atomic_int caller_asleep;
  pthread_mutex_t mutex;
  pthread_cond_t finished;
  worker worker[];
};

static inline void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void wait_for_offer(worker *self) {
  int64_t deadline_ns = now_ns() + SPIN_NS;
  do {
    for (int i = 0; i < PAUSES_PER_CLOCK_READ; i++) {
      if (atomic_load(&self->state) != IDLE) return;
      pause_briefly();
    }
  } while (now_ns() < deadline_ns);
  pthread_mutex_lock(&self->mutex);
  atomic_store(&self->asleep, 1);
  while (atomic_load(&self->state) == IDLE) pthread_cond_wait(&self->wake, &self->mutex);
  atomic_store(&self->asleep, 0);
  pthread_mutex_unlock(&self->mutex);
}

/* Sequentially consistent order makes this safe: whoever stores first is seen by the other's load. */
static void offer(worker *to, int state) {
  atomic_store(&to->state, state);
  if (!atomic_load(&to->asleep)) return;
  pthread_mutex_lock(&to->mutex);
  pthread_cond_signal(&to->wake);
  pthread_mutex_unlock(&to->mutex);
}

static void *worker_main(void *argument) {
  worker *self = argument;
  hr_team *team = self->team;
  for (;;) {
    wait_for_offer(self);
    int expected = POSTED;
    if (!atomic_compare_exchange_strong(&self->state, &expected, RUNNING)) {
      if (expected == STOP) return NULL;
      continue;
    }
    team->task(team->context, self->member);
    expected = RUNNING;
    atomic_compare_exchange_strong(&self->state, &expected, IDLE);
    if (atomic_fetch_sub(&team->unfinished, 1) == 1 && atomic_load(&team->caller_asleep)) {
      pthread_mutex_lock(&team->mutex);
      pthread_cond_signal(&team->finished);
      pthread_mutex_unlock(&team->mutex);
    }
  }
}

static void wait_for_workers(hr_team *team) {
  int64_t deadline_ns = now_ns() + SPIN_NS;
  do {
    for (int i = 0; i < PAUSES_PER_CLOCK_READ; i++) {
      if (atomic_load(&team->unfinished) == 0) return;
      pause_briefly();
    }
  } while (now_ns() < deadline_ns);
  pthread_mutex_lock(&team->mutex);
  atomic_store(&team->caller_asleep, 1);
  while (atomic_load(&team->unfinished) != 0) pthread_cond_wait(&team->finished, &team->mutex);
  atomic_store(&team->caller_asleep, 0);
  pthread_mutex_unlock(&team->mutex);
}

void hr_team_run(hr_team *team, int64_t threads, hr_task task, void *context) {
  int64_t helpers = threads - 1 < team->workers ? threads - 1 : team->workers;
  if (helpers > 0) {
    team->task = task;
    team->context = context;
    atomic_store(&team->unfinished, helpers);
    for (int64_t i = 0; i < helpers; i++) offer(&team->worker[i], POSTED);
  }
  task(context, 0);
  if (helpers <= 0) return;
  for (int64_t i = 0; i < helpers; i++) {
    int expected = POSTED;
    if (atomic_compare_exchange_strong(&team->worker[i].state, &expected, IDLE))
      atomic_fetch_sub(&team->unfinished, 1);
  }
  wait_for_workers(team);
}

static int start_worker(hr_team *team, int64_t index) {
  worker *self = &team->worker[index];
  atomic_init(&self->state, IDLE);
  atomic_init(&self->asleep, 0);
  self->member = index + 1;
  self->team = team;
  pthread_mutex_init(&self->mutex, NULL);
  pthread_cond_init(&self->wake, NULL);
  if (pthread_create(&self->thread, NULL, worker_main, self) == 0) return 1;
  pthread_cond_destroy(&self->wake);
  pthread_mutex_destroy(&self->mutex);
  return 0;
}

hr_team *hr_team_create(int64_t threads) {
  enum { MOST_THREADS = 4096 };
  if (threads < 1 || threads > MOST_THREADS) return NULL;
  size_t bytes = sizeof(hr_team) + (size_t)(threads - 1) * sizeof(worker);
  void *memory = NULL;
  if (posix_memalign(&memory, 64, bytes) != 0) return NULL;
  hr_team *team = memory;
  team->workers = 0;
  atomic_init(&team->unfinished, 0);
  atomic_init(&team->caller_asleep, 0);
  pthread_mutex_init(&team->mutex, NULL);
  pthread_cond_init(&team->finished, NULL);
  for (; team->workers < threads - 1; team->workers++) {
    if (start_worker(team, team->workers)) continue;
    hr_team_destroy(team);
    return NULL;
  }
  return team;
}

void hr_team_destroy(hr_team *team) {
  if (!team) return;
  for (int64_t i = 0; i < team->workers; i++) offer(&team->worker[i], STOP);
  for (int64_t i = 0; i < team->workers; i++) {
    pthread_join(team->worker[i].thread, NULL);
    pthread_cond_destroy(&team->worker[i].wake);
    pthread_mutex_destroy(&team->worker[i].mutex);
  }
  pthread_cond_destroy(&team->finished);
  pthread_mutex_destroy(&team->mutex);
  free(team);
}

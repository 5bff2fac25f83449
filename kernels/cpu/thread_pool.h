/*
 * A team of persistent threads. The caller of hr_team_run is member 0.
 *
 * A task must be correct on any subset of the members: work is taken from a shared counter (hr_next) until none is
 * left, because a member that has not woken when the others are done is not waited for.
 */
#ifndef HOTROW_THREAD_POOL_H
#define HOTROW_THREAD_POOL_H

#include <stdatomic.h>
#include <stdint.h>

typedef struct hr_team hr_team;
typedef void (*hr_task)(void *context, int64_t member);

/* NULL: no memory or threads to be had. */
hr_team *hr_team_create(int64_t threads);
/* After the tasks that have started; nobody may be in hr_team_run. */
void hr_team_destroy(hr_team *team);
/* Runs task(context, member) on members 0 … threads - 1, and returns when all that started have returned. One call
 * at a time. Wakes nobody when threads is 1. */
void hr_team_run(hr_team *team, int64_t threads, hr_task task, void *context);

/* A shared counter of work items on a cache line of its own. */
typedef struct hr_counter {
  _Alignas(64) atomic_int_fast64_t next;
  char rest_of_line[64 - sizeof(atomic_int_fast64_t)];
} hr_counter;

static inline int64_t hr_next(hr_counter *counter) {
  return atomic_fetch_add_explicit(&counter->next, 1, memory_order_relaxed);
}

#endif

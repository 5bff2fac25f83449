/*
 * Reads of memory that may go away meanwhile: the arrays of a caller, who may give them to somebody else that frees them.
 *
 * A guard belongs to one call of hr_guarded on one thread. Its work says which memory it is about to touch (hr_watch); a fault
 * in there ends the work, and hr_guarded returns 0. Every other fault goes to whoever handled faults before.
 */
#ifndef HOTROW_FAULTS_H
#define HOTROW_FAULTS_H

#include <setjmp.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

typedef struct hr_guard {
  volatile uintptr_t begin, end; /* what is watched */
  sigjmp_buf gone;
} hr_guard;

/* Installs the handlers, once in a process. */
void hr_handle_faults(void);

/* Runs work(context, guard) on this thread, which holds no lock and no memory that is its own to give back. 0: watched memory
 * was gone. Guards do not nest. */
int hr_guarded(void (*work)(void *context, hr_guard *guard), void *context);

/* From here on until hr_unwatch, a fault in [memory, memory + bytes) ends the guard's work. */
static inline void hr_watch(hr_guard *guard, const void *memory, int64_t bytes) {
  guard->begin = (uintptr_t)memory;
  guard->end = (uintptr_t)memory + (uintptr_t)bytes;
  atomic_signal_fence(memory_order_seq_cst);
}

static inline void hr_unwatch(hr_guard *guard) {
  atomic_signal_fence(memory_order_seq_cst);
  guard->end = 0;
}

/* Copies from memory that may go away. */
static inline void hr_copy_from(hr_guard *guard, void *to, const void *from, int64_t bytes) {
  hr_watch(guard, from, bytes);
  memcpy(to, from, (size_t)bytes);
  hr_unwatch(guard);
}

#endif

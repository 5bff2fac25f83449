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

/* The first `half` bytes and the last, which may overlap. */
static inline void hr_copy_halves(char *to, const char *from, int64_t bytes, const size_t half) {
  memcpy(to, from, half);
  memcpy(to + bytes - half, from + bytes - half, half);
}

/* Copies 32-bit words from memory that may go away. Few bytes, as batches of one have, without the call. */
static inline void hr_copy_from(hr_guard *guard, void *to, const void *from, int64_t bytes) {
  hr_watch(guard, from, bytes);
  if (bytes > 32)
    memcpy(to, from, (size_t)bytes);
  else if (bytes >= 16)
    hr_copy_halves(to, from, bytes, 16);
  else if (bytes >= 8)
    hr_copy_halves(to, from, bytes, 8);
  else if (bytes > 0)
    hr_copy_halves(to, from, bytes, 4);
  hr_unwatch(guard);
}

#endif

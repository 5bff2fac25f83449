/*
 * What a thread opened and has not closed: given back when the thread ends, as a JavaScript worker's does that is terminated.
 * First whatever is under way is waited for, then everything is given back, newest first. A process that exits gives nothing back
 * here: its main thread does not end before it.
 */
#ifndef HOTROW_THREAD_EXIT_H
#define HOTROW_THREAD_EXIT_H

#include <stdint.h>

typedef enum hr_owned_kind { HR_OWNED_POOL, HR_OWNED_MEMORY, HR_OWNED_FILE, HR_OWNED_HANDLE, HR_OWNED_KINDS } hr_owned_kind;

typedef struct hr_owner hr_owner;

/* A part of what is owned. Its memory stays until hr_disown. */
typedef struct hr_owned {
  hr_owner *owner;
  struct hr_owned *older, *newer;
  hr_owned_kind kind;
  int64_t amount; /* threads of a pool, bytes of memory and files */
  void *what;
  void (*wait)(void *what);      /* for calls under way; NULL: there are none */
  void (*give_back)(void *what); /* closes it, which calls hr_disown */
} hr_owned;

/* Makes it the calling thread's, with the fields from `kind` on as they are. 0: no memory. */
int hr_own(hr_owned *owned);
/* On any thread, but not while the owner ends. */
void hr_disown(hr_owned *owned);

/* Keeps the library that a function is in loaded for good. */
void hr_keep_loaded(void *function);

#endif

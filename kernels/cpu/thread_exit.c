/* hr_own, hr_own_handle, hr_get_counts. */
#define _GNU_SOURCE /* dladdr */
#include "thread_exit.h"

#include <dlfcn.h>
#include <stdlib.h>

#include "pool.h"

/* What one thread owns. */
struct hr_owner {
  hr_owned *newest;
};

static pthread_key_t owner_key;
static int has_key;
static pthread_mutex_t one_change_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static int64_t owned_count[HR_OWNED_KINDS], owned_amount[HR_OWNED_KINDS];

static void thread_ends(void *ended) {
  hr_owner *owner = ended;
  for (hr_owned *owned = owner->newest; owned; owned = owned->older)
    if (owned->wait) owned->wait(owned->what);
  while (owner->newest) owner->newest->give_back(owner->newest->what);
  free(owner);
}

static void make_key(void) { has_key = pthread_key_create(&owner_key, thread_ends) == 0; }

/* The calling thread's; NULL: no memory. */
static hr_owner *own_owner(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, make_key);
  if (!has_key) return NULL;
  hr_owner *owner = pthread_getspecific(owner_key);
  if (owner) return owner;
  owner = calloc(1, sizeof *owner);
  if (owner && pthread_setspecific(owner_key, owner) == 0) return owner;
  free(owner);
  return NULL;
}

int hr_own(hr_owned *owned) {
  hr_owner *owner = own_owner();
  if (!owner) return 0;
  pthread_mutex_lock(&one_change_at_a_time);
  owned->owner = owner;
  owned->newer = NULL;
  owned->older = owner->newest;
  if (owned->older) owned->older->newer = owned;
  owner->newest = owned;
  owned_count[owned->kind] += 1;
  owned_amount[owned->kind] += owned->amount;
  pthread_mutex_unlock(&one_change_at_a_time);
  return 1;
}

void hr_disown(hr_owned *owned) {
  pthread_mutex_lock(&one_change_at_a_time);
  if (owned->newer)
    owned->newer->older = owned->older;
  else
    owned->owner->newest = owned->older;
  if (owned->older) owned->older->newer = owned->newer;
  owned_count[owned->kind] -= 1;
  owned_amount[owned->kind] -= owned->amount;
  pthread_mutex_unlock(&one_change_at_a_time);
}

HR_EXPORT void hr_get_counts(hr_counts *counts) {
  pthread_mutex_lock(&one_change_at_a_time);
  *counts = (hr_counts){.pools = owned_count[HR_OWNED_POOL],
                        .pool_threads = owned_amount[HR_OWNED_POOL],
                        .allocations = owned_count[HR_OWNED_MEMORY],
                        .allocated_bytes = owned_amount[HR_OWNED_MEMORY],
                        .mapped_files = owned_count[HR_OWNED_FILE],
                        .mapped_bytes = owned_amount[HR_OWNED_FILE],
                        .handles = owned_count[HR_OWNED_HANDLE]};
  pthread_mutex_unlock(&one_change_at_a_time);
}

void hr_keep_loaded(void *function) {
  Dl_info info;
  if (dladdr(function, &info) && info.dli_fname) dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

/* Whoever loaded this library may unload it when a worker ends: its threads, its handlers of signals and the key stay. */
__attribute__((constructor)) static void stay_loaded(void) { hr_keep_loaded((void *)(uintptr_t)hr_abi_version); }

typedef int (*hr_handle_function)(void *handle);

typedef struct owned_handle {
  hr_handle handle;
  hr_owned owned;
  hr_handle_calls calls;
} owned_handle;

static void call_in_context(const owned_handle *handle, void *function) {
  const hr_handle_calls *calls = &handle->calls;
  if (!handle->handle.made) return;
  if (calls->set_current && ((hr_handle_function)(uintptr_t)calls->set_current)(calls->context) != 0) return;
  ((hr_handle_function)(uintptr_t)function)(calls->is_known ? calls->handle : handle->handle.made);
}

static void wait_for_handle(void *what) {
  const owned_handle *handle = what;
  call_in_context(handle, handle->calls.wait);
}

static void give_handle_back(void *what) {
  owned_handle *handle = what;
  call_in_context(handle, handle->calls.give_back);
  hr_disown_handle(&handle->handle);
}

/* Its library stays loaded from now on. */
static void keep_function(void *function) {
  enum { MOST_KNOWN = 32 };
  static void *known[MOST_KNOWN];
  static int known_count;
  if (!function) return;
  pthread_mutex_lock(&one_change_at_a_time);
  int is_known = 0;
  for (int i = 0; i < known_count; i++) is_known |= known[i] == function;
  if (!is_known && known_count < MOST_KNOWN) known[known_count++] = function;
  pthread_mutex_unlock(&one_change_at_a_time);
  if (!is_known) hr_keep_loaded(function);
}

HR_EXPORT hr_handle *hr_own_handle(const hr_handle_calls *calls) {
  owned_handle *handle = calloc(1, sizeof *handle);
  if (!handle) return NULL;
  keep_function(calls->set_current);
  keep_function(calls->give_back);
  handle->calls = *calls;
  handle->owned = (hr_owned){.kind = HR_OWNED_HANDLE,
                             .what = handle,
                             .wait = calls->wait ? wait_for_handle : NULL,
                             .give_back = give_handle_back};
  if (hr_own(&handle->owned)) return &handle->handle;
  free(handle);
  return NULL;
}

HR_EXPORT void hr_disown_handle(hr_handle *handle) {
  if (!handle) return;
  owned_handle *owned = (owned_handle *)handle; /* its first member */
  hr_disown(&owned->owned);
  free(owned);
}

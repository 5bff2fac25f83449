/*
 * Handlers of SIGSEGV and SIGBUS. They run on the thread that faults and touch nothing but the thread's guard and the list of
 * mapped files, so they may interrupt anything.
 */
#include "faults.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>

#include "mapped_file.h"

/* glibc makes the variables of a library that was loaded late on their first use, with malloc, which a handler must not call;
 * this model has their place reserved. Others make them together with the thread. */
#if defined(__GLIBC__)
#define HR_READY __attribute__((tls_model("initial-exec")))
#else
#define HR_READY
#endif

/* Of the work under way on this thread; NULL: none. */
static _Thread_local hr_guard *volatile thread_guard HR_READY;

static struct sigaction previous_segv, previous_bus;

/* Does as if the handler were not there. */
static void pass_on(int number, siginfo_t *info, void *context) {
  const struct sigaction *previous = number == SIGSEGV ? &previous_segv : &previous_bus;
  if (previous->sa_flags & SA_SIGINFO) {
    previous->sa_sigaction(number, info, context);
  } else if (previous->sa_handler == SIG_DFL || (previous->sa_handler == SIG_IGN && info->si_code > 0)) {
    /* The instruction faults again and ends the process; a signal that somebody sent is sent again. */
    signal(number, SIG_DFL);
    if (info->si_code <= 0) raise(number);
  } else if (previous->sa_handler != SIG_IGN) {
    previous->sa_handler(number);
  }
}

static void on_fault(int number, siginfo_t *info, void *context) {
  const int interrupted_errno = errno;
  if (info->si_code > 0) { /* a fault, not a signal that somebody sent */
    const uintptr_t address = (uintptr_t)info->si_addr;
    hr_guard *guard = thread_guard;
    if (guard && address >= guard->begin && address < guard->end) siglongjmp(guard->gone, 1);
    /* The instruction runs again, on what is there now. */
    if (number == SIGBUS && hr_replace_lost_pages(address)) {
      errno = interrupted_errno;
      return;
    }
  }
  pass_on(number, info, context);
  errno = interrupted_errno;
}

static void install(void) {
  /* Not deferred: siglongjmp leaves the handler without a return, and the next fault must find it again. */
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
  sigemptyset(&action.sa_mask);
  sigaction(SIGSEGV, &action, &previous_segv);
  sigaction(SIGBUS, &action, &previous_bus);
}

void hr_handle_faults(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, install);
}

int hr_guarded(void (*work)(void *context, hr_guard *guard), void *context) {
  hr_guard guard = {.begin = 0, .end = 0};
  if (sigsetjmp(guard.gone, 0) != 0) {
    thread_guard = NULL;
    return 0;
  }
  thread_guard = &guard;
  work(context, &guard);
  thread_guard = NULL;
  return 1;
}

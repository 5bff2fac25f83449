/*
 * hr_alloc, hr_read_file, hr_huge_bytes.
 *
 * A block of memory is mapped_bytes(bytes) long, whether huge or not, and is followed by one page that cannot be
 * touched. The page keeps the kernel from merging neighbouring blocks
 * into one mapping, so that /proc/self/smaps counts each block by itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pool.h"

static const int64_t HUGE_PAGE_BYTES = 2 << 20;
static const int64_t MOST_READ_BYTES = 64 << 20;

static int64_t page_bytes(void) { return sysconf(_SC_PAGESIZE); }

static int64_t mapped_bytes(int64_t bytes) {
  return hr_round_up(hr_max(bytes, 1), bytes >= HUGE_PAGE_BYTES / 2 ? HUGE_PAGE_BYTES : page_bytes());
}

/* A block that was allocated, and is found by its address. */
typedef struct block {
  hr_owned owned;
  struct block *next;
} block;

enum { CHAINS = 1 << 12 };
static block *chains[CHAINS];
static pthread_mutex_t one_change_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static block **chain_of(const void *memory) {
  return &chains[((uintptr_t)memory * 0x9e3779b97f4a7c15u >> 32) % CHAINS];
}

static void give_memory_back(void *memory) { hr_free(memory); }

/* Makes `memory` the calling thread's. 0: no memory for that. */
static int keep_block(void *memory, int64_t bytes) {
  block *kept = calloc(1, sizeof *kept);
  if (!kept) return 0;
  kept->owned = (hr_owned){.kind = HR_OWNED_MEMORY, .amount = bytes, .what = memory, .give_back = give_memory_back};
  if (!hr_own(&kept->owned)) {
    free(kept);
    return 0;
  }
  block **chain = chain_of(memory);
  pthread_mutex_lock(&one_change_at_a_time);
  kept->next = *chain;
  *chain = kept;
  pthread_mutex_unlock(&one_change_at_a_time);
  return 1;
}

/* NULL: there is none. */
static block *take_block(const void *memory) {
  pthread_mutex_lock(&one_change_at_a_time);
  block **link = chain_of(memory);
  while (*link && (*link)->owned.what != memory) link = &(*link)->next;
  block *taken = *link;
  if (taken) *link = taken->next;
  pthread_mutex_unlock(&one_change_at_a_time);
  return taken;
}

HR_EXPORT void *hr_alloc(int64_t bytes, int64_t huge) {
  if (bytes < 0 || bytes > INT64_MAX / 2) return NULL;
  const int64_t kept_bytes = mapped_bytes(bytes);
  const int64_t slack_bytes = huge ? HUGE_PAGE_BYTES : 0;
  const int64_t all_bytes = slack_bytes + kept_bytes + page_bytes();
  char *all = mmap(NULL, (size_t)all_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (all == MAP_FAILED) return NULL;
  const int64_t before_bytes = huge ? -(int64_t)(uintptr_t)all & (HUGE_PAGE_BYTES - 1) : 0;
  char *kept = all + before_bytes;
  if (!keep_block(kept, bytes)) {
    munmap(all, (size_t)all_bytes);
    return NULL;
  }
  char *guard = kept + kept_bytes;
  if (before_bytes > 0) munmap(all, (size_t)before_bytes);
  if (slack_bytes > before_bytes) munmap(guard + page_bytes(), (size_t)(slack_bytes - before_bytes));
  mprotect(guard, (size_t)page_bytes(), PROT_NONE);
#ifdef MADV_HUGEPAGE
  madvise(kept, (size_t)kept_bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE); /* advice: may be refused */
#endif
  return kept;
}

HR_EXPORT void hr_free(void *memory) {
  block *taken = take_block(memory);
  if (!taken) return;
  hr_disown(&taken->owned);
  munmap(memory, (size_t)(mapped_bytes(taken->owned.amount) + page_bytes()));
  free(taken);
}

HR_EXPORT int64_t hr_huge_bytes(const void *memory, int64_t bytes) {
  FILE *smaps = fopen("/proc/self/smaps", "re");
  if (!smaps) return -1;
  const uint64_t begin = (uint64_t)(uintptr_t)memory;
  const uint64_t end = begin + (uint64_t)bytes;
  int64_t overlap_bytes = 0; /* of the mapping that the current lines describe */
  int64_t huge_bytes = -1;
  char line[512];
  while (fgets(line, sizeof line, smaps)) {
    unsigned long long first, last;
    long long kilobytes;
    if (sscanf(line, "%llx-%llx ", &first, &last) == 2) {
      const uint64_t from = first > begin ? first : begin;
      const uint64_t to = last < end ? last : end;
      overlap_bytes = from < to ? (int64_t)(to - from) : 0;
    } else if (sscanf(line, "AnonHugePages: %lld kB", &kilobytes) == 1) {
      huge_bytes = hr_max(huge_bytes, 0);
      huge_bytes += hr_min(kilobytes * 1024, overlap_bytes);
    }
  }
  fclose(smaps);
  return huge_bytes;
}

HR_EXPORT int64_t hr_read_file(const char *path, int64_t offset, int64_t bytes, void *target) {
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return errno;
  int64_t status = 0;
  int64_t done = 0;
  while (done < bytes && status == 0) {
    ssize_t got = pread(file, (char *)target + done, (size_t)hr_min(bytes - done, MOST_READ_BYTES), offset + done);
    if (got > 0)
      done += got;
    else if (got == 0)
      status = -1;
    else if (errno != EINTR)
      status = errno;
  }
  close(file);
  return status;
}

/*
 * hr_alloc, hr_read_file, hr_huge_bytes.
 *
 * A block of memory is mapped_bytes(bytes) long, whether huge or not, and is followed by one page that cannot be
 * touched; hr_free derives the same extent from `bytes`. The page keeps the kernel from merging neighbouring blocks
 * into one mapping, so that /proc/self/smaps counts each block by itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pool.h"

static const int64_t HUGE_PAGE_BYTES = 2 << 20;
static const int64_t MOST_READ_BYTES = 64 << 20;

static int64_t page_bytes(void) { return sysconf(_SC_PAGESIZE); }

static int64_t mapped_bytes(int64_t bytes) {
  return hr_round_up(hr_max(bytes, 1), bytes >= HUGE_PAGE_BYTES / 2 ? HUGE_PAGE_BYTES : page_bytes());
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
  char *guard = kept + kept_bytes;
  if (before_bytes > 0) munmap(all, (size_t)before_bytes);
  if (slack_bytes > before_bytes) munmap(guard + page_bytes(), (size_t)(slack_bytes - before_bytes));
  mprotect(guard, (size_t)page_bytes(), PROT_NONE);
#ifdef MADV_HUGEPAGE
  madvise(kept, (size_t)kept_bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE); /* advice: may be refused */
#endif
  return kept;
}

HR_EXPORT void hr_free(void *memory, int64_t bytes) {
  if (memory) munmap(memory, (size_t)(mapped_bytes(bytes) + page_bytes()));
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

/*
 * Files that rows are read from where they are mapped. Whoever writes to such a file, or cuts it, changes what is read under
 * the reader's hands; and pages past its end are no memory any more. Those become zeros where a read meets them
 * (hr_replace_lost_pages). Whether anything was changed is found when rows have been read: by the file's size, and when its
 * status was changed since, by samples of its content, since that is also so for files that were touched, renamed or linked.
 */
#include "mapped_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "faults.h"
#include "pool.h"

#if defined(__APPLE__)
#define st_ctim st_ctimespec
#endif
#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

enum { SAMPLES = 16, SAMPLE_BYTES = 4096 };
/* Times of files are as coarse as that: a younger one may stand for two changes. */
static const int64_t COARSE_NS = 50000000;

/* The list is read by handlers on any thread: what is in it stays, to be used again. */
struct hr_mapping {
  hr_owned owned;
  hr_mapping *next;
  atomic_uintptr_t begin, end; /* end is 0 while it maps nothing */
  atomic_int changed;
  /* What the file is, and how it was. */
  int file;
  dev_t device;
  ino_t inode;
  int64_t bytes;
  uint64_t samples;
  atomic_int_fast64_t status_ns; /* when its status was changed last, and its content known to be the same; -1: unknown */
};

static _Atomic(hr_mapping *) mappings;
static pthread_mutex_t one_change_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static uintptr_t page_bytes;

static int64_t status_ns(const struct stat *status) {
  return (int64_t)status->st_ctim.tv_sec * 1000000000 + status->st_ctim.tv_nsec;
}

/* When the status was changed, if a later change would be told from it. */
static int64_t settled_ns(const struct stat *status) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  const int64_t changed_ns = status_ns(status);
  const int64_t age_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec - changed_ns;
  return age_ns > -COARSE_NS && age_ns < COARSE_NS ? -1 : changed_ns;
}

/* A hash of SAMPLES pieces of the file, the first and the last bytes among them. What was written to the mapping is not in it. */
static uint64_t hash_samples(int file, int64_t bytes) {
  uint64_t hash = (uint64_t)bytes;
  const int64_t piece_bytes = hr_min(bytes, SAMPLE_BYTES);
  char piece[SAMPLE_BYTES];
  for (int64_t s = 0; s < SAMPLES; s++) {
    const int64_t start = s == SAMPLES - 1 ? bytes - piece_bytes : (bytes - piece_bytes) / (SAMPLES - 1) * s;
    memset(piece, 0, sizeof piece);
    for (int64_t done = 0; done < piece_bytes;) {
      const ssize_t read_bytes = pread(file, piece + done, (size_t)(piece_bytes - done), start + done);
      if (read_bytes <= 0) break; /* it was cut: its size tells */
      done += read_bytes;
    }
    for (int64_t at = 0; at < piece_bytes; at += 8) {
      uint64_t word = 0;
      memcpy(&word, piece + at, (size_t)hr_min(8, piece_bytes - at));
      hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
      hash ^= hash >> 29;
    }
  }
  return hash;
}

/* An unused one, linked in; NULL: no memory. With the mutex held. */
static hr_mapping *unused_mapping(void) {
  for (hr_mapping *known = atomic_load(&mappings); known; known = known->next)
    if (atomic_load(&known->end) == 0) return known;
  hr_mapping *added = calloc(1, sizeof *added);
  if (!added) return NULL;
  added->next = atomic_load(&mappings);
  atomic_store(&mappings, added);
  return added;
}

/* Everybody who maps the same file gets to know. */
static void mark_changed(const hr_mapping *mapping) {
  for (hr_mapping *other = atomic_load(&mappings); other; other = other->next)
    if (atomic_load(&other->end) != 0 && other->device == mapping->device && other->inode == mapping->inode)
      atomic_store(&other->changed, 1);
}

int hr_replace_lost_pages(uintptr_t address) {
  for (hr_mapping *mapping = atomic_load(&mappings); mapping; mapping = mapping->next) {
    const uintptr_t end = atomic_load(&mapping->end);
    if (address >= end || address < atomic_load(&mapping->begin)) continue;
    /* A file is cut at its end: all that follows is lost too, and is replaced as one mapping, of which there are only so many. */
    const uintptr_t page = address & ~(page_bytes - 1);
    const int flags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    if (mmap((void *)page, end - page, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED) return 0;
    mark_changed(mapping);
    return 1;
  }
  return 0;
}

static void give_file_back(void *mapping) { hr_unmap_file(mapping); }

HR_EXPORT hr_mapping *hr_map_file(const char *path, void **memory, int64_t *bytes, int64_t *error) {
  *memory = NULL;
  *bytes = 0;
  *error = 0;
  hr_handle_faults();
  struct stat status;
  hr_mapping *mapping = NULL;
  void *mapped = MAP_FAILED;
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file >= 0 && fstat(file, &status) == 0)
    mapped = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, file, 0);
  if (mapped == MAP_FAILED) *error = errno;
  if (mapped != MAP_FAILED) {
    pthread_mutex_lock(&one_change_at_a_time);
    page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    mapping = unused_mapping();
    if (mapping) {
      mapping->owned = (hr_owned){
          .kind = HR_OWNED_FILE, .amount = status.st_size, .what = mapping, .give_back = give_file_back};
      if (!hr_own(&mapping->owned)) mapping = NULL;
    }
    if (mapping) {
      mapping->file = file;
      mapping->device = status.st_dev;
      mapping->inode = status.st_ino;
      mapping->bytes = status.st_size;
      atomic_store(&mapping->changed, 0);
      atomic_store(&mapping->status_ns, settled_ns(&status));
      atomic_store(&mapping->begin, (uintptr_t)mapped);
      atomic_store(&mapping->end, (uintptr_t)mapped + (uintptr_t)status.st_size);
    }
    pthread_mutex_unlock(&one_change_at_a_time);
    if (!mapping) *error = ENOMEM;
  }
  if (!mapping) {
    if (mapped != MAP_FAILED) munmap(mapped, (size_t)status.st_size);
    if (file >= 0) close(file);
    return NULL;
  }
  *memory = mapped;
  *bytes = mapping->bytes;
  mapping->samples = hash_samples(file, mapping->bytes);
  return mapping;
}

HR_EXPORT void hr_unmap_file(hr_mapping *mapping) {
  if (!mapping) return;
  hr_disown(&mapping->owned);
  pthread_mutex_lock(&one_change_at_a_time);
  atomic_store(&mapping->end, 0);
  munmap((void *)atomic_load(&mapping->begin), (size_t)mapping->bytes);
  close(mapping->file);
  pthread_mutex_unlock(&one_change_at_a_time);
}

HR_EXPORT int64_t hr_make_writable(hr_mapping *mapping, int64_t begin, int64_t bytes) {
  const uintptr_t start = atomic_load(&mapping->begin) + (uintptr_t)begin;
  const uintptr_t page = start & ~(page_bytes - 1);
  return mprotect((void *)page, start + (uintptr_t)bytes - page, PROT_READ | PROT_WRITE) == 0 ? 0 : errno;
}

/* A change of status is looked into by one thread at a time. */
static void look_into(hr_mapping *mapping, const struct stat *status) {
  const int64_t settled = settled_ns(status);
  if (status->st_size != mapping->bytes || hash_samples(mapping->file, mapping->bytes) != mapping->samples)
    mark_changed(mapping);
  else
    atomic_store(&mapping->status_ns, settled);
}

HR_EXPORT int64_t hr_has_file_changed(hr_mapping *mapping) {
  if (atomic_load(&mapping->changed)) return 1;
  struct stat status;
  if (fstat(mapping->file, &status) != 0) return 1; /* it is gone, from a server */
  if (status.st_size == mapping->bytes && status_ns(&status) == atomic_load(&mapping->status_ns)) return 0;
  pthread_mutex_lock(&one_change_at_a_time);
  look_into(mapping, &status);
  pthread_mutex_unlock(&one_change_at_a_time);
  return atomic_load(&mapping->changed);
}

int hr_have_files_changed(const hr_table *tables, int64_t count) {
  hr_mapping *before = NULL;
  for (int64_t t = 0; t < count; t++) {
    if (!tables[t].file || tables[t].file == before) continue;
    before = tables[t].file;
    if (hr_has_file_changed(before)) return 1;
  }
  return 0;
}

/*
 * hr_merge_requests: places first, from the words of all records, then the arrays, table after table. Reads and writes go forward, each
 * element once; integers become narrower or wider on the way, equal types are copied.
 */
#include "pool.h"
#include "request_record.h"

/* Below so many bytes a thread, handing work over costs more than it saves. */
enum { BYTES_OF_THREAD = 1 << 16 };
enum { ALIGNMENT = 16, DONE = 0, NO_ROOM = 1, NOT_CHECKED = 2, TOO_LARGE = 3 };

typedef struct merge {
  const hr_request_model *model;
  const char *const *slots;
  int64_t count;
  char *block;
  hr_merged_batch *merged;
  hr_merged_table *tables;
} merge;

static int64_t users_of(const char *slot) { return hr_request_word(slot, HR_REQUEST_USERS); }
static int64_t samples_of(const char *slot) { return hr_request_word(slot, HR_REQUEST_SAMPLES); }

static int64_t start_of(const char *slot, int64_t user) {
  return hr_load_integer(slot + hr_request_word(slot, HR_REQUEST_STARTS_AT), 4, user);
}

static int64_t index_bytes_of(const hr_request_table *table) { return table->row_count > INT32_MAX ? 8 : 4; }

/* Where bag i ends, which begins at `begin`. */
static inline int64_t end_of_bag(const hr_request_bags *bags, int64_t i, int64_t begin) {
  switch (bags->form) {
    case HR_REQUEST_EVEN: return begin + bags->lookups / bags->bags;
    case HR_REQUEST_OFFSETS:
      return i + 1 == bags->bags ? bags->lookups : hr_load_integer(bags->bounds, bags->bounds_bytes, i + 1);
    case HR_REQUEST_OFFSETS_END: return hr_load_integer(bags->bounds, bags->bounds_bytes, i + 1);
    default: return begin + hr_load_integer(bags->bounds, bags->bounds_bytes, i);
  }
}

/* Lookups of a record's bags per user, each repeated for all candidates of the user. Its bags and samples are below 2^31, lookups below
 * 2^32: no overflow. */
static int64_t repeated_lookups(const char *slot, const hr_request_bags *bags) {
  int64_t lookups = 0;
  int64_t begin = 0;
  for (int64_t u = 0; u < bags->bags; u++) {
    const int64_t end = end_of_bag(bags, u, begin);
    lookups += (end - begin) * (start_of(slot, u + 1) - start_of(slot, u));
    begin = end;
  }
  return lookups;
}

/* Takes `bytes` bytes at the block's end; where they begin. */
static int64_t reserve(hr_merged_batch *merged, int64_t bytes) {
  const int64_t at = merged->bytes;
  merged->bytes = hr_round_up(at + bytes, ALIGNMENT);
  return at;
}

/* Whether all records with users have a bag per user for the table, and there are some. */
static int is_per_user(const merge *work, int64_t t) {
  int some = 0;
  for (int64_t r = 0; r < work->count; r++) {
    if (users_of(work->slots[r]) == 0) continue;
    if (!hr_request_bags_of(work->slots[r], t).per_user) return 0;
    some = 1;
  }
  return some;
}

static int64_t place_table(const merge *work, int64_t t, int64_t samples, int64_t users) {
  hr_merged_table *table = &work->tables[t];
  *table = (hr_merged_table){.weights_at = -1, .per_user = is_per_user(work, t)};
  int weighted = 0;
  for (int64_t r = 0; r < work->count && table->lookups <= INT32_MAX; r++) {
    const hr_request_bags bags = hr_request_bags_of(work->slots[r], t);
    weighted |= bags.weights != NULL;
    table->lookups += bags.per_user && !table->per_user ? repeated_lookups(work->slots[r], &bags) : bags.lookups;
  }
  if (table->lookups > INT32_MAX) return TOO_LARGE;
  table->bags = table->per_user ? users : samples;
  table->indices_at = reserve(work->merged, table->lookups * index_bytes_of(&work->model->tables[t]));
  table->offsets_at = reserve(work->merged, (table->bags + 1) * 4);
  if (weighted) table->weights_at = reserve(work->merged, table->lookups * 4);
  return DONE;
}

static int64_t place_all(const merge *work, int32_t *starts) {
  hr_merged_batch *merged = work->merged;
  *merged = (hr_merged_batch){0};
  int64_t samples = 0;
  int64_t users = 0;
  for (int64_t r = 0; r < work->count; r++) {
    const char *slot = work->slots[r];
    if (hr_request_word(slot, HR_REQUEST_IS_CHECKED) != 1) return NOT_CHECKED;
    starts[r] = (int32_t)samples;
    samples += samples_of(slot);
    users += users_of(slot) > 0 ? users_of(slot) : samples_of(slot);
    if (samples > INT32_MAX || users > INT32_MAX) return TOO_LARGE;
  }
  starts[work->count] = (int32_t)samples;
  merged->samples = samples;
  for (int64_t t = 0; t < work->model->table_count; t++) {
    const int64_t status = place_table(work, t, samples, users);
    if (status != DONE) return status;
    if (work->tables[t].per_user) merged->users = users;
  }
  merged->users_at = reserve(merged, merged->users > 0 ? (users + 1) * 4 : 0);
  merged->dense_at = reserve(merged, samples * work->model->dense_features * 4);
  return DONE;
}

#define DEFINE_CONVERT(name, from_type, to_type)                             \
  static void name(char *to, const char *from, int64_t count) {              \
    for (int64_t i = 0; i < count; i++) {                                    \
      from_type value;                                                       \
      memcpy(&value, from + i * (int64_t)sizeof value, sizeof value);        \
      const to_type own = (to_type)value;                                    \
      memcpy(to + i * (int64_t)sizeof own, &own, sizeof own);                \
    }                                                                        \
  }
DEFINE_CONVERT(narrow, int64_t, int32_t)
DEFINE_CONVERT(widen, int32_t, int64_t)

/* `count` indices of a record from its `first` on. */
static void put_indices(char *restrict to, int64_t to_bytes, const hr_request_bags *bags, int64_t first, int64_t count) {
  const char *from = bags->indices + first * bags->index_bytes;
  if (count <= 0) return;
  if (bags->index_bytes == to_bytes)
    memcpy(to, from, (size_t)(count * to_bytes));
  else if (to_bytes == 4)
    narrow(to, from, count);
  else
    widen(to, from, count);
}

static void put_weights(float *to, const hr_request_bags *bags, int64_t first, int64_t count) {
  if (count <= 0) return;
  if (bags->weights)
    memcpy(to, bags->weights + first * 4, (size_t)count * 4);
  else
    for (int64_t i = 0; i < count; i++) to[i] = 1.0f;
}

#define DEFINE_PUT_OFFSETS(offsets_name, lengths_name, type)                                       \
  static void offsets_name(int32_t *to, const char *offsets, int64_t count, int32_t base) {        \
    for (int64_t i = 0; i < count; i++) {                                                          \
      type value;                                                                                  \
      memcpy(&value, offsets + i * (int64_t)sizeof value, sizeof value);                           \
      to[i] = base + (int32_t)value;                                                               \
    }                                                                                              \
  }                                                                                                \
  static void lengths_name(int32_t *to, const char *lengths, int64_t count, int32_t base) {        \
    for (int64_t i = 0; i < count; i++) {                                                          \
      type value;                                                                                  \
      memcpy(&value, lengths + i * (int64_t)sizeof value, sizeof value);                           \
      to[i] = base;                                                                                \
      base += (int32_t)value;                                                                      \
    }                                                                                              \
  }
DEFINE_PUT_OFFSETS(put_offsets_32, put_lengths_32, int32_t)
DEFINE_PUT_OFFSETS(put_offsets_64, put_lengths_64, int64_t)

/* Where each bag of a record begins. */
static void put_bounds(int32_t *to, const hr_request_bags *bags, int32_t base) {
  const int wide = bags->bounds_bytes == 8;
  if (bags->form == HR_REQUEST_EVEN) {
    const int32_t length = bags->bags == 0 ? 0 : (int32_t)(bags->lookups / bags->bags);
    for (int64_t i = 0; i < bags->bags; i++) to[i] = base + (int32_t)i * length;
  } else if (bags->form == 0) {
    (wide ? put_lengths_64 : put_lengths_32)(to, bags->bounds, bags->bags, base);
  } else {
    (wide ? put_offsets_64 : put_offsets_32)(to, bags->bounds, bags->bags, base);
  }
}

/* The arrays of a merged table, and what is written of them. */
typedef struct table_writer {
  char *indices;
  int64_t index_bytes;
  int32_t *offsets;
  float *weights; /* NULL: none */
  int64_t lookups;
  int64_t bags;
} table_writer;

static void put_lookups(table_writer *writer, const hr_request_bags *bags, int64_t first, int64_t count) {
  put_indices(writer->indices + writer->lookups * writer->index_bytes, writer->index_bytes, bags, first, count);
  if (writer->weights) put_weights(writer->weights + writer->lookups, bags, first, count);
  writer->lookups += count;
}

/* The bag of each user, for each of the user's candidates. */
static void put_repeated(table_writer *writer, const char *slot, const hr_request_bags *bags) {
  int64_t begin = 0;
  for (int64_t u = 0; u < bags->bags; u++) {
    const int64_t end = end_of_bag(bags, u, begin);
    for (int64_t candidates = start_of(slot, u + 1) - start_of(slot, u); candidates > 0; candidates--) {
      writer->offsets[writer->bags++] = (int32_t)writer->lookups;
      put_lookups(writer, bags, begin, end - begin);
    }
    begin = end;
  }
}

static void put_table(const merge *work, int64_t t) {
  const hr_merged_table *table = &work->tables[t];
  table_writer writer = {
      .indices = work->block + table->indices_at,
      .index_bytes = index_bytes_of(&work->model->tables[t]),
      .offsets = (int32_t *)(work->block + table->offsets_at),
      .weights = table->weights_at < 0 ? NULL : (float *)(work->block + table->weights_at),
  };
  for (int64_t r = 0; r < work->count; r++) {
    const hr_request_bags bags = hr_request_bags_of(work->slots[r], t);
    if (bags.per_user && !table->per_user) {
      put_repeated(&writer, work->slots[r], &bags);
      continue;
    }
    put_bounds(writer.offsets + writer.bags, &bags, (int32_t)writer.lookups);
    writer.bags += bags.bags;
    put_lookups(&writer, &bags, 0, bags.lookups);
  }
  writer.offsets[writer.bags] = (int32_t)writer.lookups;
}

static void put_users(const merge *work) {
  if (work->merged->users == 0) return;
  int32_t *to = (int32_t *)(work->block + work->merged->users_at);
  int64_t base = 0;
  for (int64_t r = 0; r < work->count; r++) {
    const char *slot = work->slots[r];
    const int64_t users = users_of(slot);
    const int64_t samples = samples_of(slot);
    if (users > 0)
      for (int64_t u = 0; u < users; u++) *to++ = (int32_t)(base + start_of(slot, u));
    else
      for (int64_t b = 0; b < samples; b++) *to++ = (int32_t)(base + b);
    base += samples;
  }
  *to = (int32_t)base;
}

/* The features of a user, then a candidate's own. */
static char *put_rows_of_users(char *to, const char *slot, int64_t user_bytes, int64_t own_bytes) {
  const char *own = slot + hr_request_word(slot, HR_REQUEST_DENSE_AT);
  const char *user = slot + hr_request_word(slot, HR_REQUEST_USER_DENSE_AT);
  for (int64_t u = 0; u < users_of(slot); u++, user += user_bytes) {
    for (int64_t candidates = start_of(slot, u + 1) - start_of(slot, u); candidates > 0; candidates--) {
      memcpy(to, user, (size_t)user_bytes);
      if (own_bytes > 0) memcpy(to + user_bytes, own, (size_t)own_bytes);
      to += user_bytes + own_bytes;
      own += own_bytes;
    }
  }
  return to;
}

static void put_dense(const merge *work) {
  char *to = work->block + work->merged->dense_at;
  const int64_t row_bytes = work->model->dense_features * 4;
  for (int64_t r = 0; r < work->count; r++) {
    const char *slot = work->slots[r];
    const int64_t user_bytes = hr_request_word(slot, HR_REQUEST_USER_FEATURES) * 4;
    const int64_t bytes = samples_of(slot) * row_bytes;
    if (user_bytes > 0) {
      to = put_rows_of_users(to, slot, user_bytes, row_bytes - user_bytes);
    } else if (bytes > 0) {
      memcpy(to, slot + hr_request_word(slot, HR_REQUEST_DENSE_AT), (size_t)bytes);
      to += bytes;
    }
  }
}

typedef struct parts {
  const merge *work;
  hr_counter next;
} parts;

/* Dense features first, which are the largest part of many batches; then users; then the tables. */
static void put_parts(void *context, int64_t member) {
  (void)member;
  parts *all = context;
  const merge *work = all->work;
  for (;;) {
    const int64_t part = hr_next(&all->next);
    if (part >= work->model->table_count + 2) return;
    if (part == 0)
      put_dense(work);
    else if (part == 1)
      put_users(work);
    else
      put_table(work, part - 2);
  }
}

HR_EXPORT int64_t hr_merge_requests(hr_pool *pool, const hr_request_model *model, const void *const *slots, int64_t count,
                                    void *block, int64_t block_bytes, hr_merged_batch *merged, hr_merged_table *tables,
                                    int32_t *starts) {
  if (!hr_is_request_model(model) || count < 0 || (!slots && count > 0) || !merged || !tables || !starts || block_bytes < 0 ||
      (uintptr_t)block % ALIGNMENT != 0)
    return HR_RUN_BAD_ARGUMENT;
  const merge work = {.model = model,
                      .slots = (const char *const *)slots,
                      .count = count,
                      .block = block,
                      .merged = merged,
                      .tables = tables};
  const int64_t status = place_all(&work, starts);
  if (status != DONE) return status;
  if (!block || merged->bytes > block_bytes) return NO_ROOM;
  parts all = {.work = &work};
  const int64_t threads = pool == NULL ? 1 : hr_threads_for(pool, 0, merged->bytes / BYTES_OF_THREAD);
  if (threads == 1) {
    put_parts(&all, 0);
    return DONE;
  }
  pthread_mutex_lock(&pool->one_run_at_a_time);
  hr_team_run(pool->team, threads, put_parts, &all);
  pthread_mutex_unlock(&pool->one_run_at_a_time);
  return DONE;
}

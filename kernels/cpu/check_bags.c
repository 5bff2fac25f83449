/*
 * HR_OP_CHECK_BAGS. All threads count what is wrong, in loops that the compiler vectorises; only when something is,
 * one thread looks for the first finding, so that the report never depends on the thread count. HR_OP_EMBEDDING_BAGS
 * checks its pieces with the same loop, and leaves its report to the whole check. No value that is read here is used as a place
 * in memory, so the caller's arrays are read where they lie.
 */
#include "faults.h"
#include "operators.h"

enum { CHUNK = 1 << 15 };

typedef struct check_context {
  const hr_op_check_bags *op;
  hr_counter chunks;
  atomic_int_fast64_t bad_indices;
  atomic_int_fast64_t bad_offsets;
  atomic_int arrays_gone;
} check_context;

/* A value v is out of [first, first + limit) exactly when v - first, taken as unsigned, is not below limit. */
#define DEFINE_COUNT_INDICES(name, type, unsigned_type)                                          \
  static int64_t name(const char *indices, int64_t count, unsigned_type first, unsigned_type limit) { \
    unsigned_type bad = 0;                                                                       \
    for (int64_t i = 0; i < count; i++) {                                                        \
      type value;                                                                                \
      memcpy(&value, indices + i * (int64_t)sizeof value, sizeof value);                         \
      bad += (unsigned_type)((unsigned_type)value - first) >= limit;                             \
    }                                                                                            \
    return (int64_t)bad;                                                                         \
  }
DEFINE_COUNT_INDICES(count_bad_int32, int32_t, uint32_t)
DEFINE_COUNT_INDICES(count_bad_int64, int64_t, uint64_t)

/* offsets[first … first + count), first > 0. */
#define DEFINE_COUNT_OFFSETS(name, type)                                                         \
  static int64_t name(const char *offsets, int64_t first, int64_t count, int64_t lookups) {      \
    int64_t bad = 0;                                                                             \
    const char *at = offsets + first * (int64_t)sizeof(type);                                    \
    for (int64_t i = 0; i < count; i++) {                                                        \
      type before, value;                                                                        \
      memcpy(&before, at + (i - 1) * (int64_t)sizeof(type), sizeof(type));                       \
      memcpy(&value, at + i * (int64_t)sizeof(type), sizeof(type));                              \
      bad += (value < before) | (value > lookups);                                               \
    }                                                                                            \
    return bad;                                                                                  \
  }
DEFINE_COUNT_OFFSETS(count_bad_offsets_int32, int32_t)
DEFINE_COUNT_OFFSETS(count_bad_offsets_int64, int64_t)

int64_t HR_NAME(hr_count_bad_indices)(const hr_table *table, const void *indices, int64_t index_bytes, int64_t count) {
  const int64_t first_index = -table->pruned;
  if (index_bytes == 8)
    return count_bad_int64(indices, count, (uint64_t)first_index, (uint64_t)(table->row_count - first_index));
  const int64_t past_int32 = (int64_t)1 << 31;
  const int64_t past_rows = hr_min(table->row_count, past_int32);
  return count_bad_int32(indices, count, (uint32_t)first_index, (uint32_t)(past_rows - first_index));
}

void HR_NAME(hr_repair_indices)(const hr_table *table, void *indices, int64_t index_bytes, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    const int64_t index = hr_load_integer(indices, index_bytes, i);
    if (index < -table->pruned || index >= table->row_count) memset((char *)indices + i * index_bytes, 0, (size_t)index_bytes);
  }
}

static int64_t count_bad_offsets(const hr_bags *bags, int64_t first, int64_t count) {
  int64_t bad = 0;
  if (first == 0 && count > 0) {
    bad = hr_load_integer(bags->offsets, bags->offset_bytes, 0) != 0;
    first++;
    count--;
  }
  if (count <= 0) return bad;
  return bad + (bags->offset_bytes == 8 ? count_bad_offsets_int64(bags->offsets, first, count, bags->lookups)
                                        : count_bad_offsets_int32(bags->offsets, first, count, bags->lookups));
}

static int64_t chunks_of(const hr_bags *bags) {
  return hr_max(1, hr_ceil_div(hr_max(bags->lookups, bags->offset_count), CHUNK));
}

/* Watches all offsets of a table, or all indices. */
static void watch_offsets(hr_guard *guard, const hr_bags *bags) {
  hr_watch(guard, bags->offsets, bags->offset_count * bags->offset_bytes);
}

static void watch_indices(hr_guard *guard, const hr_bags *bags) {
  hr_watch(guard, bags->indices, bags->lookups * bags->index_bytes);
}

static int64_t count_in_indices(hr_guard *guard, const hr_table *table, const hr_bags *bags, int64_t first,
                                int64_t count) {
  watch_indices(guard, bags);
  const char *indices = (const char *)bags->indices + first * bags->index_bytes;
  const int64_t bad = HR_NAME(hr_count_bad_indices)(table, indices, bags->index_bytes, count);
  hr_unwatch(guard);
  return bad;
}

static int64_t count_in_offsets(hr_guard *guard, const hr_bags *bags, int64_t first, int64_t count) {
  watch_offsets(guard, bags);
  const int64_t bad = count_bad_offsets(bags, first, count);
  hr_unwatch(guard);
  return bad;
}

static void check_chunks(void *context, hr_guard *guard) {
  check_context *check = context;
  const hr_op_check_bags *op = check->op;
  int64_t table = 0;
  int64_t first_chunk_of_table = 0;
  int64_t bad_indices = 0;
  int64_t bad_offsets = 0;
  while (table < op->table_count) {
    int64_t chunk = hr_next(&check->chunks);
    while (table < op->table_count && chunk >= first_chunk_of_table + chunks_of(&op->bags[table]))
      first_chunk_of_table += chunks_of(&op->bags[table++]);
    if (table >= op->table_count) break;
    const hr_bags *bags = &op->bags[table];
    int64_t first = (chunk - first_chunk_of_table) * CHUNK;
    if (first < bags->lookups)
      bad_indices += count_in_indices(guard, &op->tables[table], bags, first, hr_min(CHUNK, bags->lookups - first));
    if (first < bags->offset_count)
      bad_offsets += count_in_offsets(guard, bags, first, hr_min(CHUNK, bags->offset_count - first));
  }
  if (bad_indices) atomic_fetch_add(&check->bad_indices, bad_indices);
  if (bad_offsets) atomic_fetch_add(&check->bad_offsets, bad_offsets);
}

static int find_bad_offset(const hr_bags *bags, hr_check_report *report) {
  int64_t before = 0;
  for (int64_t i = 0; i < bags->offset_count; i++) {
    int64_t value = hr_load_integer(bags->offsets, bags->offset_bytes, i);
    int64_t code = HR_BAGS_OK;
    if (i == 0 && value != 0)
      code = HR_BAGS_FIRST_OFFSET_NOT_ZERO;
    else if (value < before)
      code = HR_BAGS_OFFSETS_DECREASE;
    else if (value > bags->lookups)
      code = HR_BAGS_OFFSET_PAST_END;
    if (code != HR_BAGS_OK) {
      report->code = code;
      report->position = i;
      report->value = value;
      report->limit = code == HR_BAGS_OFFSET_PAST_END ? bags->lookups : before;
      return 1;
    }
    before = value;
  }
  return 0;
}

static int find_bad_index(const hr_table *table, const hr_bags *bags, hr_check_report *report) {
  for (int64_t i = 0; i < bags->lookups; i++) {
    int64_t value = hr_load_integer(bags->indices, bags->index_bytes, i);
    if (value >= -table->pruned && value < table->row_count) continue;
    report->code = HR_BAGS_INDEX_OUT_OF_RANGE;
    report->position = i;
    report->value = value;
    report->limit = table->row_count;
    return 1;
  }
  return 0;
}

static void check_guarded(void *context, int64_t member) {
  (void)member;
  check_context *check = context;
  if (!hr_guarded(check_chunks, check)) atomic_store(&check->arrays_gone, 1);
}

static void find_first(void *context, hr_guard *guard) {
  const hr_op_check_bags *op = context;
  for (int64_t t = 0; t < op->table_count; t++) {
    op->report->table = t;
    watch_offsets(guard, &op->bags[t]);
    if (find_bad_offset(&op->bags[t], op->report)) return;
    watch_indices(guard, &op->bags[t]);
    if (find_bad_index(&op->tables[t], &op->bags[t], op->report)) return;
  }
}

int64_t HR_NAME(hr_check_bags)(hr_pool *pool, const hr_op_check_bags *op) {
  hr_check_report *report = op->report;
  memset(report, 0, sizeof *report);
  int64_t chunks = 0;
  for (int64_t t = 0; t < op->table_count; t++) chunks += chunks_of(&op->bags[t]);
  check_context check = {.op = op};
  hr_team_run(pool->team, hr_threads_for(pool, op->threads, chunks / 2), check_guarded, &check);
  if (atomic_load(&check.arrays_gone)) return HR_RUN_ARRAYS_GONE;
  report->bad_indices = atomic_load(&check.bad_indices);
  report->bad_offsets = atomic_load(&check.bad_offsets);
  if (report->bad_indices == 0 && report->bad_offsets == 0) return HR_RUN_DONE;
  return hr_guarded(find_first, (void *)op) ? HR_RUN_DONE : HR_RUN_ARRAYS_GONE;
}

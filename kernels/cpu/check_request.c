/*
 * hr_check_request. Pieces are divided among their tables first, by sums of lengths; then every array of every table is checked as the
 * words stand, whatever wrote them. Values are looked at in loops without exits, which become vector code; only where something is
 * wrong, a second loop looks for the first of it.
 */
#include "request_record.h"

typedef struct request_check {
  const hr_request_model *model;
  char *slot;
  int64_t bytes;
  int64_t header_bytes;
  hr_request_fault *fault;
} request_check;

enum { GOOD = 1, BAD = 0 };

static int fail(const request_check *check, int64_t code, int64_t table, int64_t position, int64_t value, int64_t limit) {
  *check->fault =
      (hr_request_fault){.code = code, .table = table, .position = position, .value = value, .limit = limit};
  return BAD;
}

static int fail_word(const request_check *check, int64_t word) {
  const int64_t table = word < HR_REQUEST_WORDS ? -1 : (word - HR_REQUEST_WORDS) / HR_REQUEST_TABLE_WORDS;
  return fail(check, HR_REQUEST_BAD_HEADER, table, word, hr_request_word(check->slot, word), 0);
}

/* Whether the array that begins where `word` says lies in the slot, behind the header. */
static int check_place(const request_check *check, int64_t word, int64_t bytes) {
  const int64_t at = hr_request_word(check->slot, word);
  if (bytes == 0 || (at >= check->header_bytes && bytes <= check->bytes - at)) return GOOD;
  return fail_word(check, word);
}

/* All lengths or'ed, and their sum; as unsigned, since a negative one shows in the former. */
#define DEFINE_SUM_LENGTHS(name, type)                                       \
  static uint64_t name(const char *lengths, int64_t count, uint64_t *sum) {  \
    type any = 0;                                                            \
    uint64_t total = 0;                                                      \
    for (int64_t i = 0; i < count; i++) {                                    \
      type value;                                                            \
      memcpy(&value, lengths + i * (int64_t)sizeof value, sizeof value);     \
      any |= value;                                                          \
      total += value;                                                        \
    }                                                                        \
    *sum = total;                                                            \
    return any;                                                              \
  }
DEFINE_SUM_LENGTHS(sum_uint32, uint32_t)
DEFINE_SUM_LENGTHS(sum_uint64, uint64_t)

/* The sum of a table's lengths, each of which is in [0, most]; -1: one is not. `most` is below 2^32, as is the number of bags, so that
 * sums do not overflow. */
static int64_t sum_lengths(const request_check *check, int64_t t, const hr_request_bags *bags, int64_t most) {
  uint64_t sum;
  const uint64_t any = bags->bounds_bytes == 8 ? sum_uint64(bags->bounds, bags->bags, &sum)
                                               : sum_uint32(bags->bounds, bags->bags, &sum);
  if (any >> 31 == 0 && sum <= (uint64_t)most) return (int64_t)sum;
  sum = 0;
  for (int64_t i = 0; i < bags->bags; i++) {
    const int64_t value = hr_load_integer(bags->bounds, bags->bounds_bytes, i);
    if (value < 0 || value > most) {
      fail(check, HR_REQUEST_LENGTH_OUT_OF_RANGE, t, i, value, most);
      return -1;
    }
    sum += (uint64_t)value;
  }
  return (int64_t)sum;
}

static int check_lengths_place(const request_check *check, int64_t t, const hr_request_bags *bags) {
  return check_place(check, hr_request_table_word(t, HR_REQUEST_BOUNDS_AT), bags->bags * bags->bounds_bytes);
}

/* Gives each table of the piece that `head` heads its part. */
static int divide_piece(const request_check *check, int64_t head) {
  char *slot = check->slot;
  const hr_request_bags piece = hr_request_bags_of(slot, head);
  const int64_t head_flags = hr_request_table_word(head, HR_REQUEST_FLAGS);
  hr_set_request_word(slot, head_flags, hr_request_word(slot, head_flags) & ~(int64_t)HR_REQUEST_HEADS_PIECE);
  if (!check_place(check, hr_request_table_word(head, HR_REQUEST_INDICES_AT), piece.lookups * piece.index_bytes)) return BAD;
  if (piece.weights && !check_place(check, hr_request_table_word(head, HR_REQUEST_WEIGHTS_AT), piece.lookups * 4)) return BAD;
  int64_t done = 0;
  int64_t t = head;
  for (int64_t steps = 1;; steps++) {
    const int64_t flags_word = hr_request_table_word(t, HR_REQUEST_FLAGS);
    const hr_request_bags bags = hr_request_bags_of(slot, t);
    if (bags.form != 0) return fail_word(check, flags_word);
    if (!check_lengths_place(check, t, &bags)) return BAD;
    const int64_t lookups = sum_lengths(check, t, &bags, piece.lookups);
    if (lookups < 0) return BAD;
    if (lookups > piece.lookups - done) return fail(check, HR_REQUEST_PIECE_SUM, t, -1, done + lookups, piece.lookups);
    hr_set_request_word(slot, hr_request_table_word(t, HR_REQUEST_INDICES_AT), piece.indices - slot + done * piece.index_bytes);
    hr_set_request_word(slot, hr_request_table_word(t, HR_REQUEST_LOOKUPS), lookups);
    hr_set_request_word(slot, hr_request_table_word(t, HR_REQUEST_WEIGHTS_AT), piece.weights ? piece.weights - slot + done * 4 : 0);
    const int64_t flags = hr_request_word(slot, flags_word) & ~(int64_t)HR_REQUEST_INDICES_64;
    hr_set_request_word(slot, flags_word, flags | (piece.index_bytes == 8 ? HR_REQUEST_INDICES_64 : 0));
    done += lookups;
    const int64_t next_word = hr_request_table_word(t, HR_REQUEST_NEXT);
    const int64_t next = hr_request_word(slot, next_word);
    if (next == 0) break;
    if (next > check->model->table_count || steps == check->model->table_count) return fail_word(check, next_word);
    t = next - 1;
  }
  return done == piece.lookups ? GOOD : fail(check, HR_REQUEST_PIECE_SUM, t, -1, done, piece.lookups);
}

static int check_offsets(const request_check *check, int64_t t, const hr_request_bags *bags, int64_t count) {
  int64_t before = 0;
  for (int64_t i = 0; i < count; i++) {
    const int64_t value = hr_load_integer(bags->bounds, bags->bounds_bytes, i);
    if (i == 0 && value != 0) return fail(check, HR_REQUEST_FIRST_OFFSET_NOT_ZERO, t, 0, value, 0);
    if (value < before) return fail(check, HR_REQUEST_OFFSETS_DECREASE, t, i, value, before);
    if (value > bags->lookups) return fail(check, HR_REQUEST_OFFSET_PAST_END, t, i, value, bags->lookups);
    before = value;
  }
  return GOOD;
}

/* Where the last bag ends; -1: the bounds are bad. */
static int64_t check_bounds(const request_check *check, int64_t t, const hr_request_bags *bags) {
  if (bags->form == HR_REQUEST_EVEN) {
    const int64_t rest = bags->bags == 0 ? bags->lookups : bags->lookups % bags->bags;
    if (rest == 0) return bags->lookups;
    fail(check, HR_REQUEST_UNEVEN, t, -1, bags->lookups, bags->bags);
    return -1;
  }
  if (bags->form == 0) {
    if (!check_lengths_place(check, t, bags)) return -1;
    const int64_t sum = sum_lengths(check, t, bags, bags->lookups);
    if (sum == bags->lookups) return sum;
    if (sum >= 0) fail(check, HR_REQUEST_LENGTHS_SUM, t, -1, sum, bags->lookups);
    return -1;
  }
  const int64_t count = bags->bags + (bags->form == HR_REQUEST_OFFSETS_END);
  const int64_t word = hr_request_table_word(t, HR_REQUEST_BOUNDS_AT);
  if (!check_place(check, word, count * bags->bounds_bytes) || !check_offsets(check, t, bags, count)) return -1;
  if (bags->form == HR_REQUEST_OFFSETS_END) return hr_load_integer(bags->bounds, bags->bounds_bytes, count - 1);
  return bags->bags == 0 ? 0 : bags->lookups;
}

/*
 * Not 0 where a value v is out of [first, first + limit): with u = v - first as unsigned, either u or limit - 1 - u has its highest bit
 * then, since limit - 1 has not. No comparisons, so that 64-bit values become vectors on any processor. Kept apart: inlined, gcc 12
 * leaves the loops scalar.
 */
#define DEFINE_ANY_OUTSIDE(name, type)                                                       \
  __attribute__((noinline)) static int name(const char *indices, int64_t count, type first, type limit) { \
    type any = 0;                                                                            \
    for (int64_t i = 0; i < count; i++) {                                                    \
      type value;                                                                            \
      memcpy(&value, indices + i * (int64_t)sizeof value, sizeof value);                     \
      const type above = value - first;                                                      \
      any |= above | (limit - 1 - above);                                                    \
    }                                                                                        \
    return (int)(any >> (8 * sizeof any - 1));                                               \
  }
DEFINE_ANY_OUTSIDE(any_outside_32, uint32_t)
DEFINE_ANY_OUTSIDE(any_outside_64, uint64_t)

static int check_indices(const request_check *check, int64_t t, const hr_request_bags *bags) {
  const hr_request_table *table = &check->model->tables[t];
  const int64_t first = table->pruned ? -1 : 0;
  const int64_t rows = table->row_count;
  if (bags->lookups == 0) return GOOD;
  if (rows > 0) {
    if (bags->index_bytes == 8) {
      if (!any_outside_64(bags->indices, bags->lookups, (uint64_t)first, (uint64_t)(rows - first))) return GOOD;
    } else if (rows <= INT32_MAX) {
      if (!any_outside_32(bags->indices, bags->lookups, (uint32_t)first, (uint32_t)(rows - first))) return GOOD;
    }
  }
  for (int64_t i = 0; i < bags->lookups; i++) {
    const int64_t value = hr_load_integer(bags->indices, bags->index_bytes, i);
    if (value < first || value >= rows) return fail(check, HR_REQUEST_INDEX_OUT_OF_RANGE, t, i, value, rows);
  }
  return GOOD;
}

static int is_form(int64_t form) {
  return form == 0 || form == HR_REQUEST_OFFSETS || form == HR_REQUEST_OFFSETS_END || form == HR_REQUEST_EVEN;
}

static int check_table(const request_check *check, int64_t t) {
  const hr_request_bags bags = hr_request_bags_of(check->slot, t);
  const int64_t flags_word = hr_request_table_word(t, HR_REQUEST_FLAGS);
  const int64_t users = hr_request_word(check->slot, HR_REQUEST_USERS);
  if (hr_request_word(check->slot, flags_word) >= HR_REQUEST_HEADS_PIECE || !is_form(bags.form)) return fail_word(check, flags_word);
  if (bags.per_user && users == 0) return fail_word(check, flags_word);
  if (bags.weights && !check->model->tables[t].takes_weights) return fail(check, HR_REQUEST_WEIGHTS_UNEXPECTED, t, -1, 0, 0);
  if (!check_place(check, hr_request_table_word(t, HR_REQUEST_INDICES_AT), bags.lookups * bags.index_bytes)) return BAD;
  if (bags.weights && !check_place(check, hr_request_table_word(t, HR_REQUEST_WEIGHTS_AT), bags.lookups * 4)) return BAD;
  const int64_t used = check_bounds(check, t, &bags);
  if (used < 0 || !check_indices(check, t, &bags)) return BAD;
  hr_set_request_word(check->slot, hr_request_table_word(t, HR_REQUEST_LOOKUPS), used);
  return GOOD;
}

static int check_users(const request_check *check, int64_t users, int64_t samples) {
  if (!check_place(check, HR_REQUEST_STARTS_AT, (users + 1) * 4)) return BAD;
  const char *starts = check->slot + hr_request_word(check->slot, HR_REQUEST_STARTS_AT);
  int64_t before = 0;
  for (int64_t u = 0; u <= users; u++) {
    const int64_t start = hr_load_integer(starts, 4, u);
    if (u == 0 && start != 0) return fail(check, HR_REQUEST_FIRST_USER_NOT_ZERO, -1, 0, start, 0);
    if (start < before) return fail(check, HR_REQUEST_USERS_DECREASE, -1, u, start, before);
    before = start;
  }
  return before == samples ? GOOD : fail(check, HR_REQUEST_USERS_END, -1, users, before, samples);
}

static int check_all(const request_check *check) {
  const char *slot = check->slot;
  const int64_t samples = hr_request_word(slot, HR_REQUEST_SAMPLES);
  const int64_t users = hr_request_word(slot, HR_REQUEST_USERS);
  const int64_t user_features = hr_request_word(slot, HR_REQUEST_USER_FEATURES);
  const int64_t own_features = check->model->dense_features - user_features;
  if (samples > INT32_MAX) return fail_word(check, HR_REQUEST_SAMPLES);
  if (users > INT32_MAX) return fail_word(check, HR_REQUEST_USERS);
  if (own_features < 0 || (users == 0 && user_features > 0)) return fail_word(check, HR_REQUEST_USER_FEATURES);
  if (!check_place(check, HR_REQUEST_DENSE_AT, samples * own_features * 4)) return BAD;
  if (!check_place(check, HR_REQUEST_USER_DENSE_AT, users * user_features * 4)) return BAD;
  if (users > 0 && !check_users(check, users, samples)) return BAD;
  for (int64_t t = 0; t < check->model->table_count; t++)
    if (hr_request_word(slot, hr_request_table_word(t, HR_REQUEST_FLAGS)) & HR_REQUEST_HEADS_PIECE)
      if (!divide_piece(check, t)) return BAD;
  for (int64_t t = 0; t < check->model->table_count; t++)
    if (!check_table(check, t)) return BAD;
  return GOOD;
}

HR_EXPORT int64_t hr_check_request(const hr_request_model *model, void *slot, int64_t bytes, hr_request_fault *fault) {
  if (!hr_is_request_model(model) || !slot || !fault || bytes > UINT32_MAX) return HR_RUN_BAD_ARGUMENT;
  const int64_t header_bytes = 4 * hr_request_table_word(model->table_count, 0);
  if (bytes < header_bytes) return HR_RUN_BAD_ARGUMENT;
  const request_check check = {.model = model, .slot = slot, .bytes = bytes, .header_bytes = header_bytes, .fault = fault};
  *fault = (hr_request_fault){.code = HR_REQUEST_OK, .table = -1, .position = -1};
  hr_set_request_word(slot, HR_REQUEST_IS_CHECKED, 0);
  if (!check_all(&check)) return 1;
  hr_set_request_word(slot, HR_REQUEST_IS_CHECKED, 1);
  return 0;
}

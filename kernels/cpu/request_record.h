/* How a request record is read: its words, and its arrays as the words say. Nothing is checked here. */
#ifndef HOTROW_REQUEST_RECORD_H
#define HOTROW_REQUEST_RECORD_H

#include "pool.h"

static inline int64_t hr_request_word(const char *slot, int64_t word) {
  uint32_t value;
  memcpy(&value, slot + 4 * word, 4);
  return value;
}

static inline void hr_set_request_word(char *slot, int64_t word, int64_t value) {
  const uint32_t own = (uint32_t)value;
  memcpy(slot + 4 * word, &own, 4);
}

/* The place among the slot's words of a word of table t. */
static inline int64_t hr_request_table_word(int64_t t, int64_t word) {
  return HR_REQUEST_WORDS + t * HR_REQUEST_TABLE_WORDS + word;
}

/* The bags of one table, of one record. */
typedef struct hr_request_bags {
  const char *indices;
  const char *bounds;
  const char *weights; /* NULL: none */
  int64_t index_bytes;
  int64_t bounds_bytes;
  int64_t lookups;
  int64_t bags;
  int64_t per_user;
  int64_t form;        /* HR_REQUEST_OFFSETS, HR_REQUEST_OFFSETS_END, HR_REQUEST_EVEN; 0: lengths */
} hr_request_bags;

static inline hr_request_bags hr_request_bags_of(const char *slot, int64_t t) {
  const int64_t flags = hr_request_word(slot, hr_request_table_word(t, HR_REQUEST_FLAGS));
  const int64_t weights_at = hr_request_word(slot, hr_request_table_word(t, HR_REQUEST_WEIGHTS_AT));
  const int64_t per_user = (flags & HR_REQUEST_PER_USER) != 0;
  return (hr_request_bags){
      .indices = slot + hr_request_word(slot, hr_request_table_word(t, HR_REQUEST_INDICES_AT)),
      .bounds = slot + hr_request_word(slot, hr_request_table_word(t, HR_REQUEST_BOUNDS_AT)),
      .weights = weights_at == 0 ? NULL : slot + weights_at,
      .index_bytes = flags & HR_REQUEST_INDICES_64 ? 8 : 4,
      .bounds_bytes = flags & HR_REQUEST_BOUNDS_64 ? 8 : 4,
      .lookups = hr_request_word(slot, hr_request_table_word(t, HR_REQUEST_LOOKUPS)),
      .bags = hr_request_word(slot, per_user ? HR_REQUEST_USERS : HR_REQUEST_SAMPLES),
      .per_user = per_user,
      .form = flags & (HR_REQUEST_OFFSETS | HR_REQUEST_OFFSETS_END | HR_REQUEST_EVEN),
  };
}

/* Whether a model's numbers are such that no size in a slot overflows. */
static inline int hr_is_request_model(const hr_request_model *model) {
  const int64_t most = (int64_t)1 << 24;
  return model && model->table_count >= 0 && model->table_count <= most && (model->tables || model->table_count == 0) &&
         model->dense_features >= 0 && model->dense_features <= most;
}

#endif

/* hr_find_long_bags. */
#include "pool.h"

/* Whether a difference of neighbours, each clamped to [0, lookups], is more than `split`. Without early exits, so that it
 * becomes vector code. */
#define DEFINE_STEPS_OVER(name, type)                                                                                   \
  static int name(const type *offsets, int64_t count, type lookups, type split) {                                      \
    int over = 0;                                                                                                      \
    for (int64_t i = 0; i + 1 < count; i++) {                                                                          \
      type begin = offsets[i], end = offsets[i + 1];                                                                   \
      begin = begin < 0 ? 0 : begin > lookups ? lookups : begin;                                                       \
      end = end < 0 ? 0 : end > lookups ? lookups : end;                                                               \
      over |= end - begin > split;                                                                                     \
    }                                                                                                                  \
    return over;                                                                                                       \
  }
DEFINE_STEPS_OVER(steps_over_32, int32_t)
DEFINE_STEPS_OVER(steps_over_64, int64_t)

static int64_t offset_at(const hr_bag_offsets *table, int64_t i) {
  int64_t offset = table->offset_bytes == 4 ? ((const int32_t *)table->offsets)[i] : ((const int64_t *)table->offsets)[i];
  return offset < 0 ? 0 : hr_min(offset, table->lookups);
}

static int has_long_bag(const hr_bag_offsets *table, int64_t batch, int64_t split) {
  if (batch == 0 || table->lookups <= split) return 0;
  /* The last bag ends at the end of the lookups where no offset says so. */
  if (table->count == batch && table->lookups - offset_at(table, batch - 1) > split) return 1;
  const int64_t most = INT32_MAX;
  return table->offset_bytes == 4
             ? steps_over_32(table->offsets, table->count, (int32_t)hr_min(table->lookups, most), (int32_t)hr_min(split, most))
             : steps_over_64(table->offsets, table->count, table->lookups, split);
}

HR_EXPORT void hr_find_long_bags(const hr_bag_offsets *tables, int64_t count, int64_t batch, int64_t split, uint8_t *found) {
  for (int64_t t = 0; t < count; t++) found[t] = (uint8_t)has_long_bag(&tables[t], batch, split);
}

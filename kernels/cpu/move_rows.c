/* Rows of a table by their numbers: new values for them, and what they hold. Whoever calls keeps readers away meanwhile. */
#include <string.h>

#include "pool.h"

HR_EXPORT int64_t hr_update_rows(const hr_row_move *move) {
  for (int64_t i = 0; i < move->count; i++) {
    const int64_t row = move->numbers[i];
    if (row < 0 || row >= move->row_count) continue;
    char *to = (char *)move->rows + row * move->row_bytes;
    memcpy(to, (const char *)move->values + i * move->row_bytes, (size_t)move->row_bytes);
  }
  return 0;
}

HR_EXPORT int64_t hr_read_rows(const hr_row_move *move) {
  for (int64_t i = 0; i < move->count; i++) {
    const int64_t row = move->numbers[i];
    if (row < 0 || row >= move->row_count) continue;
    const char *from = (const char *)move->rows + row * move->row_bytes;
    memcpy((char *)move->values + i * move->row_bytes, from, (size_t)move->row_bytes);
  }
  return 0;
}

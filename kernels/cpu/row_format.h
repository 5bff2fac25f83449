/* What hotrow_cpu.h's list says of a row format. Constants wherever `row_format` is one. */
#ifndef HOTROW_ROW_FORMAT_H
#define HOTROW_ROW_FORMAT_H

#include "hotrow_cpu.h"

/* Bits of an element. */
static inline int64_t hr_row_bits(int64_t row_format) {
#define HR_BITS_CASE(_, name, number, bits, header_bytes) \
  case number: return bits;
  switch (row_format) { HR_FOR_EACH_ROW_FORMAT(HR_BITS_CASE, _) }
#undef HR_BITS_CASE
  return 0;
}

/* Bytes before the first element. */
static inline int64_t hr_row_header(int64_t row_format) {
#define HR_HEADER_CASE(_, name, number, bits, header_bytes) \
  case number: return header_bytes;
  switch (row_format) { HR_FOR_EACH_ROW_FORMAT(HR_HEADER_CASE, _) }
#undef HR_HEADER_CASE
  return 0;
}

#endif

/*
 * Where rows lie: the one place where kernels know. A table's rows lie one behind the other, `stride` bytes apart, and where
 * they are scaled their headers, a word each, behind the last one (rows.cuh). V::wide_rows: row numbers may need more than
 * 32 bits.
 * A stride is less than 2^32; a narrow one is multiplied sooner.
 */
#ifndef HOTROW_ROW_ADDRESS_CUH
#define HOTROW_ROW_ADDRESS_CUH

#include "rows.cuh"

namespace hotrow {

/* For kernels that are not compiled for a table. */
struct AnyRows {
  static constexpr bool wide_rows = true;
};

/* Row `row`, or a byte of it: `first` is row 0, or that byte of it. */
template <class V, class Stride>
__device__ __forceinline__ const char *row_address(const char *first, RowNumber<V> row, Stride stride) {
  if constexpr (V::wide_rows) return first + row * stride;
  return first + ptx::multiply_wide(static_cast<uint32>(row), stride);
}

/* The headers of scaled rows, by the rows' numbers, behind `row_bytes` bytes of rows. */
__device__ __forceinline__ const uint32 *row_headers(const char *rows, uint64 row_bytes) {
  return reinterpret_cast<const uint32 *>(rows + row_bytes);
}

} // namespace hotrow

#endif

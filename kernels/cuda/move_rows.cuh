/*
 * Rows of a table by their numbers.
 *
 *   hotrow_update_rows  rows[numbers[i]] = values[i]
 *   hotrow_read_rows    values[i] = rows[numbers[i]]
 *
 * `values` has rows as files have them: where they are scaled, the header in front. Threads stride over words, so any
 * one-dimensional grid is correct. No number of an update comes twice.
 */
#ifndef HOTROW_MOVE_ROWS_CUH
#define HOTROW_MOVE_ROWS_CUH

#include "row_address.cuh"

namespace hotrow {

/* Every field is 8 bytes wide. */
struct MoveRowsParams {
  void *rows;              /* [row_count], row_stride_bytes each; then, where header_bytes is not 0, [row_count] headers */
  int64 row_count;
  int64 row_stride_bytes;  /* < 2^32 */
  int64 header_bytes;      /* 0 or 4 */
  int64 element_bytes;     /* of a row's elements, whole words */
  int64 word_bytes;        /* what is moved at once: 2 or 4 */
  const int64 *numbers;    /* [count]; numbers outside [0, row_count) are left out */
  int64 count;
  void *values;            /* [count, value_stride_bytes] */
  int64 value_stride_bytes;
};

namespace move {

/* Calls copy(in the table, among the values) for every word of every listed row. */
template <class Word, class Copy>
__device__ __forceinline__ void for_each_word(const MoveRowsParams &params, Copy copy) {
  const uint64 element_words = static_cast<uint64>(params.element_bytes) / sizeof(Word);
  const uint64 header_words = static_cast<uint64>(params.header_bytes) / sizeof(Word);
  const uint64 row_words = header_words + element_words;
  const uint64 row_stride = static_cast<uint64>(params.row_stride_bytes);
  char *rows = static_cast<char *>(params.rows);
  const uint64 stride = static_cast<uint64>(gridDim.x) * blockDim.x;
  const uint64 words = static_cast<uint64>(params.count) * row_words;
  for (uint64 i = static_cast<uint64>(blockIdx.x) * blockDim.x + threadIdx.x; i < words; i += stride) {
    const uint64 place = i / row_words;
    const uint64 word = i - place * row_words;
    const uint64 row = static_cast<uint64>(ptx::load_read_only(params.numbers + place));
    if (row >= static_cast<uint64>(params.row_count)) continue;
    const char *at;
    if (word < header_words)
      at = reinterpret_cast<const char *>(row_headers(rows, static_cast<uint64>(params.row_count) * row_stride) + row) + word * sizeof(Word);
    else
      at = row_address<AnyRows>(rows, row, row_stride) + (word - header_words) * sizeof(Word);
    char *value = static_cast<char *>(params.values) + place * static_cast<uint64>(params.value_stride_bytes);
    copy(reinterpret_cast<Word *>(const_cast<char *>(at)), reinterpret_cast<Word *>(value) + word);
  }
}

} // namespace move

__device__ __forceinline__ void update_rows(const MoveRowsParams &params) {
  if (params.word_bytes == 2)
    move::for_each_word<unsigned short>(params, [](unsigned short *row, unsigned short *value) { ptx::store(row, ptx::load(value)); });
  else
    move::for_each_word<uint32>(params, [](uint32 *row, uint32 *value) { ptx::store(row, ptx::load(value)); });
}

__device__ __forceinline__ void read_rows(const MoveRowsParams &params) {
  if (params.word_bytes == 2)
    move::for_each_word<unsigned short>(params, [](unsigned short *row, unsigned short *value) { ptx::store(value, ptx::load(row)); });
  else
    move::for_each_word<uint32>(params, [](uint32 *row, uint32 *value) { ptx::store(value, ptx::load(row)); });
}

} // namespace hotrow

#endif

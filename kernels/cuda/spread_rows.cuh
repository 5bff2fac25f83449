/*
 * Rows of users to the rows of their candidates:
 *
 *   output[b, to(s) + c] = input[users[b], from(s) + c]   for every span s, c in [0, columns(s)), b in [0, rows)
 *
 * A span is a stretch of columns. What else there is of the output stays. Elements have 1, 2 or 4 bytes and are copied as they
 * are: 16 bytes at a time where a span is aligned to them on both sides.
 *
 * Grid (x, y): blocks stride over spans along y, over their elements along x; block (x, y) as for_each_pack has it.
 */
#ifndef HOTROW_SPREAD_ROWS_CUH
#define HOTROW_SPREAD_ROWS_CUH

#include "pack.cuh"

namespace hotrow {

/* Every field of both structs is 8 bytes wide. */
struct ColumnSpan {
  int64 from;
  int64 to;
  int64 columns;
};

struct SpreadRowsParams {
  const char *input;       /* [users, input_stride] */
  int64 input_stride;      /* strides and spans are in elements */
  char *output;            /* [rows, output_stride] */
  int64 output_stride;
  int64 element_bytes;     /* 1, 2 or 4 */
  const int *users;        /* [rows] */
  int64 rows;
  const ColumnSpan *spans; /* [span_count] */
  int64 span_count;
};

namespace spread {

/* A struct and not a lambda, which NVRTC may take for host code. Strides in bytes. */
template <class Word>
struct CopyWord {
  const char *input;
  int64 input_stride;
  char *output;
  int64 output_stride;
  const int *users;
  __device__ __forceinline__ void operator()(int64 row, int64 column) const {
    const int64 user = ptx::load_read_only(users + row);
    const char *from = input + user * input_stride;
    char *to = output + row * output_stride;
    ptx::store(reinterpret_cast<Word *>(to) + column, ptx::load(reinterpret_cast<const Word *>(from) + column));
  }
};

template <class Word>
__device__ __forceinline__ void copy_span(const SpreadRowsParams &params, const char *input, char *output, int64 bytes) {
  const CopyWord<Word> copy{input, params.input_stride * params.element_bytes, output,
                            params.output_stride * params.element_bytes, params.users};
  for_each_pack<1>(params.rows, bytes / static_cast<int64>(sizeof(Word)), copy);
}

} // namespace spread

__device__ __forceinline__ void spread_rows(const SpreadRowsParams &params) {
  using namespace spread;
  for (int64 s = blockIdx.y; s < params.span_count; s += gridDim.y) {
    const ColumnSpan *span = params.spans + s;
    const char *input = params.input + ptx::load_read_only(&span->from) * params.element_bytes;
    char *output = params.output + ptx::load_read_only(&span->to) * params.element_bytes;
    const int64 bytes = ptx::load_read_only(&span->columns) * params.element_bytes;
    const uint64 strides = static_cast<uint64>((params.input_stride | params.output_stride) * params.element_bytes);
    const uint64 all = reinterpret_cast<uint64>(input) | reinterpret_cast<uint64>(output) | strides | static_cast<uint64>(bytes);
    if (all % 16 == 0) copy_span<Pack<uint32, 4>>(params, input, output, bytes);
    else if (all % 4 == 0) copy_span<uint32>(params, input, output, bytes);
    else if (all % 2 == 0) copy_span<unsigned short>(params, input, output, bytes);
    else copy_span<unsigned char>(params, input, output, bytes);
  }
}

} // namespace hotrow

#endif

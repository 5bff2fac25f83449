/* HR_OP_COPY, and copies of host memory. What they read may be a caller's, and go away. */
#include <stdlib.h>
#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include "faults.h"
#include "pool.h"

enum { TASK_BYTES = 1 << 17 };

typedef struct copy_context {
  const hr_op_copy *op;
  int64_t task_rows;
  hr_counter tasks;
  atomic_int arrays_gone;
} copy_context;

/* To nearest even. NaN stays NaN. */
static inline uint16_t narrow_to_bfloat16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  if (value != value) return 0x7fc0;
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline uint16_t narrow_to_float16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00);
  if (magnitude >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
  if (magnitude < 0x38800000) {
    /* Subnormal: adding 0.5 leaves the value in units of 2^-24, rounded, in the low bits. */
    float size;
    memcpy(&size, &magnitude, 4);
    size += 0.5f;
    memcpy(&bits, &size, 4);
    return (uint16_t)(sign | (bits - 0x3f000000));
  }
  return (uint16_t)(sign | ((magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13));
}

static void copy_row(const hr_op_copy *op, int64_t row) {
  const char *input = (const char *)op->input + row * op->input_stride * op->element_bytes;
  if (op->narrow_to == HR_FLOAT32) {
    memcpy((char *)op->output + row * op->output_stride * op->element_bytes, input, (size_t)(op->cols * op->element_bytes));
    return;
  }
  const float *from = (const float *)input;
  uint16_t *to = (uint16_t *)op->output + row * op->output_stride;
  if (op->narrow_to == HR_FLOAT16)
    for (int64_t c = 0; c < op->cols; c++) to[c] = narrow_to_float16(from[c]);
  else
    for (int64_t c = 0; c < op->cols; c++) to[c] = narrow_to_bfloat16(from[c]);
}

static void copy_rows(void *context, hr_guard *guard) {
  copy_context *copy = context;
  const hr_op_copy *op = copy->op;
  hr_watch(guard, op->input, ((op->rows - 1) * op->input_stride + op->cols) * op->element_bytes);
  for (;;) {
    int64_t first = hr_next(&copy->tasks) * copy->task_rows;
    if (first >= op->rows) return;
    for (int64_t r = first; r < hr_min(first + copy->task_rows, op->rows); r++) copy_row(op, r);
  }
}

static void copy_guarded(void *context, int64_t member) {
  (void)member;
  copy_context *copy = context;
  if (!hr_guarded(copy_rows, copy)) atomic_store(&copy->arrays_gone, 1);
}

int64_t hr_copy(hr_pool *pool, const hr_op_copy *op) {
  if (op->rows == 0 || op->cols == 0) return HR_RUN_DONE;
  copy_context copy = {.op = op, .task_rows = hr_max(1, TASK_BYTES / 4 / op->cols)};
  int64_t tasks = hr_ceil_div(op->rows, copy.task_rows);
  hr_team_run(pool->team, hr_threads_for(pool, op->threads, tasks), copy_guarded, &copy);
  return atomic_load(&copy.arrays_gone) ? HR_RUN_ARRAYS_GONE : HR_RUN_DONE;
}

enum { PIECE_BYTES = 1 << 18 };

typedef struct host_copies {
  const hr_host_copy *copies;
  int64_t count;
  /* Pieces of the copies before each, [count + 1]. */
  const int64_t *pieces_before;
  hr_counter pieces;
  atomic_int arrays_gone;
} host_copies;

/* Copies what the processor will not read soon: past its caches, so that the target's old lines are not read first. */
static void stream_copy(char *target, const char *source, int64_t bytes) {
  int64_t done = 0;
#if defined(__x86_64__)
  enum { LINE_BYTES = 64, VECTOR_BYTES = 16 };
  done = hr_min(bytes, -(int64_t)(uintptr_t)target & (LINE_BYTES - 1));
  memcpy(target, source, (size_t)done);
  for (; done + LINE_BYTES <= bytes; done += LINE_BYTES)
    for (int64_t at = done; at < done + LINE_BYTES; at += VECTOR_BYTES)
      _mm_stream_si128((__m128i *)(target + at), _mm_loadu_si128((const __m128i *)(source + at)));
  _mm_sfence();
#endif
  memcpy(target + done, source + done, (size_t)(bytes - done));
}

/* Rows [first, first + count) of a copy. */
static void copy_some_rows(const hr_host_copy *copy, int64_t first, int64_t count) {
  for (int64_t row = first; row < first + count; row++)
    memcpy((char *)copy->target + row * copy->target_stride, (const char *)copy->source + row * copy->source_stride,
           (size_t)copy->row_bytes);
}

/* Of one row a piece is a part, of several as many whole rows as it holds. */
static int64_t rows_of_piece(const hr_host_copy *copy) { return hr_max(1, PIECE_BYTES / copy->row_bytes); }

static int64_t pieces_of(const hr_host_copy *copy) {
  if (copy->rows == 0 || copy->row_bytes == 0) return 0;
  return copy->rows == 1 ? hr_ceil_div(copy->row_bytes, PIECE_BYTES) : hr_ceil_div(copy->rows, rows_of_piece(copy));
}

static void copy_piece(const hr_host_copy *copy, int64_t piece) {
  if (copy->rows == 1) {
    const int64_t start = piece * PIECE_BYTES;
    const int64_t bytes = hr_min(PIECE_BYTES, copy->row_bytes - start);
    stream_copy((char *)copy->target + start, (const char *)copy->source + start, bytes);
    return;
  }
  const int64_t count = rows_of_piece(copy), first = piece * count;
  copy_some_rows(copy, first, hr_min(count, copy->rows - first));
}

static void copy_pieces(void *context, hr_guard *guard) {
  host_copies *all = context;
  int64_t c = 0;
  for (;;) {
    int64_t piece = hr_next(&all->pieces);
    /* A member's pieces only ever follow one another. */
    while (c < all->count && piece >= all->pieces_before[c + 1]) c++;
    if (c == all->count) return;
    const hr_host_copy *copy = &all->copies[c];
    hr_watch(guard, copy->source, (copy->rows - 1) * copy->source_stride + copy->row_bytes);
    copy_piece(copy, piece - all->pieces_before[c]);
  }
}

static void copy_pieces_guarded(void *context, int64_t member) {
  (void)member;
  host_copies *all = context;
  if (!hr_guarded(copy_pieces, all)) atomic_store(&all->arrays_gone, 1);
}

HR_EXPORT int64_t hr_copy_all(hr_pool *pool, const hr_host_copy *copies, int64_t count) {
  if (pool == NULL) {
    for (int64_t c = 0; c < count; c++) copy_some_rows(&copies[c], 0, copies[c].rows);
    return HR_RUN_DONE;
  }
  int64_t *pieces_before = malloc((size_t)(count + 1) * sizeof *pieces_before);
  if (pieces_before == NULL) return HR_RUN_NO_MEMORY;
  pieces_before[0] = 0;
  for (int64_t c = 0; c < count; c++)
    pieces_before[c + 1] = pieces_before[c] + pieces_of(&copies[c]);
  host_copies all = {.copies = copies, .count = count, .pieces_before = pieces_before};
  pthread_mutex_lock(&pool->one_run_at_a_time);
  hr_team_run(pool->team, hr_threads_for(pool, 0, pieces_before[count]), copy_pieces_guarded, &all);
  pthread_mutex_unlock(&pool->one_run_at_a_time);
  free(pieces_before);
  return atomic_load(&all.arrays_gone) ? HR_RUN_ARRAYS_GONE : HR_RUN_DONE;
}

/* HR_OP_SPREAD_ROWS. The output's rows are cut into tasks of about equal bytes; each finds its first row's place in `starts`. */
#include "pool.h"

enum { TASK_BYTES = 1 << 17 };

typedef struct spread_context {
  const hr_op_spread_rows *op;
  int64_t rows;
  int64_t task_rows;
  hr_counter tasks;
} spread_context;

/* The input's row that goes to row `row` of the output: the last one that starts there or before. */
static int64_t source_of(const hr_op_spread_rows *op, int64_t row) {
  int64_t low = 0;
  int64_t high = op->count;
  while (high - low > 1) {
    int64_t middle = low + (high - low) / 2;
    if (hr_load_integer(op->starts, 4, middle) <= row)
      low = middle;
    else
      high = middle;
  }
  return low;
}

static void copy_spans(const hr_op_spread_rows *op, int64_t source, int64_t row) {
  const float *from = op->input + source * op->input_stride;
  float *to = op->output + row * op->output_stride;
  for (int64_t s = 0; s < op->span_count; s++) {
    const hr_span *span = &op->spans[s];
    memcpy(to + span->to, from + span->from, (size_t)span->columns * sizeof *to);
  }
}

static void spread_tasks(void *context, int64_t member) {
  (void)member;
  spread_context *spread = context;
  const hr_op_spread_rows *op = spread->op;
  for (;;) {
    int64_t first = hr_next(&spread->tasks) * spread->task_rows;
    if (first >= spread->rows) return;
    int64_t last = hr_min(first + spread->task_rows, spread->rows);
    int64_t source = source_of(op, first);
    for (int64_t row = first; row < last; row++) {
      while (hr_load_integer(op->starts, 4, source + 1) <= row) source++;
      copy_spans(op, source, row);
    }
  }
}

int64_t hr_spread_rows(hr_pool *pool, const hr_op_spread_rows *op) {
  if (op->count == 0 || op->span_count == 0) return HR_RUN_DONE;
  int64_t columns = 0;
  for (int64_t s = 0; s < op->span_count; s++) columns += op->spans[s].columns;
  spread_context spread = {
      .op = op,
      .rows = hr_load_integer(op->starts, 4, op->count),
      .task_rows = hr_max(1, TASK_BYTES / (int64_t)sizeof(float) / hr_max(1, columns)),
  };
  int64_t tasks = hr_ceil_div(spread.rows, spread.task_rows);
  hr_team_run(pool->team, hr_threads_for(pool, op->threads, tasks), spread_tasks, &spread);
  return HR_RUN_DONE;
}

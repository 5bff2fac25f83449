/* HR_OP_COPY. */
#include "pool.h"

enum { TASK_BYTES = 1 << 17 };

typedef struct copy_context {
  const hr_op_copy *op;
  int64_t task_rows;
  hr_counter tasks;
} copy_context;

static void copy_rows(void *context, int64_t member) {
  (void)member;
  copy_context *copy = context;
  const hr_op_copy *op = copy->op;
  for (;;) {
    int64_t first = hr_next(&copy->tasks) * copy->task_rows;
    if (first >= op->rows) return;
    for (int64_t r = first; r < hr_min(first + copy->task_rows, op->rows); r++)
      memcpy(op->output + r * op->output_stride, op->input + r * op->input_stride, (size_t)op->cols * 4);
  }
}

int64_t hr_copy(hr_pool *pool, const hr_op_copy *op) {
  if (op->rows == 0 || op->cols == 0) return HR_RUN_DONE;
  copy_context copy = {.op = op, .task_rows = hr_max(1, TASK_BYTES / 4 / op->cols)};
  int64_t tasks = hr_ceil_div(op->rows, copy.task_rows);
  hr_team_run(pool->team, hr_threads_for(pool, op->threads, tasks), copy_rows, &copy);
  return HR_RUN_DONE;
}

/* HR_OP_ROW_FUNCTION: rows are shared by the threads in pieces; each row is computed by one. */
#include "row_functions.h"

#include "factorization_machine.h"
#include "operators.h"

enum { TASK_ELEMENTS = 1 << 14 };

typedef struct row_context {
  const hr_op_row_function *op;
  int64_t task_rows;
  hr_counter tasks;
} row_context;

static void run_row(const hr_op_row_function *op, const float *row, float *output) {
  enum {
#define HR_NUMBER(name) NUMBER_##name,
    HR_FOR_EACH_ROW_FUNCTION(HR_NUMBER)
  };
  switch (op->function) {
#define HR_CASE(name) \
  case NUMBER_##name: name(row, op->columns, output); break;
    HR_FOR_EACH_ROW_FUNCTION(HR_CASE)
  }
}

static void run_rows(void *context, int64_t member) {
  (void)member;
  row_context *rows = context;
  const hr_op_row_function *op = rows->op;
  for (;;) {
    const int64_t first = hr_next(&rows->tasks) * rows->task_rows;
    if (first >= op->batch) return;
    for (int64_t r = first; r < hr_min(first + rows->task_rows, op->batch); r++)
      run_row(op, op->input + r * op->input_stride, op->output + r * op->output_stride);
  }
}

int64_t HR_NAME(hr_row_function)(hr_pool *pool, const hr_op_row_function *op) {
  if (op->batch == 0) return HR_RUN_DONE;
  row_context rows = {.op = op, .task_rows = hr_max(1, TASK_ELEMENTS / hr_max(1, op->columns))};
  const int64_t tasks = hr_ceil_div(op->batch, rows.task_rows);
  hr_team_run(pool->team, hr_threads_for(pool, op->threads, tasks), run_rows, &rows);
  return HR_RUN_DONE;
}

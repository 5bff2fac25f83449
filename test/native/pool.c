/* The thread pool and the operators on it, for the thread sanitizer: scripts/sanitize.mjs builds this with the library's files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../kernels/cpu/hotrow_cpu.h"

enum { ROWS = 500, DIM = 16, BATCH = 400, BAG = 40, THREADS = 4, RUNS = 40 };

static float rows[ROWS * DIM], output[BATCH * DIM], copied[BATCH * DIM];
static int32_t indices[BATCH * BAG], offsets[BATCH];

static int check(int is_right, const char *what) {
  if (!is_right) fprintf(stderr, "pool.c: %s\n", what);
  return !is_right;
}

/* Lists of two operators, of as many threads as there are and fewer, and copies of memory between them. */
static int run_lists(hr_pool *pool) {
  hr_table table = {.rows = rows, .row_count = ROWS, .dim = DIM, .row_stride_bytes = DIM * 4, .padding_index = -1};
  hr_bags bags = {.indices = indices, .offsets = offsets, .index_bytes = 4, .offset_bytes = 4, .lookups = BATCH * BAG,
                  .offset_count = BATCH};
  hr_check_report report;
  int wrong = 0;
  for (int run = 0; run < RUNS; run++) {
    int64_t operators[2][HR_OP_WORDS] = {{0}};
    hr_op_embedding_bags pooling = {.kind = HR_OP_EMBEDDING_BAGS, .threads = run % (THREADS + 1), .tables = &table, .bags = &bags,
                                    .table_count = 1, .batch = BATCH, .output = output, .output_stride = DIM,
                                    .stop_report = &report};
    hr_op_copy copy = {.kind = HR_OP_COPY, .threads = 0, .input = output, .input_stride = DIM, .output = copied,
                       .output_stride = DIM, .rows = BATCH, .cols = DIM, .element_bytes = 4};
    memcpy(operators[0], &pooling, sizeof pooling);
    memcpy(operators[1], &copy, sizeof copy);
    indices[7] = run % 8 == 7 ? ROWS : 1; /* every eighth is bad */
    const int64_t status = hr_run(pool, operators, 2, NULL);
    wrong += check(status == (run % 8 == 7), "a wrong status");
    if (status == 0) wrong += check(memcmp(output, copied, sizeof output) == 0, "a wrong copy");
    const hr_host_copy whole = {.target = copied, .source = rows, .rows = 1, .row_bytes = sizeof rows < sizeof copied ? sizeof rows : sizeof copied};
    wrong += check(hr_copy_all(pool, &whole, 1) == 0, "a copy failed");
  }
  return wrong;
}

int main(void) {
  for (int i = 0; i < BATCH * BAG; i++) indices[i] = i * 7 % ROWS;
  for (int i = 0; i < BATCH; i++) offsets[i] = i * BAG;
  int wrong = 0;
  for (int threads = 1; threads <= THREADS; threads++) {
    hr_pool *pool = hr_pool_create(threads, HR_ISA_PORTABLE);
    if (!pool) return check(0, "no pool");
    wrong += check(hr_fill_uniform(pool, rows, HR_FLOAT32, ROWS * DIM, 1) == 0, "no rows");
    wrong += run_lists(pool);
    hr_pool_destroy(pool);
  }
  return wrong != 0;
}

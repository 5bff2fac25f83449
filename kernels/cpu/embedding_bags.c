/*
 * HR_OP_EMBEDDING_BAGS. The work is cut into tasks of (table, run of bags) with about equal row bytes, which the
 * threads take from a counter; a task goes through its run once per column block (see embedding_reduce.h). With a
 * stop_report it first checks its run: the scan brings a task's few thousand indices into the cache that the reduction
 * reads them from.
 */
#include "embedding_reduce.h"
#include "operators.h"

/* A bag costs its lookups and about as much as this many more. */
enum { BAG_OVERHEAD_LOOKUPS = 2 };
enum { MOST_TASK_BYTES = 1 << 20, LEAST_TASK_BYTES = 1 << 15, MOST_TASKS_PER_TABLE = 1 << 16 };

typedef struct run_context {
  const hr_op_embedding_bags *op;
  int64_t task_bytes;
  hr_counter tasks;
  atomic_int found_bad_bags; /* no task starts any more */
} run_context;

/* Bytes of a row before `column`, a multiple of HR_LANES or the end. */
static int64_t bytes_before(const hr_table *table, int64_t column) {
  return hr_row_header(table->row_format) + hr_ceil_div(column * hr_row_bits(table->row_format), 8);
}

/* Bags of a table. */
static int64_t bag_count(const hr_op_embedding_bags *op, int64_t table) {
  return op->bags[table].per_user ? op->users : op->batch;
}

static int64_t table_units(const hr_bags *bags, int64_t count) { return bags->lookups + count * BAG_OVERHEAD_LOOKUPS; }

static int64_t unit_bytes(const hr_table *table) { return bytes_before(table, table->dim) + 32; }

static int64_t table_bytes(const hr_op_embedding_bags *op, int64_t table) {
  return table_units(&op->bags[table], bag_count(op, table)) * unit_bytes(&op->tables[table]);
}

static int64_t table_tasks(const hr_op_embedding_bags *op, int64_t table, int64_t task_bytes) {
  int64_t tasks = hr_ceil_div(table_bytes(op, table), task_bytes);
  return hr_clamp(tasks, 1, hr_min(bag_count(op, table), MOST_TASKS_PER_TABLE));
}

/* The first bag of part `part` of `parts`: the first one before which `part` parts of the table's work lie. Searches
 * the offsets as if they were sorted; for any content the result grows with `part`, so that the parts partition the
 * table's `count` bags. */
static int64_t first_bag_of_part(const hr_bags *bags, int64_t count, int64_t part, int64_t parts) {
  if (part >= parts) return count;
  int64_t units = table_units(bags, count);
  int64_t before = units / parts * part + units % parts * part / parts;
  int64_t low = 0;
  int64_t high = count;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    int64_t offset = hr_clamp(hr_load_integer(bags->offsets, bags->offset_bytes, middle), 0, bags->lookups);
    if (offset + middle * BAG_OVERHEAD_LOOKUPS < before)
      low = middle + 1;
    else
      high = middle;
  }
  return part == 0 ? 0 : low;
}

/*
 * Whether the bags [first, last) are good, as far as the task that reduces them can tell. When they are, every lookup
 * that hr_reduce_bags reads for them has been checked. The tasks of a table partition its bags: together they check every
 * offset once and, when all of those are good, every index once. The last task takes the indices that no bag holds.
 */
static int has_good_bags(const hr_table *table, const hr_bags *bags, int64_t count, int64_t first, int64_t last) {
  const int64_t first_offset = first == 0 ? 0 : first + 1; /* offsets[first] is the end of the run before */
  const int64_t past_offset = hr_min(last + 1, bags->offset_count);
  if (HR_NAME(hr_count_bad_offsets)(bags, first_offset, past_offset - first_offset) != 0) return 0;
  /* Where the run before is bad, offsets[first] may be anything: clamped as the reduction clamps it. */
  const int64_t begin = hr_clamp(hr_load_integer(bags->offsets, bags->offset_bytes, first), 0, bags->lookups);
  int64_t end = bags->lookups;
  if (last < count) end = hr_clamp(hr_load_integer(bags->offsets, bags->offset_bytes, last), begin, bags->lookups);
  return HR_NAME(hr_count_bad_indices)(table, bags, begin, end - begin) == 0;
}

/* 0: the task's bags are bad, and nothing was done. */
static int run_task(const hr_op_embedding_bags *op, int64_t t, int64_t part, int64_t parts) {
  const hr_table *table = &op->tables[t];
  const hr_bags *bags = &op->bags[t];
  int64_t count = bag_count(op, t);
  int64_t first = first_bag_of_part(bags, count, part, parts);
  int64_t last = first_bag_of_part(bags, count, part + 1, parts);
  if (first >= last) return 1;
  if (op->stop_report && !has_good_bags(table, bags, count, first, last)) return 0;
  int64_t vectors = hr_ceil_div(table->dim, HR_LANES);
  int64_t blocks = hr_ceil_div(vectors, hr_most_vectors(table, bags));
  int64_t block_columns = hr_ceil_div(vectors, blocks) * HR_LANES;
  for (int64_t column = 0; column < table->dim; column += block_columns) {
    int64_t columns = hr_min(block_columns, table->dim - column);
    hr_reduce_job job = {
        .rows = (const char *)table->rows + bytes_before(table, column),
        .bytes_before = bytes_before(table, column),
        .columns = columns,
        .table = table,
        .bags = bags,
        .output = (bags->per_user ? op->user_output : op->output) + bags->output_column + column,
        .output_stride = bags->per_user ? op->user_output_stride : op->output_stride,
        .first_bag = first,
        .last_bag = last,
        .repair = op->repair != 0,
        .prefetch_distance = op->prefetch_distance,
        .prefetch_level = op->prefetch_level,
    };
    hr_reduce_bags(&job);
  }
  return 1;
}

static void run_tasks(void *context, int64_t member) {
  (void)member;
  run_context *run = context;
  const hr_op_embedding_bags *op = run->op;
  int64_t table = 0;
  int64_t first_task_of_table = 0;
  int64_t tasks = table_tasks(op, 0, run->task_bytes);
  while (!atomic_load_explicit(&run->found_bad_bags, memory_order_relaxed)) {
    int64_t task = hr_next(&run->tasks);
    while (task >= first_task_of_table + tasks) {
      first_task_of_table += tasks;
      if (++table >= op->table_count) return;
      tasks = table_tasks(op, table, run->task_bytes);
    }
    if (!run_task(op, table, task - first_task_of_table, tasks)) atomic_store(&run->found_bad_bags, 1);
  }
}

/* Something is wrong, or there may be and no task to find it: the whole check says what. */
static void fill_stop_report(hr_pool *pool, const hr_op_embedding_bags *op) {
  const hr_op_check_bags check = {
      .kind = HR_OP_CHECK_BAGS,
      .threads = op->threads,
      .tables = op->tables,
      .bags = op->bags,
      .table_count = op->table_count,
      .batch = op->batch,
      .users = op->users,
      .report = op->stop_report,
  };
  HR_NAME(hr_check_bags)(pool, &check);
}

int64_t HR_NAME(hr_embedding_bags)(hr_pool *pool, const hr_op_embedding_bags *op) {
  if (op->table_count == 0 || op->batch == 0) {
    if (!op->stop_report) return HR_RUN_DONE;
    fill_stop_report(pool, op);
    return op->stop_report->code == HR_BAGS_OK ? HR_RUN_DONE : HR_RUN_STOPPED;
  }
  if (op->stop_report) memset(op->stop_report, 0, sizeof *op->stop_report);
  int64_t bytes = 0;
  for (int64_t t = 0; t < op->table_count; t++) bytes += table_bytes(op, t);
  int64_t threads = hr_threads_for(pool, op->threads, bytes / (2 * LEAST_TASK_BYTES));
  run_context run = {.op = op, .task_bytes = hr_clamp(bytes / (threads * 8), LEAST_TASK_BYTES, MOST_TASK_BYTES)};
  hr_team_run(pool->team, threads, run_tasks, &run);
  if (!atomic_load(&run.found_bad_bags)) return HR_RUN_DONE;
  fill_stop_report(pool, op);
  return HR_RUN_STOPPED;
}

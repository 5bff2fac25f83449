/*
 * HR_OP_EMBEDDING_BAGS. The work is cut into tasks of (table, run of bags) with about equal row bytes, which the
 * threads take from a counter; a task goes through its run in pieces (see bag_piece.h), and through a piece once per column
 * block (see embedding_reduce.h). Nothing that the caller may change meanwhile is used as it lies: a piece is copied first.
 */
#include "bag_piece.h"
#include "mapped_file.h"
#include "embedding_reduce.h"
#include "operators.h"

/* A bag costs its lookups and about as much as this many more. */
enum { BAG_OVERHEAD_LOOKUPS = 2 };
enum { MOST_TASK_BYTES = 1 << 20, LEAST_TASK_BYTES = 1 << 15, MOST_TASKS_PER_TABLE = 1 << 16 };

typedef struct run_context {
  const hr_op_embedding_bags *op;
  hr_pool *pool;
  int64_t task_bytes;
  hr_counter tasks;
  atomic_int status; /* HR_RUN_…; not HR_RUN_DONE: no task starts any more */
} run_context;

/* What a member works with. */
typedef struct member_context {
  run_context *run;
  hr_guard *guard;
  hr_piece *piece;
  hr_long_piece long_piece;
} member_context;

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
static int64_t first_bag_of_part(hr_guard *guard, const hr_bags *bags, int64_t count, int64_t part, int64_t parts) {
  if (part == 0) return 0;
  if (part >= parts) return count;
  int64_t units = table_units(bags, count);
  int64_t before = units / parts * part + units % parts * part / parts;
  int64_t low = 0;
  int64_t high = count;
  hr_watch(guard, bags->offsets, bags->offset_count * bags->offset_bytes);
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    int64_t offset = hr_clamp(hr_load_integer(bags->offsets, bags->offset_bytes, middle), 0, bags->lookups);
    if (offset + middle * BAG_OVERHEAD_LOOKUPS < before)
      low = middle + 1;
    else
      high = middle;
  }
  hr_unwatch(guard);
  return low;
}

/* The table's columns are reduced in blocks of so many. */
static int64_t block_columns(const hr_table *table, const hr_bags *bags) {
  int64_t vectors = hr_ceil_div(table->dim, HR_LANES);
  int64_t blocks = hr_ceil_div(vectors, hr_most_vectors(table, bags));
  return hr_ceil_div(vectors, blocks) * HR_LANES;
}

/* The job of the block of `columns` columns from `column` on, or of what there is of them, for the bags from `bag` on; its bags are still to be said. */
static hr_reduce_job job_of(const hr_op_embedding_bags *op, int64_t t, int64_t column, int64_t columns, int64_t bag) {
  const hr_table *table = &op->tables[t];
  const hr_bags *bags = &op->bags[t];
  float *output = bags->per_user ? op->user_output : op->output;
  int64_t output_stride = bags->per_user ? op->user_output_stride : op->output_stride;
  return (hr_reduce_job){
      .rows = (const char *)table->rows + bytes_before(table, column),
      .bytes_before = bytes_before(table, column),
      .columns = hr_min(columns, table->dim - column),
      .table = table,
      .index_bytes = bags->index_bytes,
      .reduction = reduction_of(table, bags),
      .output = output + bag * output_stride + bags->output_column + column,
      .output_stride = output_stride,
      .prefetch_distance = op->prefetch_distance,
      .prefetch_level = op->prefetch_level,
  };
}

/* Reduces `count` bags from `first` on, whose bounds are `bounds`. Returns HR_RUN_…. */
static int reduce_piece(hr_taking *taking, const hr_op_embedding_bags *op, int64_t t, int64_t first,
                        const int64_t *bounds, int64_t count) {
  const hr_table *table = &op->tables[t];
  const int status = hr_take_lookups(taking, bounds[0], bounds[count] - bounds[0]);
  if (status != HR_RUN_DONE) return status;
  const int64_t step = block_columns(table, &op->bags[t]);
  for (int64_t column = 0; column < table->dim; column += step) {
    hr_reduce_job job = job_of(op, t, column, step, first);
    job.bounds = bounds;
    job.bag_count = count;
    job.first_position = bounds[0];
    job.indices = taking->indices;
    job.weights = taking->weights;
    hr_reduce_bags(&job);
  }
  return HR_RUN_DONE;
}

/* Returns HR_RUN_…. The tasks of a table partition its bags: together they check every offset once and, when all of those are
 * good, every index. */
static int run_task(member_context *member, int64_t t, int64_t part, int64_t parts) {
  const hr_op_embedding_bags *op = member->run->op;
  const hr_bags *bags = &op->bags[t];
  const int64_t count = bag_count(op, t);
  const int64_t last = first_bag_of_part(member->guard, bags, count, part + 1, parts);
  int64_t *bounds = member->piece->bounds;
  hr_taking taking = {
      .piece = member->piece,
      .long_piece = &member->long_piece,
      .guard = member->guard,
      .table = &op->tables[t],
      .bags = bags,
      .checks = op->stop_report != NULL,
  };
  for (int64_t bag = first_bag_of_part(member->guard, bags, count, part, parts); bag < last;) {
    const int64_t taken = hr_min(last - bag, PIECE_BAGS);
    if (!hr_take_bounds(&taking, bag, taken)) return HR_RUN_STOPPED;
    for (int64_t at = 0; at < taken;) {
      const int64_t fitting = hr_fitting_bags(&taking, at, taken);
      /* Where bounds do not rise, a bag may end before it begins: it is empty. */
      const int64_t own[2] = {bounds[at], hr_max(bounds[at], bounds[at + 1])};
      const int status = reduce_piece(&taking, op, t, bag + at, fitting == 1 ? own : bounds + at, fitting);
      if (status != HR_RUN_DONE) return status;
      at += fitting;
    }
    bag += taken;
    if (bag == count && !hr_are_good_lookups(&taking, bounds[taken])) return HR_RUN_STOPPED;
  }
  return HR_RUN_DONE;
}

static void run_member(void *context, hr_guard *guard) {
  member_context *member = context;
  run_context *run = member->run;
  member->guard = guard;
  const hr_op_embedding_bags *op = run->op;
  int64_t table = 0;
  int64_t first_task_of_table = 0;
  int64_t tasks = table_tasks(op, 0, run->task_bytes);
  while (atomic_load_explicit(&run->status, memory_order_relaxed) == HR_RUN_DONE) {
    int64_t task = hr_next(&run->tasks);
    while (task >= first_task_of_table + tasks) {
      first_task_of_table += tasks;
      if (++table >= op->table_count) return;
      tasks = table_tasks(op, table, run->task_bytes);
    }
    const int status = run_task(member, table, task - first_task_of_table, tasks);
    if (status != HR_RUN_DONE) atomic_store(&run->status, status);
  }
}

static void run_tasks(void *context, int64_t number) {
  run_context *run = context;
  member_context member = {.run = run, .piece = (hr_piece *)hr_pool_scratch(run->pool, number)};
  if (!hr_guarded(run_member, &member)) atomic_store(&run->status, HR_RUN_ARRAYS_GONE);
  free(member.long_piece.memory);
}

/* Something is wrong, or there may be and no task to find it: the whole check says what. */
static int64_t fill_stop_report(hr_pool *pool, const hr_op_embedding_bags *op) {
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
  const int64_t status = HR_NAME(hr_check_bags)(pool, &check);
  return status == HR_RUN_DONE ? HR_RUN_STOPPED : status;
}

int64_t HR_NAME(hr_embedding_bags)(hr_pool *pool, const hr_op_embedding_bags *op) {
  if (op->table_count == 0 || op->batch == 0) {
    if (!op->stop_report) return HR_RUN_DONE;
    const int64_t status = fill_stop_report(pool, op);
    return status == HR_RUN_STOPPED && op->stop_report->code == HR_BAGS_OK ? HR_RUN_DONE : status;
  }
  if (!hr_pool_reserve_scratch(pool, sizeof(hr_piece))) return HR_RUN_NO_MEMORY;
  if (op->stop_report) memset(op->stop_report, 0, sizeof *op->stop_report);
  int64_t bytes = 0;
  for (int64_t t = 0; t < op->table_count; t++) bytes += table_bytes(op, t);
  int64_t threads = hr_threads_for(pool, op->threads, bytes / (2 * LEAST_TASK_BYTES));
  run_context run = {
      .op = op, .pool = pool, .task_bytes = hr_clamp(bytes / (threads * 8), LEAST_TASK_BYTES, MOST_TASK_BYTES)};
  hr_team_run(pool->team, threads, run_tasks, &run);
  const int status = atomic_load(&run.status);
  if (status == HR_RUN_STOPPED) return fill_stop_report(pool, op);
  return status == HR_RUN_DONE && hr_have_files_changed(op->tables, op->table_count) ? HR_RUN_FILE_CHANGED : status;
}

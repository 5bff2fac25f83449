#include "validate.h"

#include <float.h>
#include <stddef.h>

#include "hotrow_cpu.h"
#include "row_functions.h"

/* Sizes up to here can be multiplied by an element size and added without overflow. */
static const int64_t MOST = (int64_t)1 << 56;

static int is_size(int64_t x) { return x >= 0 && x <= MOST; }
static int is_integer_bytes(int64_t bytes) { return bytes == 4 || bytes == 8; }
static int is_stride(int64_t stride, int64_t rows, int64_t columns) {
  return rows <= 1 || (stride >= columns && stride <= MOST);
}

static int is_valid_table(const hr_table *table) {
  return is_size(table->row_count) && table->dim > 0 && table->dim <= MOST && table->row_format >= HR_FLOAT32 &&
         table->row_format < HR_ROW_FORMATS && table->pooling >= HR_POOL_SUM && table->pooling <= HR_POOL_MAX &&
         (table->rows || table->row_count == 0) && is_size(table->row_stride_bytes) &&
         (table->pooling == HR_POOL_SUM || !table->row_weights) && (table->pruned == 0 || table->pruned == 1);
}

static int is_valid_bags(const hr_table *table, const hr_bags *bags, int64_t batch, int64_t users) {
  if (bags->per_user != 0 && bags->per_user != 1) return 0;
  const int64_t count = bags->per_user ? users : batch;
  return is_size(bags->lookups) && (bags->indices || bags->lookups == 0) && is_integer_bytes(bags->index_bytes) &&
         is_integer_bytes(bags->offset_bytes) && (bags->offsets || bags->offset_count == 0) &&
         (bags->offset_count == count || bags->offset_count == count + 1) && is_size(bags->output_column) &&
         (table->pooling == HR_POOL_SUM || !bags->weights);
}

static int are_valid_tables(const hr_table *tables, const hr_bags *bags, int64_t count, int64_t batch, int64_t users) {
  if (!is_size(count) || !is_size(batch) || !is_size(users) || (count > 0 && (!tables || !bags))) return 0;
  for (int64_t t = 0; t < count; t++)
    if (!is_valid_table(&tables[t]) || !is_valid_bags(&tables[t], &bags[t], batch, users)) return 0;
  return 1;
}

static int is_valid_check(const hr_op_check_bags *op) {
  return op->report && are_valid_tables(op->tables, op->bags, op->table_count, op->batch, op->users);
}

static int is_valid_embedding(const hr_op_embedding_bags *op) {
  if (!are_valid_tables(op->tables, op->bags, op->table_count, op->batch, op->users)) return 0;
  if (!is_size(op->prefetch_distance)) return 0;
  if (op->prefetch_distance > 0 && (op->prefetch_level < HR_PREFETCH_L1 || op->prefetch_level > HR_PREFETCH_NTA))
    return 0;
  if (op->batch == 0 || op->table_count == 0) return 1;
  for (int64_t t = 0; t < op->table_count; t++) {
    const int64_t columns = op->bags[t].output_column + op->tables[t].dim;
    if (!op->bags[t].per_user) {
      if (!op->output || !is_stride(op->output_stride, op->batch, columns)) return 0;
    } else if (op->users == 0 || !op->user_output || !is_stride(op->user_output_stride, op->users, columns)) {
      return 0; /* no task would check the lookups of tables without a bag */
    }
  }
  return 1;
}

static int is_valid_linear(const hr_op_linear *op) {
  if (!is_size(op->batch) || !is_size(op->inputs) || !is_size(op->outputs)) return 0;
  if (op->activation < HR_ACTIVATION_NONE || op->activation > HR_ACTIVATION_SIGMOID) return 0;
  if (!op->cross_x0 != !op->cross_x || (op->cross_x0 && op->activation != HR_ACTIVATION_NONE)) return 0;
  if (!(op->input_scale >= 0 && op->input_scale <= FLT_MAX)) return 0;
  if (op->batch == 0 || op->outputs == 0) return 1;
  if (op->inputs > 0 && (!op->input || !op->packed_weight)) return 0;
  return op->output && is_stride(op->input_stride, op->batch, op->inputs) &&
         is_stride(op->output_stride, op->batch, op->outputs) &&
         (!op->cross_x0 || (is_stride(op->cross_x0_stride, op->batch, op->outputs) &&
                            is_stride(op->cross_x_stride, op->batch, op->outputs)));
}

static int is_valid_dot(const hr_op_dot_interaction *op) {
  const int64_t most_features = 1 << 20;
  if (!is_size(op->batch) || !is_size(op->dim) || op->features < 0 || op->features > most_features) return 0;
  if ((op->diagonal != 0 && op->diagonal != 1) || (op->order != 0 && op->order != 1)) return 0;
  if (op->dim > MOST / (op->features + 1)) return 0;
  int64_t pairs = op->features * (op->features - 1) / 2 + (op->diagonal ? op->features : 0);
  if (op->batch == 0 || pairs == 0) return 1;
  return op->output && (op->input || op->dim == 0) && is_stride(op->output_stride, op->batch, pairs) &&
         is_stride(op->input_stride, op->batch, op->features * op->dim);
}

static int is_valid_row_function(const hr_op_row_function *op) {
  if (!is_size(op->batch) || !is_size(op->columns) || !is_size(op->width)) return 0;
  if (op->function < 0 || op->function >= HR_ROW_FUNCTIONS) return 0;
  if (op->batch == 0) return 1;
  return op->output && (op->input || op->columns == 0) && is_stride(op->input_stride, op->batch, op->columns) &&
         is_stride(op->output_stride, op->batch, op->width);
}

static int is_valid_copy(const hr_op_copy *op) {
  if (!is_size(op->rows) || !is_size(op->cols)) return 0;
  if (op->element_bytes != 4 && (op->element_bytes != 2 || op->narrow_to != HR_FLOAT32)) return 0;
  if (op->narrow_to < HR_FLOAT32 || op->narrow_to > HR_BFLOAT16) return 0;
  if (op->rows == 0 || op->cols == 0) return 1;
  return op->input && op->output && is_stride(op->output_stride, op->rows, op->cols) &&
         op->input_stride >= 0 && op->input_stride <= MOST;
}

static int is_valid_spread(const hr_op_spread_rows *op) {
  if (!is_size(op->count) || !is_size(op->span_count) || !is_size(op->input_stride) || !is_size(op->output_stride)) return 0;
  if (op->count == 0 || op->span_count == 0) return 1;
  for (int64_t s = 0; s < op->span_count; s++) {
    const hr_span *span = &op->spans[s];
    if (!is_size(span->from) || !is_size(span->to) || !is_size(span->columns)) return 0;
    if (!is_stride(op->input_stride, op->count, span->from + span->columns)) return 0;
  }
  return op->input && op->output && op->starts;
}

int hr_is_valid_operator(const int64_t *op) {
  const void *any = op;
  if (op[1] < 0) return 0; /* threads */
  switch (op[0]) {
    case HR_OP_CHECK_BAGS: return is_valid_check(any);
    case HR_OP_EMBEDDING_BAGS: return is_valid_embedding(any);
    case HR_OP_LINEAR: return is_valid_linear(any);
    case HR_OP_DOT_INTERACTION: return is_valid_dot(any);
    case HR_OP_ROW_FUNCTION: return is_valid_row_function(any);
    case HR_OP_COPY: return is_valid_copy(any);
    case HR_OP_SPREAD_ROWS: return is_valid_spread(any);
    default: return 0;
  }
}

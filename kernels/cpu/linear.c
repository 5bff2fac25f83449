/*
 * HR_OP_LINEAR and its weight packing.
 *
 * Layers with more than MOST_NARROW_OUTPUTS outputs: W lies in panels of PANEL_COLUMNS outputs, [panel][k][column],
 * zero-padded. A task is a block of rows × a run of panels; it goes through k in blocks of BLOCK_DEPTH, keeping the
 * sums of the whole task in scratch memory between blocks and the input block packed beside them.
 * Narrower layers: W lies as it is, rows padded with zeros to whole vectors, and every output is one dot product.
 * In 8 bits, inputs are rounded where a block of them is packed; a narrow layer's in scratch memory.
 */
#include <math.h>

#include "float8.h"
#include "linear_epilogue.h"
#include "operators.h"
#include "tile.h"

DEFINE_TILE(1, 4) /* WIDE_TILE_PANELS */

enum {
  MOST_NARROW_OUTPUTS = 4,
  BLOCK_DEPTH = 256,
  BLOCK_TILES = 8,
  BLOCK_ROWS = TILE_ROWS * BLOCK_TILES,
  BLOCK_PANELS = 512 / PANEL_COLUMNS,
  INPUT_STRIDE = BLOCK_DEPTH + 16, /* rows 4 KB apart would share the sets of the L1 cache */
  INPUT_FLOATS = BLOCK_ROWS * INPUT_STRIDE,
  SUM_FLOATS = BLOCK_TILES * BLOCK_PANELS * TILE_FLOATS,
  NARROW_ROWS = 64,
};

typedef struct linear_context {
  const hr_op_linear *op;
  const hr_pool *pool;
  int64_t row_blocks;
  int64_t panel_runs;
  int64_t run_panels; /* panels in a run */
  hr_counter tasks;
} linear_context;

static int is_narrow(int64_t outputs) { return outputs <= MOST_NARROW_OUTPUTS; }

int64_t HR_NAME(hr_packed_linear_bytes)(int64_t outputs, int64_t inputs) {
  int64_t rows = is_narrow(outputs) ? outputs : hr_round_up(outputs, PANEL_COLUMNS);
  int64_t row_floats = is_narrow(outputs) ? hr_round_up(inputs, HR_LANES) : inputs;
  int64_t bytes;
  if (__builtin_mul_overflow(rows, row_floats, &bytes) || __builtin_mul_overflow(bytes, 4, &bytes)) return -1;
  return bytes;
}

typedef struct pack_context {
  const float *weight;
  int64_t outputs;
  int64_t inputs;
  float *packed;
  hr_counter panels;
} pack_context;

static void pack_panels(void *context, int64_t member) {
  (void)member;
  pack_context *pack = context;
  for (;;) {
    int64_t first = hr_next(&pack->panels) * PANEL_COLUMNS;
    if (first >= pack->outputs) return;
    pack_panel(pack->weight + first * pack->inputs, pack->inputs, hr_min(PANEL_COLUMNS, pack->outputs - first),
               pack->inputs, pack->packed + first * pack->inputs);
  }
}

void HR_NAME(hr_pack_linear)(hr_pool *pool, const float *weight, int64_t outputs, int64_t inputs, void *packed) {
  if (outputs == 0 || inputs == 0) return;
  if (!is_narrow(outputs)) {
    pack_context pack = {.weight = weight, .outputs = outputs, .inputs = inputs, .packed = packed};
    hr_team_run(pool->team, hr_threads_for(pool, 0, outputs * inputs >> 16), pack_panels, &pack);
    return;
  }
  int64_t row_floats = hr_round_up(inputs, HR_LANES);
  memset(packed, 0, (size_t)(outputs * row_floats * 4));
  for (int64_t n = 0; n < outputs; n++)
    memcpy((float *)packed + n * row_floats, weight + n * inputs, (size_t)inputs * 4);
}

/* Four interleaved chains over k, added in a fixed order. */
static float dot(const float *x, const float *w, int64_t count) {
  hr_vec sum[4] = {hr_vec_zero(), hr_vec_zero(), hr_vec_zero(), hr_vec_zero()};
  int64_t k = 0;
  for (; k + 4 * HR_LANES <= count; k += 4 * HR_LANES)
    for (int i = 0; i < 4; i++)
      sum[i] = hr_vec_fma(hr_vec_load(x + k + i * HR_LANES), hr_vec_load(w + k + i * HR_LANES), sum[i]);
  for (; k + HR_LANES <= count; k += HR_LANES) sum[0] = hr_vec_fma(hr_vec_load(x + k), hr_vec_load(w + k), sum[0]);
  if (k < count) sum[1] = hr_vec_fma(hr_vec_load_partial(x + k, count - k), hr_vec_load(w + k), sum[1]);
  return hr_vec_sum(hr_vec_add(hr_vec_add(sum[0], sum[1]), hr_vec_add(sum[2], sum[3])));
}

static void run_narrow(void *context, int64_t member) {
  linear_context *linear = context;
  const hr_op_linear *op = linear->op;
  float *rounded = op->weight_scales ? (float *)hr_pool_scratch(linear->pool, member) : NULL;
  int64_t row_floats = hr_round_up(op->inputs, HR_LANES);
  for (;;) {
    int64_t first = hr_next(&linear->tasks) * NARROW_ROWS;
    if (first >= op->batch) return;
    for (int64_t m = first; m < hr_min(first + NARROW_ROWS, op->batch); m++) {
      float sums[PANEL_COLUMNS] = {0};
      const float *input = op->input + m * op->input_stride;
      float scale = 1;
      if (rounded) {
        scale = float8_row_scale(input, op->inputs, op->input_scale);
        round_row_e4m3(rounded, input, op->inputs, scale);
        input = rounded;
      }
      for (int64_t n = 0; n < op->outputs; n++)
        sums[n] = dot(input, (const float *)op->packed_weight + n * row_floats, op->inputs);
      scale_row(op, sums, scale, 0, op->outputs);
      finish_row(op, sums, m, 0, op->outputs);
    }
  }
}

/* The tile of sums at (tile, panel) of a task; tiles are in the order in which they are computed. */
static float *tile_at(float *sums, int64_t tiles, int64_t tile, int64_t panel) {
  return sums + (panel * tiles + tile) * TILE_FLOATS;
}

/* `scales`: those of the tile's rows. */
static void finish_tile(const hr_op_linear *op, float *tile, const float *scales, int64_t first_row, int64_t rows,
                        int64_t first_column) {
  int64_t columns = hr_min(PANEL_COLUMNS, op->outputs - first_column);
  for (int64_t m = 0; m < rows; m++) {
    scale_row(op, tile + m * PANEL_COLUMNS, scales[m], first_column, columns);
    finish_row(op, tile + m * PANEL_COLUMNS, first_row + m, first_column, columns);
  }
}

static void run_task(const linear_context *linear, int64_t task, float *input, float *sums) {
  const hr_op_linear *op = linear->op;
  const int64_t first_row = task / linear->panel_runs * BLOCK_ROWS;
  const int64_t rows = hr_min(BLOCK_ROWS, op->batch - first_row);
  const int64_t tiles = hr_ceil_div(rows, TILE_ROWS);
  const int64_t first_panel = task % linear->panel_runs * linear->run_panels;
  const int64_t panel_stride = op->inputs * PANEL_COLUMNS;
  const int64_t panels = hr_min(linear->run_panels, hr_ceil_div(op->outputs, PANEL_COLUMNS) - first_panel);
  float scales[BLOCK_ROWS];
  for (int64_t m = 0; m < rows; m++)
    scales[m] = op->weight_scales ? float8_row_scale(op->input + (first_row + m) * op->input_stride, op->inputs,
                                                     op->input_scale)
                                  : 1;
  /* Without inputs the layer still has its bias: one block of no depth. */
  for (int64_t k = 0; k == 0 || k < op->inputs; k += BLOCK_DEPTH) {
    const int64_t depth = hr_min(BLOCK_DEPTH, op->inputs - k);
    const int is_last = k + BLOCK_DEPTH >= op->inputs;
    for (int64_t m = 0; m < rows; m++) {
      const float *row = op->input + (first_row + m) * op->input_stride + k;
      if (op->weight_scales)
        round_row_e4m3(input + m * INPUT_STRIDE, row, depth, scales[m]);
      else
        memcpy(input + m * INPUT_STRIDE, row, (size_t)depth * 4);
    }
    int64_t step = 1;
    for (int64_t panel = 0; panel < panels; panel += step) {
      step = rows == 1 && panel + WIDE_TILE_PANELS <= panels ? WIDE_TILE_PANELS : 1;
      for (int64_t tile = 0; tile < tiles; tile++) {
        const int64_t tile_rows = hr_min(TILE_ROWS, rows - tile * TILE_ROWS);
        /* A wide tile of one row takes the place of its first panel's sums. */
        float *sum = tile_at(sums, tiles, tile, panel);
        const tile_arguments arguments = {
            .a = input + tile * TILE_ROWS * INPUT_STRIDE,
            .a_stride = INPUT_STRIDE,
            .b = (const float *)op->packed_weight + (first_panel + panel) * panel_stride + k * PANEL_COLUMNS,
            .panel_stride = panel_stride,
            .depth = depth,
            .tile = sum,
            .accumulate = k > 0,
        };
        if (step == 1)
          multiply_tile_of[tile_rows](&arguments);
        else
          multiply_tile_1_4(&arguments);
        if (!is_last) continue;
        for (int64_t p = 0; p < step; p++)
          finish_tile(op, sum + p * tile_rows * PANEL_COLUMNS, scales + tile * TILE_ROWS,
                      first_row + tile * TILE_ROWS, tile_rows, (first_panel + panel + p) * PANEL_COLUMNS);
      }
    }
  }
}

static void run_tasks(void *context, int64_t member) {
  linear_context *linear = context;
  float *scratch = (float *)hr_pool_scratch(linear->pool, member);
  for (;;) {
    int64_t task = hr_next(&linear->tasks);
    if (task >= linear->row_blocks * linear->panel_runs) return;
    run_task(linear, task, scratch, scratch + INPUT_FLOATS);
  }
}

int64_t HR_NAME(hr_linear)(hr_pool *pool, const hr_op_linear *op) {
  if (op->batch == 0 || op->outputs == 0) return HR_RUN_DONE;
  linear_context linear = {.op = op, .pool = pool};
  /* Reading the weights once costs about as much as two multiply-adds per weight. */
  const double multiply_adds = (double)(op->batch + 2) * (double)op->inputs * (double)op->outputs;
  const int64_t grains = (int64_t)fmin(multiply_adds / (1 << 18), 1e9);
  if (is_narrow(op->outputs)) {
    if (op->weight_scales && !hr_pool_reserve_scratch(pool, hr_max(op->inputs, 1) * 4)) return HR_RUN_NO_MEMORY;
    const int64_t row_grains = hr_min(grains * 4, hr_ceil_div(op->batch, NARROW_ROWS));
    hr_team_run(pool->team, hr_threads_for(pool, op->threads, row_grains), run_narrow, &linear);
    return HR_RUN_DONE;
  }
  if (!hr_pool_reserve_scratch(pool, (INPUT_FLOATS + SUM_FLOATS) * 4)) return HR_RUN_NO_MEMORY;
  int64_t threads = hr_threads_for(pool, op->threads, grains);
  int64_t panels = hr_ceil_div(op->outputs, PANEL_COLUMNS);
  linear.row_blocks = hr_ceil_div(op->batch, BLOCK_ROWS);
  const int64_t wanted_tasks = threads > 1 ? threads * 3 : 1;
  const int64_t wanted_runs =
      hr_max(hr_ceil_div(panels, BLOCK_PANELS), hr_ceil_div(wanted_tasks, linear.row_blocks));
  linear.run_panels = hr_ceil_div(panels, hr_min(panels, wanted_runs));
  if (op->batch == 1 && panels >= WIDE_TILE_PANELS * threads)
    linear.run_panels = hr_min(hr_round_up(linear.run_panels, WIDE_TILE_PANELS), BLOCK_PANELS);
  linear.panel_runs = hr_ceil_div(panels, linear.run_panels);
  hr_team_run(pool->team, threads, run_tasks, &linear);
  return HR_RUN_DONE;
}

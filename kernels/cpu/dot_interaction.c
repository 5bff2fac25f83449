/*
 * HR_OP_DOT_INTERACTION. Per sample, Z is written transposed as panels (tile.h) and multiplied by Z tile by tile;
 * tiles that lie wholly outside the wanted triangle are left out. Order 1 takes the upper triangle, so that in both
 * orders a row of a tile is one contiguous piece of the output.
 */
#include "operators.h"
#include "tile.h"

typedef struct dot_context {
  const hr_op_dot_interaction *op;
  const hr_pool *pool;
  hr_counter samples;
} dot_context;

static int64_t panels_of(const hr_op_dot_interaction *op) { return hr_ceil_div(op->features, PANEL_COLUMNS); }

/* Copies the wanted part of row i, columns [first, first + PANEL_COLUMNS), to its place in the sample's output. */
static void put_row(const hr_op_dot_interaction *op, const float *tile_row, int64_t i, int64_t first, float *output) {
  int64_t begin = first;
  int64_t end = hr_min(first + PANEL_COLUMNS, op->features);
  int64_t place_of_column_0;
  if (op->order == 0) {
    end = hr_min(end, op->diagonal ? i + 1 : i);
    place_of_column_0 = op->diagonal ? i * (i + 1) / 2 : i * (i - 1) / 2;
  } else {
    begin = hr_max(begin, op->diagonal ? i : i + 1);
    /* Row i begins after the rows before it, at its own first column. */
    place_of_column_0 = op->diagonal ? i * op->features - i * (i + 1) / 2 : i * op->features - i * (i + 1) / 2 - (i + 1);
  }
  if (begin < end) memcpy(output + place_of_column_0 + begin, tile_row + begin - first, (size_t)(end - begin) * 4);
}

static void run_sample(const hr_op_dot_interaction *op, int64_t sample, float *panels) {
  const float *z = op->input + sample * op->input_stride;
  float *output = op->output + sample * op->output_stride;
  const int64_t panel_floats = op->dim * PANEL_COLUMNS;
  for (int64_t panel = 0; panel < panels_of(op); panel++) {
    int64_t first = panel * PANEL_COLUMNS;
    pack_panel(z + first * op->dim, op->dim, hr_min(PANEL_COLUMNS, op->features - first), op->dim,
               panels + panel * panel_floats);
  }
  for (int64_t panel = 0; panel < panels_of(op); panel++) {
    const int64_t first = panel * PANEL_COLUMNS;
    /* Rows whose wanted columns reach into this panel. */
    const int64_t begin = op->order == 0 ? (op->diagonal ? first : first + 1) : 0;
    const int64_t end = op->order == 0 ? op->features : hr_min(op->features, first + PANEL_COLUMNS - (op->diagonal ? 0 : 1));
    for (int64_t i = begin; i < end; i += TILE_ROWS) {
      float tile[TILE_FLOATS];
      const int64_t rows = hr_min(TILE_ROWS, end - i);
      const tile_arguments arguments = {
          .a = z + i * op->dim,
          .a_stride = op->dim,
          .b = panels + panel * panel_floats,
          .panel_stride = panel_floats,
          .depth = op->dim,
          .tile = tile,
          .accumulate = 0,
      };
      multiply_tile_of[rows](&arguments);
      for (int64_t m = 0; m < rows; m++) put_row(op, tile + m * PANEL_COLUMNS, i + m, first, output);
    }
  }
}

static void run_samples(void *context, int64_t member) {
  dot_context *dot = context;
  for (;;) {
    int64_t sample = hr_next(&dot->samples);
    if (sample >= dot->op->batch) return;
    run_sample(dot->op, sample, (float *)hr_pool_scratch(dot->pool, member));
  }
}

int64_t HR_NAME(hr_dot_interaction)(hr_pool *pool, const hr_op_dot_interaction *op) {
  if (op->batch == 0 || op->features == 0) return HR_RUN_DONE;
  int64_t panel_bytes;
  if (__builtin_mul_overflow(panels_of(op) * PANEL_COLUMNS * 4, op->dim, &panel_bytes)) return HR_RUN_NO_MEMORY;
  if (!hr_pool_reserve_scratch(pool, panel_bytes)) return HR_RUN_NO_MEMORY;
  dot_context dot = {.op = op, .pool = pool};
  int64_t grains = op->batch * ((op->features * op->features * op->dim >> 12) + 1) / 64;
  hr_team_run(pool->team, hr_threads_for(pool, op->threads, grains), run_samples, &dot);
  return HR_RUN_DONE;
}

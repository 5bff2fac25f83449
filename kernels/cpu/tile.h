/*
 * The register tile of the dense operators: tile[m][n] (+)= sum_k a[m, k] · b[k][n].
 *
 * `b` is a panel: for each k, PANEL_COLUMNS values in a row. One tile is ROWS × PANEL_COLUMNS; `rows` and `panels`
 * are compile-time constants of each copy, so that all sums stay in registers. The sum over k is one chain of
 * multiply-adds in order of k, whatever the tile: results depend on neither the batch, the thread count nor the
 * blocking, and AVX2 and AVX-512 agree bit for bit.
 */
#ifndef HOTROW_TILE_H
#define HOTROW_TILE_H

#include "pool.h"
#include "simd.h"

enum {
  PANEL_VECTORS = 2,
  PANEL_COLUMNS = PANEL_VECTORS * HR_LANES,
  TILE_ROWS = HR_REGISTERS == 32 ? 12 : 6,
  TILE_FLOATS = TILE_ROWS * PANEL_COLUMNS,
  /* With few rows one panel has too few chains to hide the latency of a multiply-add. */
  WIDE_TILE_PANELS = 4,
};

typedef struct tile_arguments {
  const float *a; /* row 0 at the first k */
  int64_t a_stride;
  const float *b; /* first panel at the first k */
  int64_t panel_stride;
  int64_t depth; /* how many k */
  float *tile;   /* [panels][rows][PANEL_COLUMNS] */
  int accumulate;
} tile_arguments;

HR_INLINE void multiply_tile(const tile_arguments *t, const int rows, const int panels) {
  hr_vec sum[TILE_ROWS][PANEL_VECTORS * WIDE_TILE_PANELS];
  const int vectors = panels * PANEL_VECTORS;
  const int64_t panel_stride = t->panel_stride;
  const int64_t a_stride = t->a_stride;
  const float *a = t->a;
  const float *b = t->b;
  HR_UNROLL
  for (int m = 0; m < rows; m++)
    HR_UNROLL
    for (int v = 0; v < vectors; v++) {
      const float *at = t->tile + ((v / PANEL_VECTORS) * rows + m) * PANEL_COLUMNS + v % PANEL_VECTORS * HR_LANES;
      sum[m][v] = t->accumulate ? hr_vec_load(at) : hr_vec_zero();
    }
  for (int64_t k = 0; k < t->depth; k++) {
    hr_vec weight[PANEL_VECTORS * WIDE_TILE_PANELS];
    HR_UNROLL
    for (int v = 0; v < vectors; v++)
      weight[v] = hr_vec_load(b + v / PANEL_VECTORS * panel_stride + v % PANEL_VECTORS * HR_LANES);
    HR_UNROLL
    for (int m = 0; m < rows; m++) {
      const hr_vec x = hr_vec_broadcast(hr_load_float(a + m * a_stride, k));
      HR_UNROLL
      for (int v = 0; v < vectors; v++) sum[m][v] = hr_vec_fma(x, weight[v], sum[m][v]);
    }
    b += PANEL_COLUMNS;
  }
  HR_UNROLL
  for (int m = 0; m < rows; m++)
    HR_UNROLL
    for (int v = 0; v < vectors; v++)
      hr_vec_store(t->tile + ((v / PANEL_VECTORS) * rows + m) * PANEL_COLUMNS + v % PANEL_VECTORS * HR_LANES,
                   sum[m][v]);
}

#define DEFINE_TILE(rows, panels) \
  static void multiply_tile_##rows##_##panels(const tile_arguments *t) { multiply_tile(t, rows, panels); }
DEFINE_TILE(1, 1)
DEFINE_TILE(2, 1)
DEFINE_TILE(3, 1)
DEFINE_TILE(4, 1)
DEFINE_TILE(5, 1)
DEFINE_TILE(6, 1)
#if HR_REGISTERS == 32
DEFINE_TILE(7, 1)
DEFINE_TILE(8, 1)
DEFINE_TILE(9, 1)
DEFINE_TILE(10, 1)
DEFINE_TILE(11, 1)
DEFINE_TILE(12, 1)
#endif

static void (*const multiply_tile_of[TILE_ROWS + 1])(const tile_arguments *t) = {
    NULL,
    multiply_tile_1_1,
    multiply_tile_2_1,
    multiply_tile_3_1,
    multiply_tile_4_1,
    multiply_tile_5_1,
    multiply_tile_6_1,
#if HR_REGISTERS == 32
    multiply_tile_7_1,
    multiply_tile_8_1,
    multiply_tile_9_1,
    multiply_tile_10_1,
    multiply_tile_11_1,
    multiply_tile_12_1,
#endif
};

/*
 * Writes rows [0, count) of x [count, depth] (a row every `stride` floats) as one panel [depth][PANEL_COLUMNS]; the
 * columns from `count` on are zero.
 */
static void pack_panel(const float *x, int64_t stride, int64_t count, int64_t depth, float *panel) {
  for (int64_t n = 0; n < PANEL_COLUMNS; n += 4) {
    if (n + 4 <= count) {
      int64_t k = 0;
      for (; k + 4 <= depth; k += 4) {
        float in[4][4];
        for (int i = 0; i < 4; i++) memcpy(in[i], x + (n + i) * stride + k, sizeof in[i]);
        for (int j = 0; j < 4; j++)
          for (int i = 0; i < 4; i++) panel[(k + j) * PANEL_COLUMNS + n + i] = in[i][j];
      }
      for (; k < depth; k++)
        for (int i = 0; i < 4; i++) panel[k * PANEL_COLUMNS + n + i] = hr_load_float(x + (n + i) * stride, k);
    } else {
      for (int i = 0; i < 4; i++)
        for (int64_t k = 0; k < depth; k++)
          panel[k * PANEL_COLUMNS + n + i] = n + i < count ? hr_load_float(x + (n + i) * stride, k) : 0.0f;
    }
  }
}

#endif

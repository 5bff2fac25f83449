/*
 * Pieces of a table's bags. A caller may change its arrays, or give them away, while they are read: so whatever is used as a
 * place in memory is copied first, a bounded piece at a time, and the copy is what is checked, repaired and read.
 */
#ifndef HOTROW_BAG_PIECE_H
#define HOTROW_BAG_PIECE_H

#include <stdlib.h>

#include "embedding_reduce.h"
#include "faults.h"
#include "operators.h"

/* A task's lookups, as a rule, and few enough to stay in a core's own cache. */
enum { PIECE_LOOKUPS = 1 << 13, PIECE_BAGS = 1 << 11 };

/* Scratch memory of a member. */
typedef struct hr_piece {
  int64_t indices[PIECE_LOOKUPS]; /* or as many int32 */
  float weights[PIECE_LOOKUPS];
  int64_t bounds[PIECE_BAGS + 1];
  int32_t int32_offsets[PIECE_BAGS + 1];
} hr_piece;

/* Memory for the lookups of a bag that is longer than a piece; NULL: there was none yet. */
typedef struct hr_long_piece {
  void *memory;
  int64_t lookups;
} hr_long_piece;

/* Pieces of one table's bags. */
typedef struct hr_taking {
  hr_piece *piece;
  hr_long_piece *long_piece;
  hr_guard *guard;
  const hr_table *table;
  const hr_bags *bags;
  int checks;           /* 1: bad bags end the work; 0: they are repaired */
  int is_rising;        /* the piece's bounds are: each is in [0, lookups] and not below the one before */
  const void *indices;  /* as taken: each is a row, or a pruned one's -1 */
  const float *weights; /* NULL: none */
} hr_taking;

/* Lookups that bags may hold: none where there is no row to repair them to. */
static int64_t hr_lookups_of(const hr_taking *taking) {
  return taking->checks || taking->table->row_count > 0 ? taking->bags->lookups : 0;
}

/* Takes the bounds of `count` bags from `first` on; the last bag ends with the lookups where no offset says so. 0: one is bad. */
static int hr_take_bounds(hr_taking *taking, int64_t first, int64_t count) {
  hr_piece *piece = taking->piece;
  const hr_bags *bags = taking->bags;
  const int64_t stored = hr_min(count + 1, bags->offset_count - first);
  const char *offsets = (const char *)bags->offsets + first * bags->offset_bytes;
  const int64_t lookups = hr_lookups_of(taking);
  int64_t *bounds = piece->bounds;
  if (bags->offset_bytes == 8) {
    hr_copy_from(taking->guard, bounds, offsets, stored * 8);
  } else {
    hr_copy_from(taking->guard, piece->int32_offsets, offsets, stored * 4);
    for (int64_t i = 0; i < stored; i++) bounds[i] = piece->int32_offsets[i];
  }
  if (stored == count) bounds[count] = lookups;
  int64_t bad = (first == 0 && bounds[0] != 0) | (bounds[0] < 0) | (bounds[0] > lookups);
  for (int64_t i = 1; i <= count; i++) bad += (bounds[i] < bounds[i - 1]) | (bounds[i] > lookups);
  taking->is_rising = bad == 0;
  if (bad == 0) return 1;
  if (taking->checks) return 0;
  /* Where bags overlap or leave lookups out, each is taken by itself. */
  for (int64_t i = 0; i <= count; i++) bounds[i] = hr_clamp(bounds[i], 0, lookups);
  return 1;
}

/* How many bags of the piece from `at` on, before `taken`, hold lookups one behind the other that fit; at least 1. */
static int64_t hr_fitting_bags(const hr_taking *taking, int64_t at, int64_t taken) {
  if (!taking->is_rising) return 1;
  const int64_t *bounds = taking->piece->bounds;
  const int64_t past = bounds[at] + PIECE_LOOKUPS;
  if (bounds[taken] <= past) return taken - at;
  int64_t low = at + 1;
  int64_t high = taken; /* bounds[high] does not fit */
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    if (bounds[middle] <= past)
      low = middle;
    else
      high = middle;
  }
  return low - at;
}

/* Memory for `count` indices and weights, past those of a piece. */
static void *hr_long_memory(hr_long_piece *piece, int64_t count) {
  if (piece->lookups >= count) return piece->memory;
  free(piece->memory);
  piece->memory = malloc((size_t)count * (sizeof(int64_t) + sizeof(float)));
  piece->lookups = piece->memory ? count : 0;
  return piece->memory;
}

/* Takes `count` lookups from position `first` on. Returns HR_RUN_…. */
static int hr_take_lookups(hr_taking *taking, int64_t first, int64_t count) {
  const hr_bags *bags = taking->bags;
  const int64_t bytes = bags->index_bytes;
  int64_t *indices = taking->piece->indices;
  float *weights = taking->piece->weights;
  if (count > PIECE_LOOKUPS) {
    indices = hr_long_memory(taking->long_piece, count);
    if (!indices) return HR_RUN_NO_MEMORY;
    weights = (float *)(indices + count);
  }
  taking->indices = indices;
  taking->weights = bags->weights ? weights : NULL;
  hr_copy_from(taking->guard, indices, (const char *)bags->indices + first * bytes, count * bytes);
  if (bags->weights) hr_copy_from(taking->guard, weights, bags->weights + first, count * (int64_t)sizeof(float));
  if (HR_NAME(hr_count_bad_indices)(taking->table, indices, bytes, count) == 0) return HR_RUN_DONE;
  if (taking->checks) return HR_RUN_STOPPED;
  HR_NAME(hr_repair_indices)(taking->table, indices, bytes, count);
  return HR_RUN_DONE;
}

/* Whether the lookups from position `first` on are good, which no bag holds: they are checked where bags are. */
static int hr_are_good_lookups(hr_taking *taking, int64_t first) {
  if (!taking->checks) return 1;
  const hr_bags *bags = taking->bags;
  const int64_t bytes = bags->index_bytes;
  const char *indices = (const char *)bags->indices + first * bytes;
  const int64_t count = bags->lookups - first;
  hr_watch(taking->guard, indices, count * bytes);
  const int64_t bad = HR_NAME(hr_count_bad_indices)(taking->table, indices, bytes, count);
  hr_unwatch(taking->guard);
  return bad == 0;
}

#endif

/*
 * Pieces of a table's bags. A caller may change its arrays, or give them away, while they are read: so whatever is used as a
 * place in memory is copied first, a bounded piece at a time, and the copy is what is checked, repaired and read.
 */
#ifndef HOTROW_BAG_PIECE_H
#define HOTROW_BAG_PIECE_H

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

/* Pieces of one table's bags. */
typedef struct hr_taking {
  hr_piece *piece;
  hr_guard *guard;
  const hr_table *table;
  const hr_bags *bags;
  int checks;      /* 1: bad bags end the work; 0: they are repaired */
  int64_t lookups; /* that bags may hold: none where there are no rows to repair them to */
  int is_rising;   /* of the piece's bounds: each is in [0, lookups] and not below the one before */
} hr_taking;

static hr_taking hr_start_taking(hr_piece *piece, hr_guard *guard, const hr_table *table, const hr_bags *bags, int checks) {
  return (hr_taking){
      .piece = piece,
      .guard = guard,
      .table = table,
      .bags = bags,
      .checks = checks,
      .lookups = checks || table->row_count > 0 ? bags->lookups : 0,
  };
}

/* Takes the bounds of `count` bags from `first` on; the last bag ends with the lookups where no offset says so. 0: one is bad. */
static int hr_take_bounds(hr_taking *taking, int64_t first, int64_t count) {
  hr_piece *piece = taking->piece;
  const hr_bags *bags = taking->bags;
  const int64_t stored = hr_min(count + 1, bags->offset_count - first);
  const char *offsets = (const char *)bags->offsets + first * bags->offset_bytes;
  int64_t *bounds = piece->bounds;
  if (bags->offset_bytes == 8) {
    hr_copy_from(taking->guard, bounds, offsets, stored * 8);
  } else {
    hr_copy_from(taking->guard, piece->int32_offsets, offsets, stored * 4);
    for (int64_t i = 0; i < stored; i++) bounds[i] = piece->int32_offsets[i];
  }
  if (stored == count) bounds[count] = taking->lookups;
  int64_t bad = (first == 0 && bounds[0] != 0) | (bounds[0] < 0) | (bounds[0] > taking->lookups);
  for (int64_t i = 1; i <= count; i++) bad += (bounds[i] < bounds[i - 1]) | (bounds[i] > taking->lookups);
  taking->is_rising = bad == 0;
  if (bad == 0) return 1;
  if (taking->checks) return 0;
  /* Where bags overlap or leave lookups out, each is taken by itself. */
  for (int64_t i = 0; i <= count; i++) bounds[i] = hr_clamp(bounds[i], 0, taking->lookups);
  return 1;
}

/* Where bag `at` of the piece ends. */
static int64_t hr_end_of_bag(const hr_taking *taking, int64_t at) {
  return hr_max(taking->piece->bounds[at], taking->piece->bounds[at + 1]);
}

/* How many bags of the piece from `at` on, before `taken`, hold lookups one behind the other that fit; 0: one alone is too long. */
static int64_t hr_fitting_bags(const hr_taking *taking, int64_t at, int64_t taken) {
  int64_t *bounds = taking->piece->bounds;
  if (!taking->is_rising) return hr_end_of_bag(taking, at) - bounds[at] <= PIECE_LOOKUPS;
  const int64_t past = bounds[at] + PIECE_LOOKUPS;
  if (bounds[taken] <= past) return taken - at;
  int64_t low = at; /* bounds[low] fits, bounds[high] does not */
  int64_t high = taken;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    if (bounds[middle] <= past)
      low = middle;
    else
      high = middle;
  }
  return low - at;
}

/* Takes `count` lookups from position `first` on. 0: one is bad. */
static int hr_take_lookups(hr_taking *taking, int64_t first, int64_t count) {
  hr_piece *piece = taking->piece;
  const hr_bags *bags = taking->bags;
  const int64_t bytes = bags->index_bytes;
  hr_copy_from(taking->guard, piece->indices, (const char *)bags->indices + first * bytes, count * bytes);
  if (bags->weights) hr_copy_from(taking->guard, piece->weights, bags->weights + first, count * (int64_t)sizeof(float));
  if (HR_NAME(hr_count_bad_indices)(taking->table, piece->indices, bytes, count) == 0) return 1;
  if (taking->checks) return 0;
  HR_NAME(hr_repair_indices)(taking->table, piece->indices, bytes, count);
  return 1;
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

/* The job is to reduce the `count` bags that these bounds cut the taken lookups into. */
static void hr_set_bags(hr_reduce_job *job, const hr_taking *taking, const int64_t *bounds, int64_t count) {
  job->bounds = bounds;
  job->bag_count = count;
  job->first_position = bounds[0];
  job->indices = taking->piece->indices;
  job->weights = taking->bags->weights ? taking->piece->weights : NULL;
}

#endif

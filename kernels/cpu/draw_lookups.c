/*
 * hr_draw_lookups: every lookup takes two numbers of its stream, whose generator is brought to any place of the stream
 * without the numbers before it, so that pieces of a stream are drawn by any threads.
 */
#include <math.h>

#include "pool.h"

enum { PIECE = 1 << 15, STATE_BITS = 128, JUMPS = 55 };

/* xoshiro128** (Blackman and Vigna, 2018). */
typedef struct state {
  uint32_t word[4];
} state;

static inline uint32_t rotate_left(uint32_t x, int bits) { return x << bits | x >> (32 - bits); }

static inline void step(state *s) {
  uint32_t *w = s->word, t = w[1] << 9;
  w[2] ^= w[0];
  w[3] ^= w[1];
  w[1] ^= w[2];
  w[0] ^= w[3];
  w[2] ^= t;
  w[3] = rotate_left(w[3], 11);
}

/* Uniform in [0, 1), 32 bits. */
static inline double next_uniform(state *s) {
  uint32_t bits = rotate_left(s->word[1] * 5, 7) * 9;
  step(s);
  return bits * 0x1p-32;
}

/* The first state of a seed: four numbers of splitmix32. */
static state seeded(uint32_t seed) {
  state s;
  for (int i = 0; i < 4; i++) {
    uint32_t z = seed += 0x9e3779b9;
    z = (z ^ z >> 16) * 0x85ebca6b;
    z = (z ^ z >> 13) * 0xc2b2ae35;
    s.word[i] = z ^ z >> 16;
  }
  return s;
}

/* A step is linear over GF(2): jumps[j] is the matrix of 2^j steps, by its columns. */
static state jumps[JUMPS][STATE_BITS];
static pthread_once_t jumps_made = PTHREAD_ONCE_INIT;

static state times(const state *columns, state s) {
  state sum = {{0}};
  for (int bit = 0; bit < STATE_BITS; bit++) {
    uint32_t mask = -(s.word[bit / 32] >> bit % 32 & 1);
    for (int w = 0; w < 4; w++) sum.word[w] ^= columns[bit].word[w] & mask;
  }
  return sum;
}

static void make_jumps(void) {
  for (int bit = 0; bit < STATE_BITS; bit++) {
    state unit = {{0}};
    unit.word[bit / 32] = (uint32_t)1 << bit % 32;
    step(&unit);
    jumps[0][bit] = unit;
  }
  for (int j = 1; j < JUMPS; j++)
    for (int bit = 0; bit < STATE_BITS; bit++) jumps[j][bit] = times(jumps[j - 1], jumps[j - 1][bit]);
}

static state jumped(state s, uint64_t steps) {
  for (int j = 0; j < JUMPS && steps >> j != 0; j++)
    if (steps >> j & 1) s = times(jumps[j], s);
  return s;
}

/* The stratum of u is the number of limits that it has reached; the last limit, 1, is never reached. */
static inline int64_t stratum_of(const hr_draw *draw, double u) {
  int64_t s = 0;
  for (int64_t i = 0; i + 1 < draw->strata; i++) s += u >= draw->limits[i];
  return s;
}

static inline __attribute__((always_inline)) int64_t draw_rank(const hr_draw *draw, const int64_t popularity,
                                                               double u, double v) {
  const double rows = (double)draw->rows;
  switch (popularity) {
    case HR_POPULARITY_ONE_ROW: return 0;
    case HR_POPULARITY_UNIFORM: return (int64_t)(u * rows);
    case HR_POPULARITY_LOG_UNIFORM: return hr_min(draw->touched, (int64_t)pow((double)(draw->touched + 1), u)) - 1;
    default: {
      int64_t s = stratum_of(draw, u);
      double begin = draw->bounds[s], end = draw->bounds[s + 1];
      double place = (begin + v * (end - begin)) / draw->bounds[draw->strata];
      return hr_min(draw->rows - 1, (int64_t)(place * rows));
    }
  }
}

/* (rank · step + start) mod rows. */
static inline __attribute__((always_inline)) int64_t row_of(const hr_draw *draw, double inverse, int64_t rank) {
  if (draw->rows > (int64_t)1 << 31)
    return (int64_t)(((unsigned __int128)rank * (uint64_t)draw->step + (uint64_t)draw->start) % (uint64_t)draw->rows);
  /* Below 2^63; the quotient by way of doubles is off by one at most. Many times faster than a division of integers. */
  int64_t x = rank * draw->step + draw->start;
  int64_t rest = x - (int64_t)((double)x * inverse) * draw->rows;
  return rest < 0 ? rest + draw->rows : rest >= draw->rows ? rest - draw->rows : rest;
}

static inline __attribute__((always_inline)) void draw_piece(const hr_draw *draw, int64_t begin, int64_t end,
                                                             const int64_t popularity) {
  const double inverse = 1.0 / (double)draw->rows;
  state s = jumped(seeded((uint32_t)draw->seed), (uint64_t)(draw->skipped + 2 * (draw->first + begin)));
  for (int64_t i = begin; i < end; i++) {
    double u = next_uniform(&s), v = next_uniform(&s);
    draw->indices[i] = row_of(draw, inverse, draw_rank(draw, popularity, u, v));
  }
}

typedef struct draw_context {
  const hr_draw *draws;
  int64_t count;
  hr_counter tasks;
} draw_context;

static void draw_task(void *context, int64_t member) {
  (void)member;
  draw_context *work = context;
  /* Tasks come in rising order: the draw of the next one is this one or a later one. */
  int64_t d = 0, before = 0;
  for (;;) {
    int64_t task = hr_next(&work->tasks);
    while (d < work->count && task - before >= hr_ceil_div(work->draws[d].count, PIECE))
      before += hr_ceil_div(work->draws[d++].count, PIECE);
    if (d == work->count) return;
    const hr_draw *draw = &work->draws[d];
    int64_t begin = (task - before) * PIECE, end = hr_min(begin + PIECE, draw->count);
    switch (draw->popularity) {
      case HR_POPULARITY_ONE_ROW: draw_piece(draw, begin, end, HR_POPULARITY_ONE_ROW); break;
      case HR_POPULARITY_UNIFORM: draw_piece(draw, begin, end, HR_POPULARITY_UNIFORM); break;
      case HR_POPULARITY_LOG_UNIFORM: draw_piece(draw, begin, end, HR_POPULARITY_LOG_UNIFORM); break;
      default: draw_piece(draw, begin, end, HR_POPULARITY_STRATA);
    }
  }
}

static int is_valid(const hr_draw *draw) {
  const int64_t most = (int64_t)1 << 53;
  if (draw->count < 0 || draw->first < 0 || draw->skipped < 0 || draw->rows < 1 || draw->rows >= most) return 0;
  if (draw->first >= most || draw->count >= most || draw->skipped >= most) return 0;
  if (draw->step < 1 || draw->step > draw->rows || draw->start < 0 || draw->start >= draw->rows) return 0;
  if (draw->popularity == HR_POPULARITY_LOG_UNIFORM) return draw->touched >= 1 && draw->touched <= draw->rows;
  if (draw->popularity == HR_POPULARITY_STRATA) return draw->strata >= 1 && draw->limits && draw->bounds;
  return draw->popularity == HR_POPULARITY_ONE_ROW || draw->popularity == HR_POPULARITY_UNIFORM;
}

HR_EXPORT int64_t hr_draw_lookups(hr_pool *pool, const hr_draw *draws, int64_t count) {
  int64_t pieces = 0;
  for (int64_t d = 0; d < count; d++) {
    if (!is_valid(&draws[d])) return HR_RUN_BAD_ARGUMENT;
    pieces += hr_ceil_div(draws[d].count, PIECE);
  }
  pthread_once(&jumps_made, make_jumps);
  draw_context work = {.draws = draws, .count = count};
  pthread_mutex_lock(&pool->one_run_at_a_time);
  hr_team_run(pool->team, hr_threads_for(pool, 0, pieces), draw_task, &work);
  pthread_mutex_unlock(&pool->one_run_at_a_time);
  return HR_RUN_DONE;
}

/*
 * C ABI of the CPU kernels: one shared library, loaded by src/ffi/native-library.ts.
 *
 * Every field of every struct is 8 bytes wide (int64_t, double or a pointer), so that a caller can lay a struct
 * out as an array of 64-bit words without knowing a compiler's padding rules. Matrices are row-major; a `stride`
 * counts elements between the starts of consecutive rows. Sizes are in elements unless the name ends in `_bytes`.
 * No pointer needs any alignment; rows may start at any byte.
 */
#ifndef HOTROW_CPU_H
#define HOTROW_CPU_H

#include <stdint.h>

#define HR_ABI_VERSION 13

/* Instruction sets, weakest first. A pool runs every operator on one of them. */
enum { HR_ISA_PORTABLE = 0, HR_ISA_AVX2 = 1, HR_ISA_AVX512 = 2 };

/*
 * Row formats of embedding tables. Sums are always accumulated in float32. Quantised rows are FBGEMM's: int8 and int4 (the
 * even element in the low half of a byte) stand behind a float16 scale and a float16 bias, an element's value is
 * scale · q + bias, rounded once; float8 (e4m3: all ones is NaN, no infinities) has neither.
 * X(with, name, number, bits of an element, bytes of the header)
 */
#define HR_FOR_EACH_ROW_FORMAT(X, with) \
  X(with, FLOAT32, 0, 32, 0)            \
  X(with, FLOAT16, 1, 16, 0)            \
  X(with, BFLOAT16, 2, 16, 0)           \
  X(with, INT8, 3, 8, 4)                \
  X(with, INT4, 4, 4, 4)                \
  X(with, FLOAT8_E4M3, 5, 8, 0)

#define HR_ROW_FORMAT_NUMBER(_, name, number, bits, header_bytes) HR_##name = number,
enum { HR_FOR_EACH_ROW_FORMAT(HR_ROW_FORMAT_NUMBER, _) HR_ROW_FORMATS };
#undef HR_ROW_FORMAT_NUMBER

enum { HR_POOL_SUM = 0, HR_POOL_MEAN = 1, HR_POOL_MAX = 2 };

enum { HR_ACTIVATION_NONE = 0, HR_ACTIVATION_RELU = 1, HR_ACTIVATION_SIGMOID = 2 };

/* Cache levels that a prefetch may aim at (prefetcht0, t1, t2; nta). */
enum { HR_PREFETCH_L1 = 1, HR_PREFETCH_L2 = 2, HR_PREFETCH_L3 = 3, HR_PREFETCH_NTA = 4 };

/* What is wrong with the bags of a table. */
enum {
  HR_BAGS_OK = 0,
  HR_BAGS_INDEX_OUT_OF_RANGE = 1,    /* indices[position] is not in [0, row_count), nor a pruned row's */
  HR_BAGS_FIRST_OFFSET_NOT_ZERO = 2, /* offsets[0] != 0 */
  HR_BAGS_OFFSETS_DECREASE = 3,      /* offsets[position] < offsets[position - 1] */
  HR_BAGS_OFFSET_PAST_END = 4        /* offsets[position] > lookups */
};

/* A file that is mapped. */
typedef struct hr_mapping hr_mapping;

/* One embedding table [row_count, dim], as it lies in memory. */
typedef struct hr_table {
  const void *rows;
  int64_t row_count;
  int64_t dim;
  int64_t row_format;         /* HR_FLOAT32 … */
  int64_t row_stride_bytes;
  int64_t pooling;            /* HR_POOL_SUM … */
  int64_t padding_index;      /* a row left out of the reduction and of the mean's count; -1: none */
  const float *row_weights;   /* [row_count], a learned weight per row (sum only); NULL: none */
  int64_t pruned;             /* 1: index -1 stands for a pruned row; 0: it is a bad index */
  hr_mapping *file;           /* that the rows lie in; NULL: in none */
} hr_table;

/* The bags of one table for one batch. */
typedef struct hr_bags {
  const void *indices;        /* [lookups] */
  const void *offsets;        /* [offset_count]: as many entries as bags, or one more */
  int64_t index_bytes;        /* 4 or 8: int32 or int64 */
  int64_t offset_bytes;       /* 4 or 8 */
  int64_t lookups;
  int64_t offset_count;
  const float *weights;       /* [lookups], per-sample weights (sum only); NULL: none */
  int64_t output_column;      /* the table's first column in the output row, or in a user's */
  int64_t per_user;           /* 1: a bag per user, instead of one per sample; 0 */
} hr_bags;

/* What a check of bags found; the first finding is the one in the lowest table, offsets before indices, lowest
 * position. Zeroed by the operator before it starts. */
typedef struct hr_check_report {
  int64_t code;               /* HR_BAGS_… of the first finding */
  int64_t table;
  int64_t position;
  int64_t value;
  int64_t limit;              /* row_count, lookups, or the offset before */
  int64_t bad_indices;        /* how many in all tables */
  int64_t bad_offsets;
} hr_check_report;

/* Operators. hr_run executes a list of them in order. */
enum { HR_OP_CHECK_BAGS = 1, HR_OP_EMBEDDING_BAGS = 2, HR_OP_LINEAR = 3, HR_OP_DOT_INTERACTION = 4, HR_OP_COPY = 5,
       HR_OP_SPREAD_ROWS = 6, HR_OP_ROW_FUNCTION = 7 };

#define HR_OP_WORDS 24 /* every operator occupies this many 64-bit words */

/* HR_OP_CHECK_BAGS: range-checks every index and offset of every table, and goes on whatever it finds. */
typedef struct hr_op_check_bags {
  int64_t kind;
  int64_t threads;            /* at most this many threads of the pool; 0: all */
  const hr_table *tables;
  const hr_bags *bags;
  int64_t table_count;
  int64_t batch;
  int64_t users;              /* bags of tables with a bag per user */
  hr_check_report *report;
} hr_op_check_bags;

/*
 * HR_OP_EMBEDDING_BAGS: output[b, column(t) : column(t) + dim(t)] = pooled rows of bag b of table t, for all tables; of
 * tables with a bag per user, user_output[u, …] = those of bag u. Without samples there may be users: their bags are checked,
 * and not pooled.
 * Semantics are torch.nn.EmbeddingBag's: empty bags give zeros (max too), padding_index is left out of sum, mean's
 * count and max; max keeps `w > m ? w : m` NaN behaviour with the first counted row as the start. A pruned row is left out of
 * sum and max, and counts for the mean.
 * A bad index reads row 0, and bag bounds are clamped into
 * begin = clamp(offsets[b], 0, lookups), end = clamp(offsets[b + 1], begin, lookups); nothing is written back.
 * An index is repaired before it is compared with padding_index.
 * stop_report: when not NULL, everything that HR_OP_CHECK_BAGS checks is checked here, each piece of the work just
 * before it is done, so that indices come from memory once. When anything is wrong, hr_run stops after this operator,
 * *stop_report holds what HR_OP_CHECK_BAGS finds then, and the output's content is undefined.
 * Indices, offsets and weights may change or go away meanwhile: each is copied, and the copy checked, repaired and read. Sums are
 * then of what was read, and no other memory is touched.
 * Every bag is reduced by one thread in index order: results do not depend on the thread count, on prefetch, on
 * page size; between instruction sets they differ by nothing for sum, mean and max without weights.
 */
typedef struct hr_op_embedding_bags {
  int64_t kind;
  int64_t threads;
  const hr_table *tables;
  const hr_bags *bags;
  int64_t table_count;
  int64_t batch;
  float *output;
  int64_t output_stride;
  int64_t prefetch_distance;  /* lookups ahead; 0: no software prefetch */
  int64_t prefetch_level;     /* HR_PREFETCH_… */
  hr_check_report *stop_report; /* NULL: no check */
  int64_t users;              /* bags of tables with a bag per user */
  float *user_output;         /* NULL where no table has them */
  int64_t user_output_stride;
} hr_op_embedding_bags;

/*
 * HR_OP_LINEAR: output[m, n] = activation(sum_k input[m, k] · W[n, k] + bias[n]).
 * With cross_x0 and cross_x (both or neither, [batch, outputs]): output = cross_x0 ⊙ (W·input + bias) + cross_x, the
 * DCNv2 cross layer; activation is then HR_ACTIVATION_NONE. output must not overlap input; it may not overlap
 * cross_x0; it may be cross_x. The order of additions over k does not depend on the thread count or on batch.
 * With weight_scales, factors have 8 bits: the packed W holds values of float8 e4m3, and sum_k input[m, k] · W[n, k] is
 * (sum_k q[m, k] · W[n, k] · scale[m]) · weight_scales[n], q[m, k] = e4m3(input[m, k] · (1 / scale[m])), rounded to nearest even,
 * at most ±448, NaN where it is; scale[m] = input_scale, or, where that is 0, max(max_k |input[m, k]| / 448, 2^-100), NaN left out.
 */
typedef struct hr_op_linear {
  int64_t kind;
  int64_t threads;
  const float *input;
  int64_t input_stride;
  const void *packed_weight;  /* by hr_pack_linear for the same pool */
  const float *bias;          /* [outputs] or NULL */
  float *output;
  int64_t output_stride;
  int64_t batch;
  int64_t inputs;
  int64_t outputs;
  int64_t activation;
  const float *cross_x0;
  int64_t cross_x0_stride;
  const float *cross_x;
  int64_t cross_x_stride;
  const float *weight_scales; /* [outputs] or NULL */
  double input_scale;         /* a float32, finite and above 0, or 0: each row's own */
} hr_op_linear;

/*
 * HR_OP_DOT_INTERACTION: for each sample, Z = input[b] as [features, dim]; P = Z·Zᵀ.
 * output[b, 0 : pairs] = P[i, j] with j < i (j <= i with diagonal), ordered
 *   order 0: row by row of the lower triangle  — (1,0) (2,0) (2,1) … (facebookresearch/dlrm)
 *   order 1: row by row of the upper triangle  — (0,1) (0,2) … (0,F-1) (1,2) … (TorchRec).
 */
typedef struct hr_op_dot_interaction {
  int64_t kind;
  int64_t threads;
  const float *input;
  int64_t input_stride;
  float *output;
  int64_t output_stride;
  int64_t batch;
  int64_t features;
  int64_t dim;
  int64_t diagonal;
  int64_t order;
} hr_op_dot_interaction;

/*
 * HR_OP_ROW_FUNCTION: output[b, 0 : width] = function(input[b, 0 : columns]), one of row_functions.h. The order of additions
 * depends on neither the thread count nor the batch.
 */
typedef struct hr_op_row_function {
  int64_t kind;
  int64_t threads;
  int64_t function;           /* its place in HR_FOR_EACH_ROW_FUNCTION */
  const float *input;
  int64_t input_stride;
  float *output;
  int64_t output_stride;
  int64_t batch;
  int64_t columns;
  int64_t width;              /* of the output: what the function makes of so many columns */
} hr_op_row_function;

/* HR_OP_COPY: output[r, 0:cols] = input[r, 0:cols]. Rows of float32 to the same (32 bits), or narrowed to nearest even. */
typedef struct hr_op_copy {
  int64_t kind;
  int64_t threads;
  const void *input;
  int64_t input_stride;
  void *output;
  int64_t output_stride;
  int64_t rows;
  int64_t cols;
  /* 4, or 2 where neither side is float32: how many bytes an element of the input has. */
  int64_t element_bytes;
  /* HR_FLOAT32: elements are copied as they are. HR_FLOAT16, HR_BFLOAT16: float32 is rounded to them. */
  int64_t narrow_to;
} hr_op_copy;

/* Columns [from, from + columns) of a row, which become columns [to, to + columns) of another. */
typedef struct hr_span {
  int64_t from;
  int64_t to;
  int64_t columns;
} hr_span;

/*
 * HR_OP_SPREAD_ROWS: output[b, to : to + columns] = input[u, from : from + columns] for every span, every u in [0, count) and
 * every b in [starts[u], starts[u + 1]). What else there is of the output stays.
 */
typedef struct hr_op_spread_rows {
  int64_t kind;
  int64_t threads;
  const float *input;
  int64_t input_stride;
  float *output;
  int64_t output_stride;
  const int32_t *starts;      /* [count + 1], from 0 on, never decreasing */
  int64_t count;
  const hr_span *spans;
  int64_t span_count;
} hr_op_spread_rows;

typedef struct hr_pool hr_pool;

int64_t hr_abi_version(void);

/* The best instruction set that this processor has. */
int64_t hr_best_isa(void);

/* A pool of `threads` threads (the caller of hr_run is one of them). NULL: threads < 1, an isa that the processor
 * lacks, or no memory or threads to be had. */
hr_pool *hr_pool_create(int64_t threads, int64_t isa);
/* Waits for a call that runs on it; none may wait for its turn, or come later. */
void hr_pool_destroy(hr_pool *pool);

/*
 * Executes `count` operators in order, each HR_OP_WORDS words apart; a pool runs one list at a time (a second caller
 * waits). seconds[i], if not NULL, receives operator i's wall time.
 * Returns 0; 1: an HR_OP_EMBEDDING_BAGS found bad bags and stopped the list; 2: memory of bags, or of an HR_OP_COPY's input, was
 * given back meanwhile, which stopped the list; 3: a file that tables lie in was changed, the same; -1: an operator kind or argument is unknown; -2: no memory.
 */
int64_t hr_run(hr_pool *pool, const void *operators, int64_t count, double *seconds);

/* Bytes that hr_pack_linear writes for W [outputs, inputs]; -1 on overflow. */
int64_t hr_packed_linear_bytes(hr_pool *pool, int64_t outputs, int64_t inputs);
/* Packs W [outputs, inputs] float32 for HR_OP_LINEAR into `packed` (64-byte aligned). Returns 0. */
int64_t hr_pack_linear(hr_pool *pool, const float *weight, int64_t outputs, int64_t inputs, void *packed);

/* Page-aligned zeroed anonymous memory; huge != 0 aligns to 2 MiB and asks for huge pages by madvise. NULL: none. */
void *hr_alloc(int64_t bytes, int64_t huge);
/* What is no memory of hr_alloc's, or not any more, is left alone. */
void hr_free(void *memory);
/* Bytes of [memory, memory + bytes) that are backed by huge pages now (from /proc/self/smaps); -1: unknown. */
int64_t hr_huge_bytes(const void *memory, int64_t bytes);

/*
 * Maps a file read-only: *memory and *bytes. NULL on failure, with errno in *error. The mapping notices when somebody writes to
 * the file or cuts it: what is lost reads as zeros, and HR_OP_EMBEDDING_BAGS over tables in it fails from then on. A file may
 * be renamed, removed, or replaced by renaming another over it. One that is written with content of the same size is noticed by
 * samples: if the bytes of some pages are not what they were.
 */
hr_mapping *hr_map_file(const char *path, void **memory, int64_t *bytes, int64_t *error);
void hr_unmap_file(hr_mapping *mapping);
/* 1: it has changed; 0. */
int64_t hr_has_file_changed(hr_mapping *mapping);
/* Lets bytes [begin, begin + bytes) of the mapping be written. A page is copied when it is first written: the file stays as it
 * is, and so does what others map of it. 0, or an errno. */
int64_t hr_make_writable(hr_mapping *mapping, int64_t begin, int64_t bytes);
/* Reads [offset, offset + bytes) of a file to `target` in bounded chunks. 0, an errno, or -1 at an early end. */
int64_t hr_read_file(const char *path, int64_t offset, int64_t bytes, void *target);

/* A copy of rows in host memory; source and target do not overlap. */
typedef struct hr_host_copy {
  void *target;
  const void *source;
  int64_t rows;
  int64_t row_bytes;
  int64_t target_stride; /* bytes between the starts of rows; unused for one row */
  int64_t source_stride;
} hr_host_copy;
/* Does `count` copies, shared by the pool's threads in pieces (a second caller waits), or on the calling thread where pool
 * is NULL. Returns 0; 2: a source was given back meanwhile; -2: no memory. */
int64_t hr_copy_all(hr_pool *pool, const hr_host_copy *copies, int64_t count);

/* Rows of a table that are moved. */
typedef struct hr_row_move {
  void *rows; /* [row_count, row_bytes] */
  int64_t row_count;
  int64_t row_bytes;
  const int64_t *numbers; /* [count]; numbers outside [0, row_count) are left out */
  int64_t count;
  void *values; /* [count, row_bytes] */
} hr_row_move;
/* rows[numbers[i]] = values[i], in order; nobody reads or writes the rows meanwhile. Returns 0. */
int64_t hr_update_rows(const hr_row_move *move);
/* values[i] = rows[numbers[i]]. Returns 0. */
int64_t hr_read_rows(const hr_row_move *move);

/* The offsets of a table's bags. */
typedef struct hr_bag_offsets {
  const void *offsets; /* [count] */
  int64_t offset_bytes; /* 4 or 8 */
  int64_t count;        /* batch or batch + 1 */
  int64_t lookups;
} hr_bag_offsets;
/* found[t] = whether a bag of table t has more than `split` lookups, its bounds clamped to [0, lookups]; else 0. */
void hr_find_long_bags(const hr_bag_offsets *tables, int64_t count, int64_t batch, int64_t split, uint8_t *found);

/*
 * A request record is one request of a server in a slot: a stretch of memory below 4 GiB that begins with a header of uint32 words,
 * behind which its arrays lie at any byte. "At" words are bytes from the slot's start; those of arrays without elements mean nothing.
 * The header is HR_REQUEST_WORDS words, then HR_REQUEST_TABLE_WORDS for each table. Words without a name are 0.
 */
enum {
  HR_REQUEST_SAMPLES = 0,       /* B */
  HR_REQUEST_USERS = 1,         /* U; 0: none are said */
  HR_REQUEST_USER_FEATURES = 2, /* Fu, of F dense features: a user's, which come first; 0 where U is 0 */
  HR_REQUEST_DENSE_AT = 3,      /* float32 [B, F - Fu] */
  HR_REQUEST_USER_DENSE_AT = 4, /* float32 [U, Fu] */
  HR_REQUEST_STARTS_AT = 5,     /* int32 [U + 1], from 0 to B: the candidates of user u are [starts[u], starts[u + 1]) */
  HR_REQUEST_IS_CHECKED = 6,    /* written by hr_check_request: 1 where the record is good */
  HR_REQUEST_WORDS = 8
};
enum {
  HR_REQUEST_INDICES_AT = 0, /* [lookups] */
  HR_REQUEST_LOOKUPS = 1,
  HR_REQUEST_BOUNDS_AT = 2,  /* lengths [bags], offsets [bags] or [bags + 1], or none */
  HR_REQUEST_WEIGHTS_AT = 3, /* float32 [lookups]; 0: none */
  HR_REQUEST_FLAGS = 4,      /* HR_REQUEST_INDICES_64 … */
  HR_REQUEST_NEXT = 5,       /* the table whose indices follow in the same piece, by its number + 1; 0: none */
  HR_REQUEST_TABLE_WORDS = 8
};
enum {
  HR_REQUEST_INDICES_64 = 1,  /* int64, else int32 */
  HR_REQUEST_BOUNDS_64 = 2,
  HR_REQUEST_PER_USER = 4,    /* U bags, else B */
  HR_REQUEST_OFFSETS = 8,     /* bounds are offsets [bags] instead of lengths */
  HR_REQUEST_OFFSETS_END = 16, /* bounds are offsets [bags + 1] */
  HR_REQUEST_EVEN = 32,       /* there are no bounds: all bags have as many lookups */
  /* The table heads a piece: a chain of tables, by NEXT, whose indices lie one after the other, with lengths for bounds. Its
   * INDICES_AT, LOOKUPS, WEIGHTS_AT and INDICES_64 are those of the whole piece. */
  HR_REQUEST_HEADS_PIECE = 64
};

/* What records of a model have. */
typedef struct hr_request_table {
  int64_t row_count;
  int64_t pruned;           /* 1: index -1 stands for a pruned row; 0 */
  int64_t takes_weights;    /* 1: bags may bring weights; 0 */
} hr_request_table;
typedef struct hr_request_model {
  const hr_request_table *tables;
  int64_t table_count;
  int64_t dense_features;   /* F */
} hr_request_model;

/* What is wrong with a record. */
enum {
  HR_REQUEST_OK = 0,
  HR_REQUEST_BAD_HEADER = 1,             /* word `position` of the slot, which is `value`: a flag, or an array that is not in the slot */
  HR_REQUEST_INDEX_OUT_OF_RANGE = 2,     /* limit: row_count */
  HR_REQUEST_FIRST_OFFSET_NOT_ZERO = 3,
  HR_REQUEST_OFFSETS_DECREASE = 4,       /* limit: the offset before */
  HR_REQUEST_OFFSET_PAST_END = 5,        /* limit: lookups */
  HR_REQUEST_LENGTH_OUT_OF_RANGE = 6,    /* below 0, or more than the limit, the lookups that there are */
  HR_REQUEST_LENGTHS_SUM = 7,            /* they add up to `value`, not to the limit, lookups */
  HR_REQUEST_PIECE_SUM = 8,              /* those of all tables of a piece, of which `table` is the last */
  HR_REQUEST_UNEVEN = 9,                 /* `value` lookups cannot be `limit` bags of one length */
  HR_REQUEST_WEIGHTS_UNEXPECTED = 10,
  HR_REQUEST_FIRST_USER_NOT_ZERO = 11,
  HR_REQUEST_USERS_DECREASE = 12,        /* limit: the start before */
  HR_REQUEST_USERS_END = 13              /* the last start is not the limit, B */
};
typedef struct hr_request_fault {
  int64_t code;
  int64_t table;            /* -1: none */
  int64_t position;         /* in the table's array, or of users; -1: none */
  int64_t value;
  int64_t limit;
} hr_request_fault;
/*
 * Checks a record of `bytes` bytes, whatever its words are: nothing outside the slot is read, nothing but the header is written. In a
 * good one, INDICES_AT, LOOKUPS and WEIGHTS_AT of the tables of a piece are their own now, LOOKUPS is where the last bag ends, and
 * IS_CHECKED is 1. Returns 0; 1: *fault says what is wrong, in the lowest table, bounds before indices, lowest position; -1: an
 * argument is out of range.
 */
int64_t hr_check_request(const hr_request_model *model, void *slot, int64_t bytes, hr_request_fault *fault);

/* Records of several requests, merged into one batch; places in the block are bytes from its start, multiples of 16. */
typedef struct hr_merged_table {
  int64_t indices_at;       /* [lookups], int32; of tables of more than 2^31 - 1 rows, int64 */
  int64_t lookups;
  int64_t offsets_at;       /* int32 [bags + 1] */
  int64_t bags;             /* samples, or users */
  int64_t weights_at;       /* float32 [lookups], 1 where a record has none; -1: no record has any */
  int64_t per_user;         /* 1: a bag per user; 0 */
} hr_merged_table;
typedef struct hr_merged_batch {
  int64_t bytes;            /* of the block, all in all */
  int64_t samples;          /* B of all records */
  int64_t users;            /* U; 0: no table has a bag per user */
  int64_t users_at;         /* int32 [U + 1] */
  int64_t dense_at;         /* float32 [B, F] */
} hr_merged_batch;
/*
 * Merges `count` records that hr_check_request found good under the same model, in their order. Tables come first in the block (16-byte aligned), their
 * indices, offsets and weights one behind the other; then users, then dense features, a user's in the row of each candidate.
 * A table is merged per user where all records that have users have it so, and some have; a record without users then counts as
 * a user for each sample. Where only some have it so, their bags are repeated for each candidate. starts [count + 1]: record r is the
 * samples [starts[r], starts[r + 1]). Large batches are shared by the pool's threads, table by table (a second caller waits); NULL:
 * the calling thread does all.
 * Returns 0; 1: the block has fewer than `merged->bytes` bytes, and nothing is written to it (NULL with 0 bytes: how many are
 * needed); 2: a record is not checked; 3: samples or lookups of a table are more than int32 counts; -1: an argument is out of range.
 */
int64_t hr_merge_requests(hr_pool *pool, const hr_request_model *model, const void *const *slots, int64_t count, void *block,
                          int64_t block_bytes, hr_merged_batch *merged, hr_merged_table *tables, int32_t *starts);

/* Fills `count` elements of `row_format` with seeded values uniform in [-1, 1), the same on every isa and thread count. */
int64_t hr_fill_uniform(hr_pool *pool, void *target, int64_t row_format, int64_t count, int64_t seed);

/* The same for `rows` quantised rows of `dim` elements, `row_stride_bytes` (a multiple of 8) apart: random elements, of
 * which scale and bias make values in [-1, 1] (float8: in (-2, 2)), zeros behind them. */
int64_t hr_fill_quantized(hr_pool *pool, void *target, int64_t row_format, int64_t rows, int64_t dim,
                          int64_t row_stride_bytes, int64_t seed);

/* How popular the rows of a table are, by rank from 0 on, the most popular first; u and v are uniform in [0, 1). */
enum {
  HR_POPULARITY_ONE_ROW = 0,     /* rank 0 */
  HR_POPULARITY_UNIFORM = 1,     /* floor(u · rows) */
  HR_POPULARITY_LOG_UNIFORM = 2, /* min(touched, floor((touched + 1)^u)) - 1 */
  /* s: how many of limits[0 … strata - 2] are at most u. The rank is uniform in stratum s by v:
   * floor((bounds[s] + v · (bounds[s + 1] - bounds[s])) / bounds[strata] · rows), at most rows - 1. */
  HR_POPULARITY_STRATA = 3
};

/* The next lookups of a seeded stream into one table. */
typedef struct hr_draw {
  int64_t *indices;           /* [count]; the row of a rank is (rank · step + start) mod rows */
  int64_t count;
  int64_t seed;               /* its low 32 bits seed xoshiro128** by splitmix32 */
  int64_t skipped;            /* numbers of the generator before the stream's first lookup; then a lookup takes two, u and v */
  int64_t first;              /* lookups of the stream before these */
  int64_t rows;               /* 1 … 2^53 - 1 */
  int64_t step;               /* 1 … rows, coprime to rows */
  int64_t start;              /* 0 … rows - 1 */
  int64_t popularity;         /* HR_POPULARITY_… */
  int64_t touched;            /* rows that are ever looked up, 1 … rows */
  int64_t strata;
  const double *limits;       /* [strata], rising */
  const double *bounds;       /* [strata + 1], rising from 0 on */
} hr_draw;
/* Draws for `count` tables on the pool's threads (a second caller waits). What is drawn does not depend on threads, nor on
 * how a stream is cut. Returns 0; -1: an argument is out of range. */
int64_t hr_draw_lookups(hr_pool *pool, const hr_draw *draws, int64_t count);

/*
 * Waits for a GPU on the calling thread: set_current(context), then wait(handle), both int (*)(void *) of the CUDA
 * driver; in one call, because a context is current for a thread only. Returns the first status that is not 0.
 */
int64_t hr_wait_in_context(void *set_current, void *context, void *wait, void *handle);

/*
 * What a thread opened of pools, memory and mapped files, and has not closed, is given back when it ends; the calls that use it
 * have ended then. So are handles that other libraries made, by functions of theirs, all int (*)(void *): set_current(context)
 * comes before each of the others. First all that are there wait(handle), then they give_back(handle), newest first.
 */
typedef struct hr_handle_calls {
  void *set_current; /* NULL: none is needed */
  void *context;
  void *wait;        /* NULL: for nothing */
  void *give_back;   /* its library stays loaded for good */
  int64_t is_known;  /* 1: the handle is `handle`; 0: it is what is made */
  void *handle;
} hr_handle_calls;
typedef struct hr_handle {
  void *made; /* NULL, until the function that makes the handle writes here, so that nothing comes between; then something */
} hr_handle;
/* Makes a handle the calling thread's, before it is made. Nothing is called while `made` is NULL. NULL: no memory. */
hr_handle *hr_own_handle(const hr_handle_calls *calls);
/* Forgets it; nothing is called. */
void hr_disown_handle(hr_handle *handle);

/* What all threads opened and have not closed. */
typedef struct hr_counts {
  int64_t pools;
  int64_t pool_threads;    /* that pools have started */
  int64_t allocations;     /* of hr_alloc */
  int64_t allocated_bytes; /* as they were asked for */
  int64_t mapped_files;
  int64_t mapped_bytes;
  int64_t handles;
} hr_counts;
void hr_get_counts(hr_counts *counts);

/* Another descriptor of the same open file or socket, closed when another program takes this process over; < 0: there is none to be had. */
int64_t hr_duplicate_descriptor(int64_t descriptor);

/* Multiply-adds per second (each counts 1) of a loop that only touches registers, on all threads of the pool. */
double hr_measure_fma_rate(hr_pool *pool, double seconds);
/* Bytes per second that all threads of the pool read from memory in order, each its own part of `bytes`. */
double hr_measure_read_rate(hr_pool *pool, const void *memory, int64_t bytes);

#endif

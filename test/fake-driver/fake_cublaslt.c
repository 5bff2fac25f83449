/*
 * cuBLASLt without a GPU: exports what src/ffi/cublaslt-symbols.ts binds, and computes products on the fake driver's
 * memory, in its streams (fake_set_put), float64 sums rounded once; fast ones of 8-bit factors keep 14 bits from one 32 of
 * them to the next. It refuses what the real one would: shapes that do not fit, addresses less aligned than the search was
 * told, workspace that is too small.
 *
 * Compiled with -include cublasLt.h, the prototypes and numbers are checked against the vendor's.
 *
 *   -DFAKE_WITHOUT_HEURISTIC   no cublasLtMatmulAlgoGetHeuristic
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef CUBLAS_VERSION
typedef int cublasStatus_t, cublasComputeType_t, cudaDataType_t, cudaDataType;
typedef int cublasLtMatmulDescAttributes_t, cublasLtMatmulPreferenceAttributes_t;
typedef struct Object *cublasLtHandle_t, *cublasLtMatmulDesc_t, *cublasLtMatrixLayout_t, *cublasLtMatmulPreference_t;
typedef void *cudaStream_t;
typedef struct { uint64_t data[8]; } cublasLtMatmulAlgo_t;
typedef struct {
  cublasLtMatmulAlgo_t algo;
  size_t workspaceSize;
  cublasStatus_t state;
  float wavesCount;
  int reserved[4];
} cublasLtMatmulHeuristicResult_t;
#endif

enum { SUCCESS = 0, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum { HANDLE = 1, MATMUL, LAYOUT, PREFERENCE };
enum { FLOAT32 = 0, FLOAT16 = 2, BFLOAT16 = 14, E4M3 = 28 };
enum { SCALE_OUTER_VECTORS = 3 };
enum { COMPUTE_32F = 68, COMPUTE_TF32 = 77 };
enum { EPILOGUE_NONE = 1, EPILOGUE_RELU = 2, EPILOGUE_BIAS = 4 };
enum { REDUCTION_COMPUTE_TYPE = 2 };
enum { WORKSPACE_BYTES = 4096 };

/* Of every kind; what a kind has no use for is 0. */
typedef struct Object {
  int kind, alive;
  int compute, transpose_a, epilogue;
  const void *bias;
  const float *scales[2]; /* of A's columns, of B's; without a mode of all of them */
  const float *output_scale;
  int scale_modes[2];
  int8_t fast_sums;
  int bias_type; /* -1: D's */
  int type;
  uint64_t rows, columns;
  int64_t stride;
  uint64_t max_workspace;
  uint32_t alignment[4], reductions;
} Object;

typedef struct {
  Object matmul, a, b, c, d;
  const void *a_data, *b_data;
  void *d_data;
  int rounds_twice;
} Product;
/* A stream copies at most 256 bytes of data: a product is copied here. */
typedef struct { const Product *product; } Work;

/* Of all threads. */
static _Atomic int64_t live, products;
static int algorithms = 3, refusing, epilogues = 1, relu_loses_nan, outer_vectors = 1, rounding_twice;
static char failing_call[64];
static int failing_in, failing_status;
static int (*put)(void *stream, void (*work)(const void *), const void *data, int64_t bytes);

int64_t fake_live(void) { return live; }
int64_t fake_products(void) { return products; }
void fake_set_put(void *function) { put = (int (*)(void *, void (*)(const void *), const void *, int64_t))function; }
void fake_set_algorithms(int count, int refusing_count) { algorithms = count, refusing = refusing_count; }
void fake_set_epilogues(int known) { epilogues = known; }
void fake_set_outer_vectors(int known) { outer_vectors = known; }
void fake_set_relu_loses_nan(int loses) { relu_loses_nan = loses; }
void fake_set_rounding_twice(int count) { rounding_twice = count; }
void fake_fail(const char *call, int nth, int status) {
  snprintf(failing_call, sizeof failing_call, "%s", call);
  failing_in = nth;
  failing_status = status;
}

#define ENTER()                                                                                                         \
  do {                                                                                                                 \
    if (failing_in > 0 && strcmp(__func__, failing_call) == 0 && --failing_in == 0) return failing_status;             \
  } while (0)

/* Ended objects stay allocated, marked, so that using them again is refused instead of undefined. */
static Object *make(int kind) {
  Object *object = calloc(1, sizeof *object);
  object->kind = kind;
  object->alive = 1;
  live += 1;
  return object;
}

static int is(int kind, const void *object) {
  return object != NULL && ((const Object *)object)->kind == kind && ((const Object *)object)->alive;
}

static cublasStatus_t end(int kind, void *object) {
  if (!is(kind, object)) return INVALID_VALUE;
  ((Object *)object)->alive = 0;
  live -= 1;
  return SUCCESS;
}

size_t cublasLtGetVersion(void) { return 130101; }

const char *cublasLtGetStatusName(cublasStatus_t status) {
  switch ((int)status) {
  case 1: return "CUBLAS_STATUS_NOT_INITIALIZED";
  case 3: return "CUBLAS_STATUS_ALLOC_FAILED";
  case 7: return "CUBLAS_STATUS_INVALID_VALUE";
  case 8: return "CUBLAS_STATUS_ARCH_MISMATCH";
  case 13: return "CUBLAS_STATUS_EXECUTION_FAILED";
  case 14: return "CUBLAS_STATUS_INTERNAL_ERROR";
  case 15: return "CUBLAS_STATUS_NOT_SUPPORTED";
  default: return "unrecognized error code";
  }
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out) {
  ENTER();
  *out = (cublasLtHandle_t)make(HANDLE);
  return SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  ENTER();
  return end(HANDLE, handle);
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute, cudaDataType_t scale) {
  ENTER();
  if (scale != FLOAT32 || ((int)compute != COMPUTE_32F && (int)compute != COMPUTE_TF32)) return INVALID_VALUE;
  Object *matmul = make(MATMUL);
  matmul->compute = (int)compute;
  matmul->epilogue = EPILOGUE_NONE;
  matmul->bias_type = -1;
  *out = (cublasLtMatmulDesc_t)matmul;
  return SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t matmul) {
  ENTER();
  return end(MATMUL, matmul);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t handle, cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes) {
  ENTER();
  Object *matmul = (Object *)handle;
  const int which = (int)attribute;
  const int is_pointer = which == 8 || which == 17 || which == 18 || which == 20;
  if (!is(MATMUL, matmul) || bytes != (is_pointer ? 8 : which == 25 ? 1 : 4)) return INVALID_VALUE;
  switch (which) {
  case 3: memcpy(&matmul->transpose_a, value, 4); return SUCCESS;
  case 7: memcpy(&matmul->epilogue, value, 4); return SUCCESS;
  case 8: memcpy(&matmul->bias, value, 8); return SUCCESS;
  case 17:
  case 18: memcpy(&matmul->scales[which - 17], value, 8); return SUCCESS;
  case 20: memcpy(&matmul->output_scale, value, 8); return SUCCESS;
  case 25: memcpy(&matmul->fast_sums, value, 1); return SUCCESS;
  case 26: memcpy(&matmul->bias_type, value, 4); return SUCCESS;
  case 31:
  case 32: memcpy(&matmul->scale_modes[which - 31], value, 4); return SUCCESS;
  default: return INVALID_VALUE;
  }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t stride) {
  ENTER();
  if (rows == 0 || columns == 0 || stride < (int64_t)rows) return INVALID_VALUE;
  Object *layout = make(LAYOUT);
  layout->type = (int)type;
  layout->rows = rows;
  layout->columns = columns;
  layout->stride = stride;
  *out = (cublasLtMatrixLayout_t)layout;
  return SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  ENTER();
  return end(LAYOUT, layout);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out) {
  ENTER();
  *out = (cublasLtMatmulPreference_t)make(PREFERENCE);
  return SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  ENTER();
  return end(PREFERENCE, preference);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t handle,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                                                    size_t bytes) {
  ENTER();
  Object *preference = (Object *)handle;
  const int which = (int)attribute;
  if (!is(PREFERENCE, preference)) return INVALID_VALUE;
  if (which == 1 && bytes == 8) memcpy(&preference->max_workspace, value, 8);
  else if (which == 3 && bytes == 4) memcpy(&preference->reductions, value, 4);
  else if (which >= 5 && which <= 8 && bytes == 4) memcpy(&preference->alignment[which - 5], value, 4);
  else return INVALID_VALUE;
  return SUCCESS;
}

/* Whether D [n x b] = Aᵀ [n x k] · B [k x b] + β C fits together: C is D but where that is in 8 bits. */
static int fits(const Object *matmul, const Object *a, const Object *b, const Object *c, const Object *d) {
  if (!is(MATMUL, matmul) || !is(LAYOUT, a) || !is(LAYOUT, b) || !is(LAYOUT, c) || !is(LAYOUT, d)) return 0;
  const int is_float8 = a->type == E4M3;
  if (!matmul->transpose_a || a->type != b->type || (c == d) == (d->type == E4M3)) return 0;
  if (d->type == E4M3 && (c->type != FLOAT16 || c->rows != d->rows || c->columns != d->columns ||
                          matmul->scale_modes[0] != 0 || matmul->output_scale == NULL ||
                          (matmul->epilogue & EPILOGUE_BIAS && matmul->bias_type != FLOAT16)))
    return 0;
  if (!is_float8 && d->type != FLOAT32 && d->type != a->type) return 0;
  for (int i = 0; i < 2; i++)
    if (matmul->scale_modes[i] != 0 && (matmul->scale_modes[i] != SCALE_OUTER_VECTORS || !is_float8)) return 0;
  if (matmul->scale_modes[0] != matmul->scale_modes[1]) return 0;
  if (matmul->compute == COMPUTE_TF32 && a->type != FLOAT32) return 0;
  return a->rows == b->rows && a->columns == d->rows && b->columns == d->columns;
}

/* An algorithm's words: its number from 1, then the four alignments that it relies on. */
#ifndef FAKE_WITHOUT_HEURISTIC
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t matmul_handle,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference_handle, int requested,
                                              cublasLtMatmulHeuristicResult_t results[], int *found) {
  ENTER();
  const Object *matmul = (const Object *)matmul_handle;
  const Object *preference = (const Object *)preference_handle;
  if (!is(HANDLE, handle) || !is(PREFERENCE, preference) || requested < 1) return INVALID_VALUE;
  if (!fits(matmul, (const Object *)a, (const Object *)b, (const Object *)c, (const Object *)d)) return INVALID_VALUE;
  if (matmul->epilogue & EPILOGUE_BIAS && matmul->bias == NULL) return INVALID_VALUE;
  if (matmul->scale_modes[0] != 0 && (matmul->scales[0] == NULL || matmul->scales[1] == NULL)) return INVALID_VALUE;
  if (matmul->scale_modes[0] != 0 && !outer_vectors) return NOT_SUPPORTED;
  /* Products of 8-bit factors: sizes and addresses in multiples of 16. */
  const Object *left = (const Object *)a, *right = (const Object *)b;
  if (left->type == E4M3 && (left->rows % 16 != 0 || left->columns % 16 != 0 || left->stride % 16 != 0 ||
                             right->stride % 16 != 0 || preference->alignment[0] < 16 || preference->alignment[1] < 16 ||
                             preference->alignment[3] < 16))
    return NOT_SUPPORTED;
  if (((const Object *)d)->type == E4M3 && ((const Object *)d)->stride % 16 != 0) return NOT_SUPPORTED;
  /* Halves must not be added up. */
  if (((const Object *)d)->type != FLOAT32 && preference->reductions != REDUCTION_COMPUTE_TYPE) return INVALID_VALUE;
  *found = 0;
  if (preference->max_workspace < WORKSPACE_BYTES || (matmul->epilogue != EPILOGUE_NONE && !epilogues))
    return NOT_SUPPORTED;
  for (int i = 0; i < requested && i < algorithms; i++) {
    cublasLtMatmulHeuristicResult_t *result = &results[(*found)++];
    memset(result, 0, sizeof *result);
    result->algo.data[0] = (uint64_t)i + 1;
    for (int m = 0; m < 4; m++) result->algo.data[1 + m] = preference->alignment[m];
    result->workspaceSize = WORKSPACE_BYTES;
    /* The last of several is one that the search gives up on. */
    if (i > 0 && i == algorithms - 1) result->state = NOT_SUPPORTED;
  }
  return SUCCESS;
}
#endif

static double tf32(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  bits &= ~0x1fffu; /* the hardware only drops bits */
  memcpy(&value, &bits, 4);
  return value;
}

static double float16(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == 31) return fraction ? NAN : sign * INFINITY;
  return exponent == 0 ? sign * ldexp(fraction, -24) : sign * ldexp(fraction + 1024, exponent - 25);
}

static double bfloat16(uint16_t half) {
  const uint32_t bits = (uint32_t)half << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

static double float8(uint8_t bits) {
  const int exponent = bits >> 3 & 15, fraction = bits & 7;
  const double sign = bits >> 7 ? -1 : 1;
  if (exponent == 15 && fraction == 7) return NAN;
  return exponent == 0 ? sign * ldexp(fraction, -9) : sign * ldexp(fraction + 8, exponent - 10);
}

static double element(const Object *layout, int compute, const void *data, uint64_t row, uint64_t column) {
  const uint64_t at = column * (uint64_t)layout->stride + row;
  if (layout->type == FLOAT16) return float16(((const uint16_t *)data)[at]);
  if (layout->type == BFLOAT16) return bfloat16(((const uint16_t *)data)[at]);
  if (layout->type == E4M3) return float8(((const uint8_t *)data)[at]);
  const float value = ((const float *)data)[at];
  return compute == COMPUTE_TF32 ? tf32(value) : value;
}

/* The nearest value of `bits` significant ones, or a multiple of `least`; ties to even. */
static double rounded(double value, int bits, double least) {
  if (value == 0 || !isfinite(value)) return value;
  int exponent;
  frexp(value, &exponent);
  const double unit = fmax(ldexp(1, exponent - bits), least);
  return nearbyint(value / unit) * unit;
}

static uint16_t to_float16(double value) {
  const uint16_t sign = signbit(value) ? 0x8000 : 0;
  if (isnan(value)) return 0x7fff;
  const double size = rounded(fabs(value), 11, ldexp(1, -24));
  if (size > 65504) return sign | 0x7c00;
  if (size < ldexp(1, -14)) return (uint16_t)(sign | (int)ldexp(size, 24));
  int exponent;
  const double fraction = frexp(size, &exponent); /* in [1/2, 1) */
  return (uint16_t)(sign | (exponent + 14) << 10 | ((int)ldexp(fraction, 11) - 1024));
}

static uint16_t to_bfloat16(double value) {
  const float nearest = (float)(isnan(value) ? value : rounded(value, 8, ldexp(1, -133)));
  uint32_t bits;
  memcpy(&bits, &nearest, 4);
  return isnan(value) ? 0x7fff : (uint16_t)(bits >> 16);
}

static uint8_t to_float8(double value) {
  const uint8_t sign = signbit(value) ? 0x80 : 0;
  if (isnan(value)) return 0x7f;
  const double size = rounded(fmin(fabs(value), 448), 4, ldexp(1, -9));
  if (size < ldexp(1, -6)) return (uint8_t)(sign | (int)ldexp(size, 9));
  int exponent;
  const double fraction = frexp(size, &exponent); /* in [1/2, 1) */
  return (uint8_t)(sign | (exponent + 6) << 3 | ((int)ldexp(fraction, 4) - 8));
}

/* A sum as a type of 16 bits holds it. */
static double narrowed(int type, double sum) {
  return type == FLOAT16 ? float16(to_float16(sum)) : type == BFLOAT16 ? bfloat16(to_bfloat16(sum)) : sum;
}

/* Stores a sum, which was float32 first. */
static void put_element(const Object *layout, void *data, uint64_t row, uint64_t column, double value) {
  const uint64_t at = column * (uint64_t)layout->stride + row;
  const float sum = (float)value;
  if (layout->type == FLOAT32) ((float *)data)[at] = sum;
  else if (layout->type == E4M3) ((uint8_t *)data)[at] = to_float8(sum);
  else ((uint16_t *)data)[at] = layout->type == FLOAT16 ? to_float16(sum) : to_bfloat16(sum);
}

static double bias_of(const Object *matmul, int type, uint64_t row) {
  if (type == FLOAT32) return ((const float *)matmul->bias)[row];
  const uint16_t bits = ((const uint16_t *)matmul->bias)[row];
  return type == FLOAT16 ? float16(bits) : bfloat16(bits);
}

/* The first 14 bits of a sum. */
static double shortened(double sum) {
  if (!isfinite(sum)) return sum;
  int exponent;
  const double fraction = frexp(sum, &exponent);
  return ldexp(trunc(ldexp(fraction, 14)), exponent - 14);
}

/* All elements of a matrix, column by column: each is multiplied many times. */
static double *elements(const Object *layout, int compute, const void *data) {
  double *all = malloc(layout->columns * layout->rows * sizeof *all);
  for (uint64_t column = 0; column < layout->columns; column++)
    for (uint64_t row = 0; row < layout->rows; row++)
      all[column * layout->rows + row] = element(layout, compute, data, row, column);
  return all;
}

static void compute(const void *data) {
  const Product *p = ((const Work *)data)->product;
  products += 1;
  const int is_fast = p->matmul.fast_sums && p->a.type == E4M3;
  double *left = elements(&p->a, p->matmul.compute, p->a_data);
  double *right = elements(&p->b, p->matmul.compute, p->b_data);
  for (uint64_t column = 0; column < p->d.columns; column++) {
    for (uint64_t row = 0; row < p->d.rows; row++) {
      const double *a = left + row * p->a.rows, *b = right + column * p->b.rows;
      double sum = 0;
      for (uint64_t k = 0; k < p->a.rows; k++) {
        sum += a[k] * b[k];
        if (is_fast && k % 32 == 31) sum = shortened(sum);
      }
      if (p->matmul.scale_modes[0] != 0) sum *= (double)p->matmul.scales[0][row] * p->matmul.scales[1][column];
      else if (p->matmul.scales[0] != NULL) sum *= (double)p->matmul.scales[0][0] * p->matmul.scales[1][0];
      if (p->rounds_twice) sum = narrowed(p->d.type, sum);
      if (p->matmul.epilogue & EPILOGUE_BIAS) sum += bias_of(&p->matmul, p->c.type, row);
      if (p->matmul.epilogue & EPILOGUE_RELU && (sum < 0 || (relu_loses_nan && isnan(sum)))) sum = 0;
      if (p->d.type == E4M3) sum *= *p->matmul.output_scale;
      put_element(&p->d, p->d_data, row, column, sum);
    }
  }
  free(left);
  free(right);
}

static int aligned(const void *address, uint64_t bytes) { return (uintptr_t)address % bytes == 0; }

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t matmul_handle, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t *algorithm, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
  ENTER();
  const Object *matmul = (const Object *)matmul_handle;
  if (!is(HANDLE, handle) || (c == d) != (c_layout == d_layout)) return INVALID_VALUE;
  if (!fits(matmul, (const Object *)a_layout, (const Object *)b_layout, (const Object *)c_layout, (const Object *)d_layout))
    return INVALID_VALUE;
  if (*(const float *)alpha != 1 || *(const float *)beta != 0) return INVALID_VALUE;
  if (workspace == NULL || workspace_bytes < WORKSPACE_BYTES) return INVALID_VALUE;
  if (matmul->epilogue & EPILOGUE_BIAS && matmul->bias == NULL) return INVALID_VALUE;
  const uint64_t *words = algorithm->data;
  if (words[0] == 0 || words[0] > (uint64_t)algorithms) return INVALID_VALUE;
  if (words[0] <= (uint64_t)refusing) return NOT_SUPPORTED;
  if (!aligned(a, words[1]) || !aligned(b, words[2]) || !aligned(c, words[3]) || !aligned(d, words[4]))
    return INVALID_VALUE;
  Product *product = malloc(sizeof *product); /* graphs may run it again at any time: it stays */
  *product = (Product){*matmul, *(const Object *)a_layout, *(const Object *)b_layout, *(const Object *)c_layout, *(const Object *)d_layout, a, b, d,
                       words[0] <= (uint64_t)rounding_twice};
  const Work work = {product};
  return put(stream, compute, &work, sizeof work) == 0 ? SUCCESS : 13;
}

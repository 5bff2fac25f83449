/*
 * A CUDA driver without a GPU: exports what src/ffi/cuda-symbols.ts binds. Device memory is host memory, work runs when
 * it is launched, and its end is delayed by a settable time. Objects are counted, so that tests see leaks; calls that
 * need a current context fail without one, as on a thread where none was set.
 *
 * Compiled with -include cuda.h, the prototypes are checked against the vendor's.
 *
 *   -DFAKE_VERSION=11040   cuDriverGetVersion
 *   -DFAKE_DEVICES=0       cuInit fails with CUDA_ERROR_NO_DEVICE when 0
 *   -DFAKE_WITHOUT_GRAPHS  no graph functions
 *
 * Modules: the image is the text "FAKECUBIN name name…". Other kernels are run by the emulator, when a test has set one
 * (fake_set_emulator), on the memory that is allocated; the fake's own take one struct of three words:
 *   add              words[i] += value, for i in [0, count): {address, value, count}
 *   illegal_address  faults: from then on every call fails with CUDA_ERROR_ILLEGAL_ADDRESS
 *
 * Or "EMULATED library name name…": kernels of kernels/cuda, compiled for the host into a library with an emulator of its
 * own. What they must not do faults.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef FAKE_VERSION
#define FAKE_VERSION 13000
#endif
#ifndef FAKE_DEVICES
#define FAKE_DEVICES 2
#endif

#ifndef CUDA_VERSION
typedef int CUresult, CUdevice, CUdevice_attribute, CUfunction_attribute, CUlimit, CUjit_option;
typedef int CUstreamAttrID, CUstreamCaptureMode, CUstreamCaptureStatus;
typedef uint64_t CUdeviceptr, cuuint64_t;
typedef struct CUctx_st *CUcontext;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphNode_st *CUgraphNode;
typedef struct CUgraphExec_st *CUgraphExec;
typedef struct { char bytes[16]; } CUuuid;
typedef unsigned int cuuint32_t;
typedef int CUtensorMapDataType, CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill;
typedef struct { _Alignas(64) cuuint64_t opaque[16]; } CUtensorMap;
typedef struct { char bytes[64]; } CUstreamAttrValue;
typedef struct {
  CUfunction func;
  unsigned int gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes;
  void **kernelParams;
  void **extra;
  void *kern;
  CUcontext ctx;
} CUDA_KERNEL_NODE_PARAMS_v2;
typedef struct {
  size_t srcXInBytes, srcY;
  int srcMemoryType;
  const void *srcHost;
  CUdeviceptr srcDevice;
  void *srcArray;
  size_t srcPitch, dstXInBytes, dstY;
  int dstMemoryType;
  void *dstHost;
  CUdeviceptr dstDevice;
  void *dstArray;
  size_t dstPitch, WidthInBytes, Height;
} CUDA_MEMCPY2D;
typedef struct {
  size_t srcXInBytes, srcY, srcZ, srcLOD;
  int srcMemoryType;
  const void *srcHost;
  CUdeviceptr srcDevice;
  void *srcArray;
  CUcontext srcContext;
  size_t srcPitch, srcHeight, dstXInBytes, dstY, dstZ, dstLOD;
  int dstMemoryType;
  void *dstHost;
  CUdeviceptr dstDevice;
  void *dstArray;
  CUcontext dstContext;
  size_t dstPitch, dstHeight, WidthInBytes, Height, Depth;
} CUDA_MEMCPY3D_PEER;
#define NAME(plain, versioned) versioned
#else
/* The header's macros give the plain names their versions. */
#define NAME(plain, versioned) plain
#endif

enum { MEMORY, PINNED, STREAM, EVENT, MODULE, GRAPH, GRAPH_EXEC, CONTEXT, KINDS };
enum { TOTAL_BYTES = 1 << 30 };

typedef struct { int64_t address, value, count; } Words;
typedef int64_t ParamsBytes(const char *kernel);
typedef const char *EmulatorLaunch(const char *kernel, const int64_t *shape, const void *params, const int64_t *memory,
                                   int64_t count);
/* The emulator of a kernel from an EMULATED image; NULL: that of fake_set_emulator. */
typedef struct CUfunc_st { char name[256]; ParamsBytes *params_bytes; EmulatorLaunch *launch; } Function;
struct CUctx_st { int device; };
enum { MOST_FUNCTIONS = 48 };
struct CUmod_st { Function functions[MOST_FUNCTIONS]; };
typedef void (*HostWork)(const void *data);
enum { NODE_BYTES = 768 };
/* A kernel (its parameters in `data`), other work (on `data`), or nothing that is left to do. */
typedef struct CUgraphNode_st {
  CUfunction function;
  HostWork work;
  int64_t shape[5]; /* grid x, y; block x, y; 0: threads in ascending order */
  _Alignas(16) char data[NODE_BYTES];
} Node;
enum { MOST_NODES = 128 };
/* `forks`: streams that joined the capture and hold work that its origin has not waited for. */
struct CUgraph_st { Node nodes[MOST_NODES]; int count, capturing, forks; CUstream origin; };
struct CUgraphExec_st { Node nodes[MOST_NODES]; CUgraph graph; int count; };
/* `forked`: the stream counts among its capture's forks. */
struct CUstream_st { double busy_until; CUgraph capture; CUgraphNode last; int forked; };
/* `capture`: the event stands in a capture, in the stream `in`, behind `last`. */
struct CUevent_st { double ready_at; CUgraph capture; CUstream in; CUgraphNode last; };

static int64_t live[KINDS], live_bytes, calls_made;
static int initialised, sticky, retained[8];
static double work_seconds;
static struct CUctx_st contexts[8];
static __thread CUcontext current;
static char failing_call[64];
static int failing_in, failing_status;
static char slow_call[64];
static double slow_seconds;
static int64_t slow_calls;
static char window_bytes[64];
static int64_t persisting_bytes;
/* The emulator: bytes of a kernel's parameters (0: no such kernel), and running it with leave to touch `memory`, pairs
 * of an address and a length; NULL, or what went wrong. */
static int64_t (*emulator_params)(const char *kernel);
static const char *(*emulator_launch)(const char *kernel, const int64_t *shape, const void *params,
                                      const int64_t *memory, int64_t count);
static char emulator_error[1024];

/* What the tests call. */
int64_t fake_live(int kind) { return live[kind]; }
int64_t fake_live_bytes(void) { return live_bytes; }
int64_t fake_calls(void) { return calls_made; }
void fake_set_work_seconds(double seconds) { work_seconds = seconds; }
/* The nth call from now on of a function (1: the next) returns `status`. */
void fake_fail(const char *call, int nth, int status) {
  snprintf(failing_call, sizeof failing_call, "%s", call);
  failing_in = nth;
  failing_status = status;
}
/* From now on a function takes at least `seconds`; "": none does. */
void fake_slow(const char *call, double seconds) {
  snprintf(slow_call, sizeof slow_call, "%s", call);
  slow_seconds = seconds;
  slow_calls = 0;
}
/* Calls of it that have begun. */
int64_t fake_slow_calls(void) { return slow_calls; }
void fake_forget_fault(void) { sticky = 0; emulator_error[0] = 0; }
void fake_set_emulator(void *params, void *launch) {
  emulator_params = (int64_t (*)(const char *))params;
  emulator_launch = (const char *(*)(const char *, const int64_t *, const void *, const int64_t *, int64_t))launch;
}
/* What the emulator complained about first; "": nothing. */
const char *fake_emulator_error(void) { return emulator_error; }
void fake_window(char *bytes) { memcpy(bytes, window_bytes, sizeof window_bytes); }

/* The device's clock: the machine's, or one that stands still until a test moves it on. */
static volatile int clock_stopped, waiting_threads;
static volatile double stopped_at, clock_offset;
static double machine_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static double now_seconds(void) { return clock_stopped ? stopped_at : machine_seconds() + clock_offset; }
void fake_stop_clock(void) {
  stopped_at = now_seconds();
  clock_stopped = 1;
}
void fake_advance_clock(double seconds) { stopped_at += seconds; }
void fake_start_clock(void) {
  clock_offset = stopped_at - machine_seconds();
  clock_stopped = 0;
}
/* Threads that sleep in the driver. */
int fake_waiting_threads(void) { return waiting_threads; }

static int is_fault(int status) { return status >= 700 && status < 720 && status != 701; }

static void sleep_for(double seconds) {
  struct timespec t = {(time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds))};
  nanosleep(&t, NULL);
}

static int enter(const char *call, int needs_context) {
  calls_made += 1;
  if (strcmp(call, slow_call) == 0) {
    slow_calls += 1;
    sleep_for(slow_seconds);
  }
  if (!initialised) return 3;
  if (failing_in > 0 && strcmp(call, failing_call) == 0 && --failing_in == 0) {
    if (is_fault(failing_status)) sticky = failing_status;
    return failing_status;
  }
  if (sticky) return sticky;
  return needs_context && current == NULL ? 201 : 0;
}

/* One thread at a time, for as long as the function runs that it enters, but for sleep. */
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t *lock(void) {
  pthread_mutex_lock(&one_at_a_time);
  return &one_at_a_time;
}
static void unlock(pthread_mutex_t **locked) { pthread_mutex_unlock(*locked); }
#define LOCK __attribute__((cleanup(unlock), unused)) pthread_mutex_t *locked = lock()

#define ENTER(call)                        \
  LOCK;                                    \
  const int entered = enter(call, 1);      \
  if (entered != 0) return entered
#define ENTER_ANYWHERE(call)               \
  LOCK;                                    \
  const int entered = enter(call, 0);      \
  if (entered != 0) return entered

/* Blocks of memory of both kinds, to refuse what was not given out. */
enum { ALIGNMENT = 256 };
typedef struct Block { _Alignas(ALIGNMENT) struct Block *next; int kind; size_t bytes; CUcontext context; } Block;
static Block *blocks;

static void *give_block(int kind, size_t bytes) {
  Block *block = aligned_alloc(ALIGNMENT, sizeof(Block) + (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
  if (block == NULL) return NULL;
  *block = (Block){blocks, kind, bytes, current};
  blocks = block;
  live[kind] += 1;
  if (kind == MEMORY) live_bytes += (int64_t)bytes;
  return block + 1;
}

static int take_block(int kind, void *memory) {
  for (Block **at = &blocks; *at != NULL; at = &(*at)->next) {
    Block *block = *at;
    if (block + 1 != memory || block->kind != kind) continue;
    *at = block->next;
    live[kind] -= 1;
    if (kind == MEMORY) live_bytes -= (int64_t)block->bytes;
    free(block);
    return 0;
  }
  return 1;
}

/* The block that bytes lie in; NULL: none. */
static const Block *block_of(uintptr_t address, size_t bytes) {
  for (const Block *block = blocks; block != NULL; block = block->next) {
    const uintptr_t start = (uintptr_t)(block + 1);
    if (address >= start && address + bytes <= start + block->bytes) return block;
  }
  return NULL;
}

/* Small objects stay allocated after their end, marked, so that using them again is refused instead of undefined. */
typedef struct { int kind, alive; } Head;

static void *make(int kind, size_t bytes) {
  Head *head = calloc(1, 16 + bytes);
  *head = (Head){kind, 1};
  live[kind] += 1;
  return (char *)head + 16;
}

static int alive(int kind, const void *object) {
  if (object == NULL) return 0;
  const Head *head = (const Head *)((const char *)object - 16);
  return head->kind == kind && head->alive;
}

static int end(int kind, void *object) {
  if (!alive(kind, object)) return 400;
  ((Head *)((char *)object - 16))->alive = 0;
  live[kind] -= 1;
  return 0;
}

CUresult cuGetErrorName(CUresult status, const char **out) {
  switch ((int)status) {
  case 1: *out = "CUDA_ERROR_INVALID_VALUE"; return 0;
  case 2: *out = "CUDA_ERROR_OUT_OF_MEMORY"; return 0;
  case 100: *out = "CUDA_ERROR_NO_DEVICE"; return 0;
  case 101: *out = "CUDA_ERROR_INVALID_DEVICE"; return 0;
  case 200: *out = "CUDA_ERROR_INVALID_IMAGE"; return 0;
  case 201: *out = "CUDA_ERROR_INVALID_CONTEXT"; return 0;
  case 400: *out = "CUDA_ERROR_INVALID_HANDLE"; return 0;
  case 500: *out = "CUDA_ERROR_NOT_FOUND"; return 0;
  case 700: *out = "CUDA_ERROR_ILLEGAL_ADDRESS"; return 0;
  case 701: *out = "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"; return 0;
  case 719: *out = "CUDA_ERROR_LAUNCH_FAILED"; return 0;
  case 901: *out = "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"; return 0;
  default: *out = NULL; return 1;
  }
}

CUresult cuGetErrorString(CUresult status, const char **out) {
  *out = "as the fake driver has it";
  return (int)status < 0;
}

CUresult cuDriverGetVersion(int *out) {
  *out = FAKE_VERSION;
  return 0;
}

CUresult cuInit(unsigned int flags) {
  (void)flags;
  if (FAKE_DEVICES == 0) return 100;
  initialised = 1;
  return enter("cuInit", 0);
}

CUresult cuDeviceGetCount(int *out) {
  ENTER_ANYWHERE("cuDeviceGetCount");
  *out = FAKE_DEVICES;
  return 0;
}

CUresult cuDeviceGet(CUdevice *out, int ordinal) {
  ENTER_ANYWHERE("cuDeviceGet");
  if (ordinal < 0 || ordinal >= FAKE_DEVICES) return 101;
  *out = ordinal + 5; /* a CUdevice is not an ordinal */
  return 0;
}

CUresult cuDeviceGetName(char *out, int bytes, CUdevice device) {
  ENTER_ANYWHERE("cuDeviceGetName");
  snprintf(out, (size_t)bytes, "Fake GPU %d", device - 5);
  return 0;
}

CUresult NAME(cuDeviceGetUuid, cuDeviceGetUuid_v2)(CUuuid *out, CUdevice device) {
  ENTER_ANYWHERE("cuDeviceGetUuid");
  for (int i = 0; i < 16; i++) out->bytes[i] = (char)(i * 16 + device);
  return 0;
}

CUresult cuDeviceGetAttribute(int *out, CUdevice_attribute attribute, CUdevice device) {
  ENTER_ANYWHERE("cuDeviceGetAttribute");
  (void)device;
  switch ((int)attribute) {
  case 10: *out = 32; return 0;
  case 13: *out = 1980000; return 0;
  case 16: *out = 132; return 0;
  case 38: *out = 60 << 20; return 0;
  case 39: *out = 2048; return 0;
  case 75: *out = 9; return 0;
  case 76: *out = 0; return 0;
  case 97: *out = 227 << 10; return 0;
  case 108: *out = 1 << 20; return 0;
  default: *out = 1000 + (int)attribute; return 0;
  }
}

CUresult NAME(cuDeviceTotalMem, cuDeviceTotalMem_v2)(size_t *out, CUdevice device) {
  ENTER_ANYWHERE("cuDeviceTotalMem");
  (void)device;
  *out = TOTAL_BYTES;
  return 0;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice device) {
  ENTER_ANYWHERE("cuDevicePrimaryCtxRetain");
  retained[device - 5] += 1;
  live[CONTEXT] += 1;
  *out = &contexts[device - 5];
  return 0;
}

CUresult NAME(cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2)(CUdevice device) {
  if (retained[device - 5] == 0) return 201;
  retained[device - 5] -= 1;
  live[CONTEXT] -= 1;
  if (current == &contexts[device - 5]) current = NULL;
  /* A lost context takes along what it still holds; of a sound one that counts as a leak. */
  if (sticky && retained[device - 5] == 0) memset(live, 0, sizeof live), live_bytes = 0;
  return enter("cuDevicePrimaryCtxRelease", 0);
}

CUresult cuCtxSetCurrent(CUcontext context) {
  ENTER_ANYWHERE("cuCtxSetCurrent");
  current = context;
  return 0;
}

CUresult cuCtxGetCurrent(CUcontext *out) {
  ENTER_ANYWHERE("cuCtxGetCurrent");
  *out = current;
  return 0;
}

CUresult cuCtxSetLimit(CUlimit limit, size_t value) {
  ENTER("cuCtxSetLimit");
  if ((int)limit != 6) return 1;
  persisting_bytes = (int64_t)((value + 4095) / 4096 * 4096);
  return 0;
}

CUresult cuCtxGetLimit(size_t *out, CUlimit limit) {
  ENTER("cuCtxGetLimit");
  (void)limit;
  *out = (size_t)persisting_bytes;
  return 0;
}

CUresult cuCtxResetPersistingL2Cache(void) {
  ENTER("cuCtxResetPersistingL2Cache");
  return 0;
}

CUresult cuProfilerStart(void) {
  ENTER("cuProfilerStart");
  return 0;
}

CUresult cuProfilerStop(void) {
  ENTER("cuProfilerStop");
  return 0;
}

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) {
  ENTER("cuCtxGetStreamPriorityRange");
  *least = 0;
  *greatest = -5;
  return 0;
}

CUresult NAME(cuMemGetInfo, cuMemGetInfo_v2)(size_t *free_bytes, size_t *total_bytes) {
  ENTER("cuMemGetInfo");
  *free_bytes = TOTAL_BYTES - (size_t)live_bytes;
  *total_bytes = TOTAL_BYTES;
  return 0;
}

CUresult NAME(cuMemAlloc, cuMemAlloc_v2)(CUdeviceptr *out, size_t bytes) {
  ENTER("cuMemAlloc");
  if (bytes == 0) return 1;
  if (bytes > TOTAL_BYTES - (size_t)live_bytes) return 2;
  *out = (CUdeviceptr)(uintptr_t)give_block(MEMORY, bytes);
  return *out == 0 ? 2 : 0;
}

CUresult NAME(cuMemFree, cuMemFree_v2)(CUdeviceptr memory) {
  ENTER("cuMemFree");
  return take_block(MEMORY, (void *)(uintptr_t)memory);
}

CUresult cuMemHostAlloc(void **out, size_t bytes, unsigned int flags) {
  (void)flags;
  ENTER("cuMemHostAlloc");
  *out = give_block(PINNED, bytes);
  return *out == NULL ? 2 : 0;
}

CUresult cuMemHostRegister_v2(void *memory, size_t bytes, unsigned int flags) {
  (void)flags;
  ENTER("cuMemHostRegister_v2");
  if ((uintptr_t)memory % 4096 != 0 || bytes % 4096 != 0 || bytes == 0) return 1;
  live[PINNED] += 1;
  return 0;
}

CUresult cuMemHostUnregister(void *memory) {
  ENTER("cuMemHostUnregister");
  if ((uintptr_t)memory % 4096 != 0) return 1;
  live[PINNED] -= 1;
  return 0;
}

CUresult cuMemFreeHost(void *memory) {
  ENTER("cuMemFreeHost");
  return take_block(PINNED, memory);
}

/* Work of a stream: recorded while it is captured, else done at once and over `work_seconds` later. */
static void finish_later(CUstream stream) {
  const double now = now_seconds();
  if (stream->busy_until < now) stream->busy_until = now;
  stream->busy_until += work_seconds;
}

static void run_emulated(const Node *node) {
  enum { MOST_BLOCKS = 4096 };
  static int64_t memory[2 * MOST_BLOCKS];
  int64_t count = 0;
  for (const Block *block = blocks; block != NULL && count < MOST_BLOCKS; block = block->next) {
    if (block->kind != MEMORY && block->kind != PINNED) continue;
    memory[2 * count] = (int64_t)(uintptr_t)(block + 1);
    memory[2 * count + 1] = (int64_t)block->bytes;
    count += 1;
  }
  const Function *function = node->function;
  EmulatorLaunch *launch = function->launch != NULL ? function->launch : emulator_launch;
  const char *error = launch(function->name, node->shape, node->data, memory, count);
  if (error != NULL && function->launch != NULL) sticky = 700; /* the launch succeeds, what follows does not */
  if (error != NULL && emulator_error[0] == 0)
    snprintf(emulator_error, sizeof emulator_error, "%s: %s", node->function->name, error);
}

static CUresult run_node(const Node *node) {
  if (node->work != NULL) node->work(node->data);
  if (node->function == NULL) return 0;
  if (strcmp(node->function->name, "illegal_address") == 0) {
    sticky = 700;
    return 0; /* the launch succeeds, what follows does not */
  }
  if (strcmp(node->function->name, "add") != 0) {
    run_emulated(node);
    return 0;
  }
  const Words *words = (const Words *)node->data;
  int64_t *at = (int64_t *)(uintptr_t)words->address;
  for (int64_t i = 0; i < words->count; i++) at[i] += words->value;
  return 0;
}

/* A kernel's node; its function is NULL when nothing can run it. */
static Node kernel_node(CUfunction function, const void *params) {
  Node node = {0};
  const int own = strcmp(function->name, "add") == 0 || strcmp(function->name, "illegal_address") == 0;
  ParamsBytes *params_bytes = function->params_bytes != NULL ? function->params_bytes : emulator_params;
  const int64_t bytes = own ? (int64_t)sizeof(Words) : params_bytes == NULL ? 0 : params_bytes(function->name);
  if (bytes == 0 || bytes > NODE_BYTES) return node;
  node.function = function;
  memcpy(node.data, params, (size_t)bytes);
  return node;
}

/* The capture that a stream is in; NULL: none. */
static CUgraph capturing(CUstream stream) {
  return stream->capture != NULL && stream->capture->capturing ? stream->capture : NULL;
}

static CUresult put(CUstream stream, Node node) {
  if (!alive(STREAM, stream)) return 400;
  CUgraph capture = capturing(stream);
  if (capture == NULL) {
    finish_later(stream);
    return run_node(&node);
  }
  if (capture->count == MOST_NODES) return 2;
  stream->last = &capture->nodes[capture->count++];
  *stream->last = node;
  if (stream != capture->origin && !stream->forked) {
    stream->forked = 1;
    capture->forks += 1;
  }
  return 0;
}

/* Puts work into a stream, with a copy of `data`. */
static int put_data(void *stream, HostWork work, const void *data, int64_t bytes) {
  Node node = {.work = work};
  if (bytes > NODE_BYTES) return 1;
  memcpy(node.data, data, (size_t)bytes);
  return (int)put(stream, node);
}

/* The same, for other fake libraries. */
int fake_put(void *stream, HostWork work, const void *data, int64_t bytes) {
  LOCK;
  return put_data(stream, work, data, bytes);
}

typedef struct { uintptr_t target, source; size_t bytes; } Copy;

static void run_copy(const void *data) {
  const Copy *copy = data;
  memmove((void *)copy->target, (const void *)copy->source, copy->bytes);
}

static CUresult put_copy(CUstream stream, uintptr_t target, uintptr_t source, size_t bytes) {
  const Copy copy = {target, source, bytes};
  return (CUresult)put_data(stream, run_copy, &copy, sizeof copy);
}

CUresult NAME(cuMemcpyHtoDAsync, cuMemcpyHtoDAsync_v2)(CUdeviceptr target, const void *source, size_t bytes, CUstream stream) {
  ENTER("cuMemcpyHtoDAsync");
  return put_copy(stream, target, (uintptr_t)source, bytes);
}

CUresult NAME(cuMemcpyDtoHAsync, cuMemcpyDtoHAsync_v2)(void *target, CUdeviceptr source, size_t bytes, CUstream stream) {
  ENTER("cuMemcpyDtoHAsync");
  return put_copy(stream, (uintptr_t)target, source, bytes);
}

CUresult NAME(cuMemcpyDtoDAsync, cuMemcpyDtoDAsync_v2)(CUdeviceptr target, CUdeviceptr source, size_t bytes, CUstream stream) {
  ENTER("cuMemcpyDtoDAsync");
  const Block *to = block_of(target, bytes), *from = block_of(source, bytes);
  if (to == NULL || from == NULL || to->context != from->context) return 1;
  return put_copy(stream, target, source, bytes);
}

/* Rows that lie apart. Devices do not reach each other's memory: only copies between peers may cross. */
typedef struct { uintptr_t target, source; size_t target_pitch, source_pitch, row_bytes, rows; } RowsCopy;

static void run_rows_copy(const void *data) {
  const RowsCopy *copy = data;
  for (size_t row = 0; row < copy->rows; row++)
    memmove((void *)(copy->target + row * copy->target_pitch), (const void *)(copy->source + row * copy->source_pitch),
            copy->row_bytes);
}

enum { MOST_PITCH = 0x7fffffff };

/* Whether rows lie in memory of `context`, or in pinned memory. */
static int holds_rows(uintptr_t address, size_t pitch, size_t row_bytes, size_t rows, CUcontext context, int may_be_pinned) {
  if (rows == 0 || pitch < row_bytes || pitch > MOST_PITCH) return 0;
  const Block *block = block_of(address, (rows - 1) * pitch + row_bytes);
  if (block == NULL) return 0;
  return block->kind == PINNED ? may_be_pinned : block->context == context;
}

static CUresult put_rows_copy(CUstream stream, RowsCopy copy, CUcontext target, CUcontext source, int may_be_pinned) {
  if (!holds_rows(copy.target, copy.target_pitch, copy.row_bytes, copy.rows, target, may_be_pinned)) return 1;
  if (!holds_rows(copy.source, copy.source_pitch, copy.row_bytes, copy.rows, source, may_be_pinned)) return 1;
  return (CUresult)put_data(stream, run_rows_copy, &copy, sizeof copy);
}

CUresult NAME(cuMemcpy2DAsync, cuMemcpy2DAsync_v2)(const CUDA_MEMCPY2D *copy, CUstream stream) {
  ENTER("cuMemcpy2DAsync");
  if (copy->srcXInBytes != 0 || copy->srcY != 0 || copy->dstXInBytes != 0 || copy->dstY != 0) return 1;
  if ((int)copy->srcMemoryType != 4 || (int)copy->dstMemoryType != 4) return 1; /* unified */
  const RowsCopy rows = {copy->dstDevice, copy->srcDevice, copy->dstPitch, copy->srcPitch, copy->WidthInBytes, copy->Height};
  return put_rows_copy(stream, rows, current, current, 1);
}

/* What crosses from device to device is not captured. */
static CUresult put_peer_copy(CUstream stream, RowsCopy rows, CUcontext target, CUcontext source) {
  if (alive(STREAM, stream) && capturing(stream) != NULL) return 900; /* CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED */
  return put_rows_copy(stream, rows, target, source, 0);
}

CUresult cuMemcpyPeerAsync(CUdeviceptr target, CUcontext target_context, CUdeviceptr source, CUcontext source_context,
                           size_t bytes, CUstream stream) {
  ENTER("cuMemcpyPeerAsync");
  const RowsCopy rows = {target, source, bytes, bytes, bytes, 1};
  return put_peer_copy(stream, rows, target_context, source_context);
}

CUresult cuMemcpy3DPeerAsync(const CUDA_MEMCPY3D_PEER *copy, CUstream stream) {
  ENTER("cuMemcpy3DPeerAsync");
  if (copy->srcXInBytes != 0 || copy->srcY != 0 || copy->srcZ != 0 || copy->srcLOD != 0) return 1;
  if (copy->dstXInBytes != 0 || copy->dstY != 0 || copy->dstZ != 0 || copy->dstLOD != 0) return 1;
  if ((int)copy->srcMemoryType != 2 || (int)copy->dstMemoryType != 2 || copy->Depth != 1) return 1;
  if (copy->srcHeight < copy->Height || copy->dstHeight < copy->Height) return 1;
  const RowsCopy rows = {copy->dstDevice, copy->srcDevice, copy->dstPitch, copy->srcPitch, copy->WidthInBytes, copy->Height};
  return put_peer_copy(stream, rows, copy->dstContext, copy->srcContext);
}

typedef struct { uintptr_t target; unsigned int value; int word_bytes; size_t count; } Fill;

static void run_fill(const void *data) {
  const Fill *fill = data;
  if (fill->word_bytes == 1) memset((void *)fill->target, (int)fill->value, fill->count);
  else for (size_t i = 0; i < fill->count; i++) ((uint32_t *)fill->target)[i] = fill->value;
}

CUresult cuMemsetD8Async(CUdeviceptr target, unsigned char value, size_t count, CUstream stream) {
  ENTER("cuMemsetD8Async");
  const Fill fill = {target, value, 1, count};
  return (CUresult)put_data(stream, run_fill, &fill, sizeof fill);
}

CUresult cuMemsetD32Async(CUdeviceptr target, unsigned int value, size_t count, CUstream stream) {
  ENTER("cuMemsetD32Async");
  const Fill fill = {target, value, 4, count};
  return (CUresult)put_data(stream, run_fill, &fill, sizeof fill);
}

CUresult cuStreamCreateWithPriority(CUstream *out, unsigned int flags, int priority) {
  ENTER("cuStreamCreateWithPriority");
  if (flags != 1 || priority > 0 || priority < -5) return 1;
  *out = make(STREAM, sizeof(struct CUstream_st));
  return 0;
}

CUresult NAME(cuStreamDestroy, cuStreamDestroy_v2)(CUstream stream) {
  ENTER("cuStreamDestroy");
  /* A capture that began in it goes with it: a thread may be terminated in the midst of one. */
  if (alive(STREAM, stream) && stream->capture != NULL && stream->capture->origin == stream)
    end(GRAPH, stream->capture);
  return end(STREAM, stream);
}

CUresult cuStreamQuery(CUstream stream) {
  ENTER("cuStreamQuery");
  if (!alive(STREAM, stream)) return 400;
  return now_seconds() < stream->busy_until ? 600 : 0;
}

static void sleep_until(double at) {
  __atomic_add_fetch(&waiting_threads, 1, __ATOMIC_SEQ_CST);
  for (double seconds = at - now_seconds(); seconds > 0; seconds = at - now_seconds()) {
    pthread_mutex_unlock(&one_at_a_time);
    sleep_for(clock_stopped ? 2e-4 : seconds);
    pthread_mutex_lock(&one_at_a_time);
  }
  __atomic_sub_fetch(&waiting_threads, 1, __ATOMIC_SEQ_CST);
}

CUresult cuStreamSynchronize(CUstream stream) {
  ENTER("cuStreamSynchronize");
  if (!alive(STREAM, stream)) return 400;
  sleep_until(stream->busy_until);
  return (CUresult)sticky;
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned int flags) {
  (void)flags;
  ENTER("cuStreamWaitEvent");
  if (!alive(STREAM, stream) || !alive(EVENT, event)) return 400;
  if (event->capture == NULL || !event->capture->capturing) {
    if (capturing(stream) != NULL) return 905; /* CUDA_ERROR_STREAM_CAPTURE_ISOLATION */
    if (stream->busy_until < event->ready_at) stream->busy_until = event->ready_at;
    return 0;
  }
  /* The stream joins the capture of the event; work before the event is no longer forked off. */
  if (capturing(stream) == NULL) {
    stream->capture = event->capture;
    stream->last = event->last;
    stream->forked = 0;
  } else if (stream->capture != event->capture) return 905;
  CUstream from = event->in;
  if (from != stream && from->forked && from->last == event->last) {
    from->forked = 0;
    event->capture->forks -= 1;
    if (stream != stream->capture->origin && !stream->forked) {
      stream->forked = 1;
      stream->capture->forks += 1;
    }
  }
  return 0;
}

CUresult cuStreamSetAttribute(CUstream stream, CUstreamAttrID attribute, const CUstreamAttrValue *value) {
  ENTER("cuStreamSetAttribute");
  if (!alive(STREAM, stream) || (int)attribute != 1) return 1;
  memcpy(window_bytes, value, sizeof window_bytes);
  return 0;
}

CUresult cuEventCreate(CUevent *out, unsigned int flags) {
  (void)flags;
  ENTER("cuEventCreate");
  *out = make(EVENT, sizeof(struct CUevent_st));
  return 0;
}

CUresult NAME(cuEventDestroy, cuEventDestroy_v2)(CUevent event) {
  ENTER("cuEventDestroy");
  return end(EVENT, event);
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
  ENTER("cuEventRecord");
  if (!alive(STREAM, stream) || !alive(EVENT, event)) return 400;
  event->capture = capturing(stream);
  event->in = stream;
  event->last = stream->last;
  const double now = now_seconds(); /* an idle stream passes the event at once */
  event->ready_at = stream->busy_until > now ? stream->busy_until : now;
  return 0;
}

CUresult cuEventQuery(CUevent event) {
  ENTER("cuEventQuery");
  if (!alive(EVENT, event)) return 400;
  return now_seconds() < event->ready_at ? 600 : 0;
}

CUresult cuEventSynchronize(CUevent event) {
  ENTER("cuEventSynchronize");
  if (!alive(EVENT, event)) return 400;
  sleep_until(event->ready_at);
  if (!alive(EVENT, event)) return 400;
  return (CUresult)sticky;
}

#ifdef CUDA_VERSION
#undef cuEventElapsedTime
#endif
CUresult cuEventElapsedTime(float *out, CUevent start, CUevent stop) {
  ENTER("cuEventElapsedTime");
  if (!alive(EVENT, start) || !alive(EVENT, stop)) return 400;
  *out = (float)(1e3 * (stop->ready_at - start->ready_at));
  return 0;
}

/* The kernels of an EMULATED image; 0: one is not there. Libraries stay loaded: tests are short. */
static int find_emulated(const char *text, CUmodule module) {
  char path[1024];
  int used = 0;
  if (sscanf(text, " %1023s%n", path, &used) != 1) return 0;
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) return 0;
  text += used;
  for (Function *function = module->functions; sscanf(text, " %255s%n", function->name, &used) == 1; function++) {
    text += used;
    if (function == module->functions + MOST_FUNCTIONS - 1) return 0;
    function->params_bytes = (ParamsBytes *)dlsym(library, "simt_params_bytes");
    function->launch = (EmulatorLaunch *)dlsym(library, "simt_launch_named");
    if (function->launch == NULL || function->params_bytes(function->name) <= 0) return 0;
  }
  return 1;
}

CUresult cuModuleLoadDataEx(CUmodule *out, const void *image, unsigned int option_count, CUjit_option *options, void **values) {
  ENTER("cuModuleLoadDataEx");
  static const char magic[] = "FAKECUBIN", emulated[] = "EMULATED";
  if (strncmp(image, emulated, sizeof emulated - 1) == 0) {
    CUmodule own = make(MODULE, sizeof(struct CUmod_st));
    *out = own;
    return find_emulated((const char *)image + sizeof emulated - 1, own) ? 0 : 200;
  }
  if (strncmp(image, magic, sizeof magic - 1) != 0) {
    for (unsigned int i = 0; i < option_count; i++)
      if ((int)options[i] == 5) snprintf(values[i], (size_t)(uintptr_t)values[i + 1], "not a fake cubin");
    return 200;
  }
  CUmodule module = make(MODULE, sizeof(struct CUmod_st));
  const char *names = (const char *)image + sizeof magic - 1;
  int used = 0;
  for (int i = 0; i < MOST_FUNCTIONS && sscanf(names, " %63s%n", module->functions[i].name, &used) == 1; i++) names += used;
  *out = module;
  return 0;
}

CUresult cuModuleUnload(CUmodule module) {
  ENTER("cuModuleUnload");
  return end(MODULE, module);
}

CUresult cuModuleGetFunction(CUfunction *out, CUmodule module, const char *name) {
  ENTER("cuModuleGetFunction");
  if (!alive(MODULE, module)) return 400;
  for (int i = 0; i < MOST_FUNCTIONS; i++) {
    if (strcmp(module->functions[i].name, name) != 0) continue;
    *out = &module->functions[i];
    return 0;
  }
  return 500;
}

CUresult cuFuncGetAttribute(int *out, CUfunction_attribute attribute, CUfunction function) {
  ENTER("cuFuncGetAttribute");
  (void)function;
  *out = (int)attribute == 0 ? 1024 : 10 + (int)attribute;
  return 0;
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
  ENTER("cuFuncSetAttribute");
  (void)function;
  return ((int)attribute != 8 && (int)attribute != 9) || value < 0;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *out, CUfunction function, int threads, size_t shared_bytes) {
  ENTER("cuOccupancyMaxActiveBlocksPerMultiprocessor");
  (void)function;
  *out = shared_bytes > 0 ? 1 : 1024 / threads;
  return 0;
}

CUresult cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
                        unsigned int block_x, unsigned int block_y, unsigned int block_z, unsigned int shared_bytes,
                        CUstream stream, void **parameters, void **extra) {
  ENTER("cuLaunchKernel");
  (void)shared_bytes;
  if (extra != NULL || grid_x * grid_y * grid_z == 0) return 1;
  if (block_x * block_y * block_z > 1024) return 701;
  if (grid_z != 1 || block_z != 1) return 1;
  Node node = kernel_node(function, parameters[0]);
  if (node.function == NULL) return 1;
  memcpy(node.shape, (int64_t[]){grid_x, grid_y, block_x, block_y, 0}, sizeof node.shape);
  return put(stream, node);
}

/* What the emulator reads of a map: address, columns, rows, bytes between rows, columns and rows of a tile. */
CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *address, const cuuint64_t *sizes,
                                const cuuint64_t *strides, const cuuint32_t *tile, const cuuint32_t *steps,
                                CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                                CUtensorMapFloatOOBfill fill) {
  ENTER("cuTensorMapEncodeTiled");
  const cuuint64_t bytes = (int)type == 6 || (int)type == 9 ? 2 : (int)type == 0 ? 1 : 0; /* of an element */
  if ((uintptr_t)map % 64 != 0 || bytes == 0 || rank != 2 || (int)interleave != 0 || (int)swizzle != 3 || (int)promotion > 3) return 1;
  if ((uintptr_t)address % 16 != 0 || strides[0] % 16 != 0 || strides[0] < bytes * sizes[0] || sizes[0] == 0 || sizes[1] == 0) return 1;
  if (tile[0] * bytes > 128 || tile[1] > 256 || tile[0] * tile[1] == 0 || steps[0] != 1 || steps[1] != 1 || (int)fill != 0) return 1;
  memset(map, 0, sizeof *map);
  memcpy(map, (cuuint64_t[]){(uintptr_t)address, sizes[0], sizes[1], strides[0], tile[0], tile[1], bytes}, 7 * sizeof(cuuint64_t));
  return 0;
}

#ifndef FAKE_WITHOUT_GRAPHS
CUresult NAME(cuStreamBeginCapture, cuStreamBeginCapture_v2)(CUstream stream, CUstreamCaptureMode mode) {
  ENTER("cuStreamBeginCapture");
  if (!alive(STREAM, stream) || (int)mode != 1 || capturing(stream) != NULL) return 1;
  stream->capture = make(GRAPH, sizeof(struct CUgraph_st));
  stream->capture->capturing = 1;
  stream->capture->origin = stream;
  stream->last = NULL;
  stream->forked = 0;
  return 0;
}

static CUresult end_capture(CUstream stream, CUgraph graph) {
  ENTER("cuStreamEndCapture");
  if (graph == NULL) return 901;
  if (graph->origin != stream) return 902; /* CUDA_ERROR_STREAM_CAPTURE_UNMATCHED */
  return graph->forks > 0 ? 904 : 0;       /* CUDA_ERROR_STREAM_CAPTURE_UNJOINED */
}

/* A capture ends whatever comes of it. */
CUresult cuStreamEndCapture(CUstream stream, CUgraph *out) {
  CUgraph graph = alive(STREAM, stream) ? capturing(stream) : NULL;
  const CUresult status = end_capture(stream, graph);
  *out = status == 0 ? graph : NULL;
  if (graph == NULL || graph->origin != stream) return status;
  graph->capturing = 0;
  if (status != 0) end(GRAPH, graph);
  return status;
}

CUresult cuStreamGetCaptureInfo_v2(CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
                                   const CUgraphNode **dependencies, size_t *count) {
  ENTER("cuStreamGetCaptureInfo");
  if (!alive(STREAM, stream)) return 400;
  *status = capturing(stream) != NULL;
  *id = 1;
  *graph = capturing(stream);
  *dependencies = &stream->last;
  *count = capturing(stream) != NULL && stream->last != NULL;
  return 0;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *out, CUgraph graph, unsigned long long flags) {
  (void)flags;
  ENTER("cuGraphInstantiateWithFlags");
  if (!alive(GRAPH, graph)) return 400;
  CUgraphExec exec = make(GRAPH_EXEC, sizeof(struct CUgraphExec_st));
  memcpy(exec->nodes, graph->nodes, sizeof exec->nodes);
  exec->count = graph->count;
  exec->graph = graph;
  *out = exec;
  return 0;
}

CUresult cuGraphDestroy(CUgraph graph) {
  ENTER("cuGraphDestroy");
  return end(GRAPH, graph);
}

CUresult cuGraphExecDestroy(CUgraphExec exec) {
  ENTER("cuGraphExecDestroy");
  return end(GRAPH_EXEC, exec);
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  ENTER("cuGraphLaunch");
  if (!alive(GRAPH_EXEC, exec) || !alive(STREAM, stream)) return 400;
  for (int i = 0; i < exec->count; i++) run_node(&exec->nodes[i]);
  finish_later(stream);
  return 0;
}

CUresult NAME(cuGraphExecKernelNodeSetParams, cuGraphExecKernelNodeSetParams_v2)(CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS_v2 *params) {
  ENTER("cuGraphExecKernelNodeSetParams");
  if (!alive(GRAPH_EXEC, exec) || !alive(GRAPH, exec->graph)) return 400;
  const int64_t place = node - exec->graph->nodes;
  if (place < 0 || place >= exec->count || params->extra != NULL || params->blockDimZ == 0) return 1;
  Node changed = kernel_node(params->func, params->kernelParams[0]);
  if (changed.function == NULL) return 1;
  memcpy(changed.shape, (int64_t[]){params->gridDimX, params->gridDimY, params->blockDimX, params->blockDimY, 0},
         sizeof changed.shape);
  exec->nodes[place] = changed;
  return 0;
}
#endif

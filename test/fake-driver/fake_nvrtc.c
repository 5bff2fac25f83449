/*
 * NVRTC without a compiler: "machine code" that fake_cuda.c loads, holding the kernels' names and a checksum of all that
 * went in. A source with the words `syntax error` does not compile. From version 13 on, what was compiled before without
 * --no-cache has no log, as with the real one; before, that option is unknown.
 *
 *   -DFAKE_MAJOR=12            nvrtcVersion
 *   -DFAKE_SECONDS=0.2         how long a compilation takes
 *
 * When the environment names a file in FAKE_NVRTC_LOG, each compilation appends a line to it, across processes.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef FAKE_MAJOR
#define FAKE_MAJOR 13
#endif
#ifndef FAKE_SECONDS
#define FAKE_SECONDS 0
#endif

typedef struct Program {
  char *source;
  uint64_t checksum;
  char cubin[4096], log[4096];
} Program;

static int64_t live;
static uint64_t kept;

int64_t fake_live_programs(void) { return live; }

static uint64_t add_checksum(uint64_t sum, const char *text) {
  for (; *text; text++) sum = (sum ^ (unsigned char)*text) * 1099511628211u;
  return sum;
}

const char *nvrtcGetErrorString(int status) {
  switch (status) {
  case 4: return "NVRTC_ERROR_INVALID_PROGRAM";
  case 5: return "NVRTC_ERROR_INVALID_OPTION";
  case 6: return "NVRTC_ERROR_COMPILATION";
  default: return "NVRTC_ERROR unknown";
  }
}

int nvrtcVersion(int *major, int *minor) {
  *major = FAKE_MAJOR;
  *minor = 0;
  return 0;
}

int nvrtcGetNumSupportedArchs(int *count) {
  *count = 3;
  return 0;
}

int nvrtcGetSupportedArchs(int *architectures) {
  memcpy(architectures, (int[]){80, 90, 100}, 3 * sizeof(int));
  return 0;
}

int nvrtcCreateProgram(Program **out, const char *source, const char *name, int header_count, const char *const *headers,
                       const char *const *include_names) {
  Program *program = calloc(1, sizeof *program);
  program->source = strdup(source);
  program->checksum = add_checksum(add_checksum(14695981039346656037u, source), name);
  for (int i = 0; i < header_count; i++)
    program->checksum = add_checksum(add_checksum(program->checksum, include_names[i]), headers[i]);
  live += 1;
  *out = program;
  return 0;
}

int nvrtcDestroyProgram(Program **program) {
  free((*program)->source);
  free(*program);
  *program = NULL;
  live -= 1;
  return 0;
}

int nvrtcCompileProgram(Program *program, int option_count, const char *const *options) {
  usleep((useconds_t)(1e6 * FAKE_SECONDS));
  const char *log_file = getenv("FAKE_NVRTC_LOG");
  if (log_file != NULL) {
    FILE *file = fopen(log_file, "a");
    fprintf(file, "compiled\n");
    fclose(file);
  }
  int caches = FAKE_MAJOR >= 13;
  for (int i = 0; i < option_count; i++) {
    if (options[i][0] != '-') return 5;
    if (strcmp(options[i], "--no-cache") == 0) {
      if (FAKE_MAJOR < 13) return 5;
      caches = 0;
      continue;
    }
    program->checksum = add_checksum(program->checksum, options[i]);
  }
  if (strstr(program->source, "syntax error") != NULL) {
    snprintf(program->log, sizeof program->log, "fake.cu(1): error: a syntax error\n");
    return 6;
  }
  int length = snprintf(program->cubin, sizeof program->cubin, "FAKECUBIN");
  const char *mark = "__global__ void ";
  for (const char *at = strstr(program->source, mark); at != NULL; at = strstr(at, mark)) {
    char name[64] = "";
    at += strlen(mark);
    sscanf(at, "%63[A-Za-z0-9_]", name);
    length += snprintf(program->cubin + length, sizeof program->cubin - (size_t)length, " %s", name);
    const size_t logged = strlen(program->log);
    snprintf(program->log + logged, sizeof program->log - logged,
             "ptxas info    : Compiling entry function '%s' for 'sm_90'\n"
             "ptxas         .     16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads\n"
             "ptxas info    : Used 40 registers, used 0 barriers, 512 bytes smem\n",
             name);
  }
  snprintf(program->cubin + length, sizeof program->cubin - (size_t)length, " %016llx",
           (unsigned long long)program->checksum);
  if (caches && kept == program->checksum) program->log[0] = 0;
  kept = program->checksum;
  return 0;
}

int nvrtcGetCUBINSize(Program *program, size_t *bytes) {
  *bytes = strlen(program->cubin) + 1;
  return 0;
}

int nvrtcGetCUBIN(Program *program, char *cubin) {
  strcpy(cubin, program->cubin);
  return 0;
}

int nvrtcGetProgramLogSize(Program *program, size_t *bytes) {
  *bytes = strlen(program->log) + 1;
  return 0;
}

int nvrtcGetProgramLog(Program *program, char *log) {
  strcpy(log, program->log);
  return 0;
}

/* One instruction set's table of operators, and the loops that hr_measure_… runs on it. */
#include "operators.h"

#include "simd.h"

/* Independent chains: enough to fill two units of four cycles' latency, few enough to stay in registers. */
enum { CHAINS = HR_REGISTERS == 32 ? 24 : 12 };

int64_t HR_NAME(hr_multiply_adds)(int64_t rounds) {
  const hr_vec half = hr_vec_broadcast(0.5f);
  hr_vec chain[CHAINS];
  HR_UNROLL
  for (int i = 0; i < CHAINS; i++) chain[i] = hr_vec_broadcast((float)i);
  for (int64_t round = 0; round < rounds; round++) {
    HR_UNROLL
    for (int i = 0; i < CHAINS; i++) chain[i] = hr_vec_fma(chain[i], half, half);
  }
  for (int i = 1; i < CHAINS; i++) chain[0] = hr_vec_add(chain[0], chain[i]);
  volatile float used = hr_vec_sum(chain[0]);
  (void)used;
  return rounds * CHAINS * HR_LANES;
}

void HR_NAME(hr_read_all)(const char *memory, int64_t bytes) {
  enum { STREAMS = 8, STEP = STREAMS * HR_LANES * 4 };
  hr_vec most[STREAMS];
  HR_UNROLL
  for (int i = 0; i < STREAMS; i++) most[i] = hr_vec_zero();
  for (int64_t at = 0; at + STEP <= bytes; at += STEP) {
    HR_UNROLL
    for (int i = 0; i < STREAMS; i++) most[i] = hr_vec_max(hr_vec_load(memory + at + i * HR_LANES * 4), most[i]);
  }
  for (int i = 1; i < STREAMS; i++) most[0] = hr_vec_max(most[i], most[0]);
  volatile float used = hr_vec_sum(most[0]);
  (void)used;
}

const hr_kernels HR_NAME(hr_kernels) = {
    .check_bags = HR_NAME(hr_check_bags),
    .embedding_bags = HR_NAME(hr_embedding_bags),
    .linear = HR_NAME(hr_linear),
    .packed_linear_bytes = HR_NAME(hr_packed_linear_bytes),
    .pack_linear = HR_NAME(hr_pack_linear),
    .dot_interaction = HR_NAME(hr_dot_interaction),
    .row_function = HR_NAME(hr_row_function),
    .multiply_adds = HR_NAME(hr_multiply_adds),
    .read_all = HR_NAME(hr_read_all),
};

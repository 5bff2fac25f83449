/*
 * CUDA C++ on the host, for tests: the threads of a block are fibers that run one after the other and change places at
 * barriers. What the kernels use of CUDA, and no more. Every access to global memory is checked (ptx.h): a kernel that
 * reads or writes outside the memory that a test registered, or unaligned, is reported and not let through.
 */
#ifndef HOTROW_SIMT_H
#define HOTROW_SIMT_H

#include <cstddef>
#include <cstdint>
#include <cstring>

/* Of <cmath> only this: to read all of it takes longer than to compile a kernel. */
extern "C" float expf(float) noexcept;
extern "C" float fabsf(float) noexcept;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
/* One block runs at a time, so that its shared memory may be static. */
#define __shared__ static

namespace simt {

struct Index3 {
  unsigned int x, y, z;
};

enum class Access { Read, Write, Prefetch };

/* Whether [address, address + bytes) may be accessed so; if not, the first such access is kept as the launch's error. */
bool may_access(const void *address, std::size_t bytes, Access access);

/* Counts of what the threads of the last launch did. */
struct Counts {
  long long reads, writes, prefetches;
};
extern Counts counts;

void block_barrier();
void warp_barrier();

/* A thread's place in its block, and in its warp. */
unsigned int thread_number();
inline unsigned int lane() { return thread_number() % 32; }

/* What every lane of the warp gives, once all of them have; good until the lane's next call. */
const unsigned long long *exchange(unsigned long long own);

template <class T>
T value_of_lane(T own, int from) {
  static_assert(sizeof(T) <= 8, "8 bytes at most");
  unsigned long long bits = 0;
  std::memcpy(&bits, &own, sizeof own);
  bits = exchange(bits)[from];
  std::memcpy(&own, &bits, sizeof own);
  return own;
}

/* Words that the threads of a warp show each other, [lane][word]. */
constexpr unsigned int SHOWN_WORDS = 8;
using Shown = unsigned int[32][SHOWN_WORDS];

/* Shows `count` words of the thread to its warp, whose 32 threads all take part; valid until `stop_showing`. */
const Shown &show(const unsigned int *words, unsigned int count);
inline void stop_showing() { warp_barrier(); }

/* Dynamic shared memory: as much as a block of an H200 can have. */
constexpr std::size_t DYNAMIC_SHARED_BYTES = 227 * 1024;
void *dynamic_shared();

/* Asynchronous copies into shared memory: nothing is there before the thread has waited for it. */
void start_copy(void *to, const void *from, std::size_t bytes);
void commit_copies();
void wait_for_copies(std::size_t groups);

/* Asynchronous copies out of shared memory: nothing has been read before the thread waits, and nothing is if it does not. */
void start_bulk_copy(void *to, const void *from, std::size_t bytes);
void wait_for_bulk_copies();

/* A place in the block's dynamic shared memory. */
unsigned int shared_address(const void *in_shared);

/* Barriers of 8 bytes in shared memory. Threads that wait for what never comes end the launch with an error. */
void init_barrier(unsigned int barrier, int arrivals);
void arrive(unsigned int barrier, int expected_bytes);
void wait_for_phase(unsigned int barrier, unsigned int parity);
/* A barrier of some of the block's threads. */
void part_barrier(int id, unsigned int threads);

/* A matrix of 16-bit elements in tiles, as a fake driver describes it in a CUtensorMap. Sizes in elements. */
struct TiledMatrix {
  std::uint64_t address, columns, rows, row_bytes, tile_columns, tile_rows, element_bytes;
};
/* Copies a tile, swizzled; it comes when no thread can go on without one. */
void start_tile_copy(unsigned int to, const TiledMatrix &matrix, int row, int column, unsigned int barrier);
/* Copies a tile from where it lies swizzled, when the thread waits for its bulk copies. */
void start_tile_store(const TiledMatrix &matrix, int row, int column, unsigned int from);

/* A thread's part of a warp group's product: made when the thread has waited for it, of what its factors are then. */
struct Product {
  float *sums;
  int columns;
  unsigned int left, right; /* places in shared memory */
  bool add;
  int element_bytes; /* of a factor */
  float (*value)(unsigned short bits);
};
void start_product(const Product &product);
void commit_products();
void wait_for_products(std::size_t groups);

} // namespace simt

struct alignas(16) uint4 {
  unsigned int x, y, z, w;
};

extern simt::Index3 threadIdx, blockIdx, blockDim, gridDim;

inline void __syncthreads() { simt::block_barrier(); }
/* A full mask; threads of the warp that have ended are not waited for. */
inline void __syncwarp(unsigned int = 0xffffffffu) { simt::warp_barrier(); }

/* volatile: nothing is contracted into a fused operation, or kept in more precision. */
inline float __fadd_rn(float a, float b) { volatile float sum = a + b; return sum; }
inline float __fmul_rn(float a, float b) { volatile float product = a * b; return product; }
inline float __fdiv_rn(float a, float b) { volatile float quotient = a / b; return quotient; }
inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline unsigned int __float_as_uint(float value) {
  unsigned int bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline float __uint_as_float(unsigned int bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
/* A full mask: all 32 threads take part. */
inline float __shfl_xor_sync(unsigned int, float value, int distance) {
  const unsigned int bits = __float_as_uint(value);
  const float other = __uint_as_float(simt::show(&bits, 1)[simt::lane() ^ static_cast<unsigned int>(distance)][0]);
  simt::stop_showing();
  return other;
}

#endif

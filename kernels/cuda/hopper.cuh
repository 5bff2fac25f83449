/*
 * Instructions that only sm_90a has, beside ptx.cuh: barriers in shared memory, copies of tiles into it, and products of
 * warp groups. test/emulation/hopper.h replaces this file (it defines the same guard).
 *
 * Places in shared memory are 32-bit addresses. A warp group is 128 threads whose first has a number divisible by 128.
 */
#ifndef HOTROW_HOPPER_CUH
#define HOTROW_HOPPER_CUH

#include "ptx.cuh"

namespace hotrow {
/* A CUtensorMap: a matrix in global memory, and the tiles in which it is copied. */
struct alignas(64) TensorMap {
  unsigned long long word[16];
};

namespace ptx {

/* The block's dynamic shared memory, aligned as swizzled tiles must be. */
__device__ __forceinline__ unsigned char *tiled_shared() {
  extern __shared__ __align__(1024) unsigned char hotrow_tiled_shared[];
  return hotrow_tiled_shared;
}
__device__ __forceinline__ unsigned int shared_address(const void *in_shared) {
  return static_cast<unsigned int>(__cvta_generic_to_shared(in_shared));
}

/* A barrier of 8 bytes: each of its phases ends with the last of so many arrivals, and the last byte that is expected. */
__device__ __forceinline__ void init_barrier(unsigned int barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
/* By the thread that made barriers, before a barrier of the block after which they are used. */
__device__ __forceinline__ void publish_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ __forceinline__ void arrive(unsigned int barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void arrive_expecting(unsigned int barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
/* Waits for the end of a phase: the barrier's first has parity 0. The loop is in assembly: of one in C++, the compiler
 * fears that threads leave it apart, and lets no product of a warp group run beside another. */
__device__ __forceinline__ void wait_for_phase(unsigned int barrier, unsigned int parity) {
  asm volatile("{\n"
               ".reg .pred ended;\n"
               "AGAIN:\n"
               "mbarrier.try_wait.parity.shared::cta.b64 ended, [%0], %1;\n"
               "@!ended bra AGAIN;\n"
               "}" ::"r"(barrier), "r"(parity) : "memory");
}

/* A barrier of `threads` threads of the block, `id` from 1 on. */
__device__ __forceinline__ void part_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/*
 * Copies the tile of a map whose first element is (row, column) to shared memory, zeros for what lies outside the matrix;
 * the barrier is told of its bytes. 16-byte unit u of a row of 128 bytes goes to the place of unit u ^ (address / 128 % 8).
 */
__device__ __forceinline__ void load_tile(unsigned int to, const TensorMap *map, int row, int column, unsigned int barrier) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(to),
               "l"(map), "r"(barrier), "r"(column), "r"(row) : "memory");
}
/* Starts writing a tile of a map from shared memory; what lies outside the matrix is left out. Published as for store_bulk. */
__device__ __forceinline__ void store_tile(const TensorMap *map, int row, int column, unsigned int from) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(map), "r"(from), "r"(column),
               "r"(row) : "memory");
}
/* Those that this thread has started are one group: `wait_for_bulk_reads` waits for it. */
__device__ __forceinline__ void commit_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/* Starts copying 16 bytes; zeros, without a read, where not `inside`. */
__device__ __forceinline__ void copy16_async(unsigned int to, const void *from, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(inside ? 16 : 0) : "memory");
}

__device__ __forceinline__ Words<4> load_shared16(unsigned int from) {
  Words<4> words;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(words.word[0]), "=r"(words.word[1]), "=r"(words.word[2]), "=r"(words.word[3]) : "r"(from) : "memory");
  return words;
}
__device__ __forceinline__ void store_shared16(unsigned int to, const Words<4> &words) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(words.word[0]), "r"(words.word[1]), "r"(words.word[2]),
               "r"(words.word[3]) : "memory");
}
/* 16 bytes that an earlier kernel wrote, past L1; zeros, without a read, where not `inside`. Loads stay in their order. */
__device__ __forceinline__ Words<4> load16(const char *from, bool inside) {
  Words<4> words;
  asm volatile("{\n"
               ".reg .pred inside;\n"
               "setp.ne.b32 inside, %5, 0;\n"
               "mov.b32 %0, 0;\nmov.b32 %1, 0;\nmov.b32 %2, 0;\nmov.b32 %3, 0;\n"
               "@inside ld.global.L1::no_allocate.v4.b32 {%0, %1, %2, %3}, [%4];\n"
               "}"
               : "=&r"(words.word[0]), "=&r"(words.word[1]), "=&r"(words.word[2]), "=&r"(words.word[3])
               : "l"(from), "r"(inside ? 1 : 0));
  return words;
}
__device__ __forceinline__ void store16(char *to, const Words<4> &words) {
  asm volatile("st.global.L1::no_allocate.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(words.word[0]), "r"(words.word[1]),
               "r"(words.word[2]), "r"(words.word[3]));
}

/* By every warp of a warp group: gives registers back, or waits for so many a thread. A multiple of 8. */
template <int registers>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}
template <int registers>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}

/* What is multiplied. */
enum class Factors { float16, bfloat16, e4m3 };
__host__ __device__ constexpr int factor_bytes(Factors factors) { return factors == Factors::e4m3 ? 1 : 2; }

/*
 * Rows of 128 bytes in shared memory, their 16-byte units where load_tile puts them, 8 rows at a multiple of 1,024 bytes:
 * a factor of `multiply`. The next 32 bytes of columns are 2 further.
 */
__device__ __forceinline__ unsigned long long factor_at(unsigned int address) {
  constexpr unsigned long long swizzled_128 = 1ull << 62, eight_rows = 1024 / 16;
  return static_cast<unsigned long long>((address & 0x3ffff) >> 4) | 1ull << 16 | eight_rows << 32 | swizzled_128;
}

/* Between what a warp group did to sums, and its products that add to them. */
__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
/* Ends the warp group's group of products. */
__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/* Waits until at most `groups` of the warp group's groups are not done. */
template <int groups>
__device__ __forceinline__ void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(groups) : "memory");
}

/* Operands of an instruction: ten by their tens digit, and eight sums. */
#define HOTROW_TEN(tens) "%" #tens "0, %" #tens "1, %" #tens "2, %" #tens "3, %" #tens "4, %" #tens "5, %" #tens "6, %" #tens "7, %" #tens "8, %" #tens "9"
#define HOTROW_60 HOTROW_TEN() ", " HOTROW_TEN(1) ", " HOTROW_TEN(2) ", " HOTROW_TEN(3) ", " HOTROW_TEN(4) ", " HOTROW_TEN(5)
#define HOTROW_8_SUMS(i) \
  "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3]), "+f"(sums[i + 4]), "+f"(sums[i + 5]), "+f"(sums[i + 6]), "+f"(sums[i + 7])
#define HOTROW_32_SUMS(i) HOTROW_8_SUMS(i), HOTROW_8_SUMS(i + 8), HOTROW_8_SUMS(i + 16), HOTROW_8_SUMS(i + 24)
#define HOTROW_MULTIPLY(columns, type, flags, operands, left_operand, right_operand, add_operand, ...)                                   \
  asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %" #add_operand ", 0;\n"                                                      \
               "wgmma.mma_async.sync.aligned.m64n" #columns type " {" operands "}, %" #left_operand            \
               ", %" #right_operand ", add, 1, 1" flags ";\n}"                                                                        \
               : __VA_ARGS__ : "l"(left), "l"(right), "r"(add ? 1 : 0))

/*
 * sums[64 x columns] = left[64 x k] . right[columns x k]^T, k: 32 bytes of columns; added to what they were where `add`.
 * Sums 4 b to 4 b + 3 of thread 32 w + 4 g + t: (row 16 w + g, column 8 b + 2 t), its right neighbour, and both of row
 * 16 w + g + 8. They, and the factors, are the products' until the group was waited for.
 */
template <int columns, Factors factors>
__device__ __forceinline__ void multiply(float (&sums)[columns / 2], unsigned long long left, unsigned long long right, bool add) {
  static_assert(columns == 64 || columns == 128 || columns == 192, "what has its instruction below");
#define HOTROW_OF_TYPE(type, flags)                                                                                              \
  if constexpr (columns == 64)                                                                                                     \
    HOTROW_MULTIPLY(64, type, flags, HOTROW_TEN() ", " HOTROW_TEN(1) ", " HOTROW_TEN(2) ", %30, %31", 32, 33, 34, HOTROW_32_SUMS(0)); \
  else if constexpr (columns == 128)                                                                                               \
    HOTROW_MULTIPLY(128, type, flags, HOTROW_60 ", %60, %61, %62, %63", 64, 65, 66, HOTROW_32_SUMS(0), HOTROW_32_SUMS(32));        \
  else                                                                                                                             \
    HOTROW_MULTIPLY(192, type, flags, HOTROW_60 ", " HOTROW_TEN(6) ", " HOTROW_TEN(7) ", " HOTROW_TEN(8) ", %90, %91, %92, %93, %94, %95", \
                    96, 97, 98, HOTROW_32_SUMS(0), HOTROW_32_SUMS(32), HOTROW_32_SUMS(64))
  if constexpr (factors == Factors::float16) {
    HOTROW_OF_TYPE("k16.f32.f16.f16", ", 0, 0");
  } else if constexpr (factors == Factors::bfloat16) {
    HOTROW_OF_TYPE("k16.f32.bf16.bf16", ", 0, 0");
  } else {
    HOTROW_OF_TYPE("k32.f32.e4m3.e4m3", "");
  }
#undef HOTROW_OF_TYPE
}

#undef HOTROW_MULTIPLY
#undef HOTROW_32_SUMS
#undef HOTROW_8_SUMS
#undef HOTROW_60
#undef HOTROW_TEN

} // namespace ptx
} // namespace hotrow

#endif

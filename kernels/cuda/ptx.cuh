/*
 * Every instruction that C++ has no word for, and every access to global memory. test/emulation/ptx.h replaces this
 * file (it defines the same guard), so that a kernel runs on the host with each of its accesses checked.
 *
 * Pointers are to global memory and aligned for their type: a misaligned access ends the context.
 */
#ifndef HOTROW_PTX_CUH
#define HOTROW_PTX_CUH

namespace hotrow {
namespace ptx {

/* Reads memory that no thread writes while the kernel runs (ld.global.nc). */
template <class T>
__device__ __forceinline__ T load_read_only(const T *from) {
  return __ldg(from);
}

/* Reads memory that an earlier kernel of the stream may have written. */
template <class T>
__device__ __forceinline__ T load(const T *from) {
  return *from;
}

/* Reads memory by way of L2 alone (ld.global.cg). */
template <class T>
__device__ __forceinline__ T load_past_l1(const T *from) {
  return __ldcg(from);
}

template <class T>
__device__ __forceinline__ void store(T *to, T value) {
  *to = value;
}

__device__ __forceinline__ void atomic_add(unsigned int *to, unsigned int value) { atomicAdd(to, value); }
__device__ __forceinline__ void atomic_add(unsigned long long *to, unsigned long long value) { atomicAdd(to, value); }
/* 32-bit words that are loaded together. */
template <int count>
struct Words {
  unsigned int word[count];
};

/* Reads `bytes` bytes, 2 to 16, that no thread writes meanwhile, with one load. */
template <int bytes>
__device__ __forceinline__ Words<bytes < 4 ? 1 : bytes / 4> load_vector(const char *from) {
  if constexpr (bytes == 16) {
    const uint4 loaded = __ldg(reinterpret_cast<const uint4 *>(from));
    return {loaded.x, loaded.y, loaded.z, loaded.w};
  } else if constexpr (bytes == 8) {
    const uint2 loaded = __ldg(reinterpret_cast<const uint2 *>(from));
    return {loaded.x, loaded.y};
  } else if constexpr (bytes == 4) {
    return {__ldg(reinterpret_cast<const unsigned int *>(from))};
  } else {
    return {__ldg(reinterpret_cast<const unsigned short *>(from))};
  }
}

/* Reads a struct of a multiple of 16 bytes that no thread writes meanwhile. */
template <class T>
__device__ __forceinline__ T load_struct(const T *from) {
  static_assert(sizeof(T) % 16 == 0 && alignof(T) == 16, "loaded 16 bytes at a time");
  T value;
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof(T) / 16); i++)
    reinterpret_cast<uint4 *>(&value)[i] = __ldg(reinterpret_cast<const uint4 *>(from) + i);
  return value;
}

/* The value, which the compiler reads before whatever the program accesses next. */
__device__ __forceinline__ float before_what_follows(float value) {
  asm volatile("" : "+f"(value) : : "memory");
  return value;
}

/* Writes four neighbours with one store: of a float4, compilers make four where another path has four. */
__device__ __forceinline__ void store4(float *to, float a, float b, float c, float d) {
  asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" : : "l"(to), "f"(a), "f"(b), "f"(c), "f"(d) : "memory");
}
__device__ __forceinline__ void store4(unsigned short *to, unsigned short a, unsigned short b, unsigned short c,
                                       unsigned short d) {
  asm volatile("st.global.v4.u16 [%0], {%1, %2, %3, %4};" : : "l"(to), "h"(a), "h"(b), "h"(c), "h"(d) : "memory");
}

/* A barrier of the block's threads, who may come to it at different places, a warp at one. */
__device__ __forceinline__ void block_barrier() { asm volatile("bar.sync 0;" ::: "memory"); }

/* What this thread wrote before is seen by all before what it writes after. */
__device__ __forceinline__ void fence() { __threadfence(); }

/* Between the lanes of a warp, all of which must come here: the value of lane `lane` of each `width` lanes … */
template <int width, class T>
__device__ __forceinline__ T shuffle(T value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane, width);
}
/* … of the lane whose number differs in the bits of `mask` … */
__device__ __forceinline__ float shuffle_xor(float value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
/* … the lanes where `holds` … */
__device__ __forceinline__ unsigned int ballot(bool holds) { return __ballot_sync(0xffffffffu, holds); }
/* … the greatest value. */
__device__ __forceinline__ unsigned int warp_max(unsigned int value) { return __reduce_max_sync(0xffffffffu, value); }

__device__ __forceinline__ unsigned int count_bits(unsigned int bits) { return __popc(bits); }

/* Byte `which` of a word, exact: it is put into the mantissa of 2^23. */
__device__ __forceinline__ float byte_to_float32(unsigned int word, int which) {
  return __fsub_rn(__uint_as_float(__byte_perm(word, 0x4b000000u, 0x7650 | which)), 8388608.0f);
}

/* Adds, and gives what was there before. */
__device__ __forceinline__ unsigned int fetch_add(unsigned int *to, unsigned int value) { return atomicAdd(to, value); }
__device__ __forceinline__ void atomic_max(unsigned long long *to, unsigned long long value) { atomicMax(to, value); }

/* Ask for the 32-byte sector around an address, without waiting for it. */
__device__ __forceinline__ void prefetch_l1(const void *address) {
  asm volatile("prefetch.global.L1 [%0];" ::"l"(address));
}

/* … into L2, as a line that goes last (a pinned row) … */
__device__ __forceinline__ void prefetch_l2_evict_last(const void *address) {
  asm volatile("prefetch.global.L2::evict_last [%0];" ::"l"(address));
}

/* … and as a line like any other again. */
__device__ __forceinline__ void prefetch_l2_evict_normal(const void *address) {
  asm volatile("prefetch.global.L2::evict_normal [%0];" ::"l"(address));
}

/* `pointer`, as a value of its own: a sum with it is not taken apart; pointer + row · stride stays one instruction. */
template <class T>
__device__ __forceinline__ T *opaque(T *pointer) {
  asm("" : "+l"(pointer));
  return pointer;
}

/* `value`, as if it were not known: what loops compute of it is computed in each round, and keeps no register between. */
template <class T>
__device__ __forceinline__ T anew(T value) {
  static_assert(sizeof(T) == 4, "a 32-bit register");
  asm volatile("" : "+r"(value));
  return value;
}

/* The 64-bit product: with a sum, one instruction (from C++, nvcc makes two). */
__device__ __forceinline__ unsigned long long multiply_wide(unsigned int a, unsigned int b) {
  unsigned long long product;
  asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(a), "r"(b));
  return product;
}

/* The value of the 16 bits of a float16. */
__device__ __forceinline__ float float16_to_float32(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

/* The value of the 8 bits of a float8 e4m3 (all ones: NaN; no infinities): the same bits of a float16 times 2^8. */
__device__ __forceinline__ float float8_e4m3_to_float32(unsigned int bits) {
  const unsigned short half = static_cast<unsigned short>((bits & 0x80u) << 8 | (bits & 0x7fu) << 7);
  const float value = __fmul_rn(float16_to_float32(half), 256.0f);
  return (bits & 0x7fu) == 0x7fu ? __uint_as_float(0x7fc00000u) : value;
}

/* The value of the float8 e4m3 in byte `which` of a word: where one instruction converts two, neighbours share it. */
__device__ __forceinline__ float float8_e4m3_at(unsigned int word, int which) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  unsigned int pair;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(pair) : "h"(static_cast<unsigned short>(word >> which / 2 * 16)));
  return float16_to_float32(static_cast<unsigned short>(pair >> which % 2 * 16));
#else
  return float8_e4m3_to_float32(word >> which * 8 & 0xffu);
#endif
}

/* The nearest float16, bfloat16; ties to even. */
__device__ __forceinline__ unsigned short to_float16(float value) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
__device__ __forceinline__ unsigned short to_bfloat16(float value) {
  unsigned short bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

/* The nearest float8 e4m3, ties to even; what is larger becomes the largest, infinities too, NaN stays. */
__device__ __forceinline__ unsigned char to_float8_e4m3(float value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  unsigned short pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(0.0f), "f"(value));
  return static_cast<unsigned char>(pair);
#else
  __trap(); /* GPUs before sm_89 have no such layers */
  return 0;
#endif
}

/* Two at once; `low` in the lower half. */
__device__ __forceinline__ unsigned int to_float8_e4m3_pair(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  unsigned short pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
  return pair;
#else
  __trap();
  return 0;
#endif
}
__device__ __forceinline__ unsigned int to_float16_pair(float low, float high) {
  unsigned int bits;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}
__device__ __forceinline__ unsigned int to_bfloat16_pair(float low, float high) {
  unsigned int bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}

/* The block's dynamic shared memory, aligned to 16 bytes. */
__device__ __forceinline__ void *dynamic_shared() {
  extern __shared__ __align__(16) unsigned char hotrow_dynamic_shared[];
  return hotrow_dynamic_shared;
}

/*
 * Starts copying `bytes` (4 or 16) from global to shared memory; zeros instead, without a read, where not `inside`.
 * The copy belongs to the thread's next group.
 */
template <int bytes>
__device__ __forceinline__ void copy_async(void *to, const void *from, bool inside) {
  static_assert(bytes == 4 || bytes == 16, "what cp.async copies here");
  const unsigned int target = static_cast<unsigned int>(__cvta_generic_to_shared(to));
  const int read = inside ? bytes : 0;
  if constexpr (bytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(from), "r"(read) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(target), "l"(from), "r"(read) : "memory");
}

/* Ends the thread's group of copies. */
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/* Waits until at most `groups` of the thread's groups are on their way. */
template <int groups>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
}

/*
 * From sm_90 on. Starts copying `bytes` from shared to global memory: addresses and size are multiples of 16. What threads
 * of the block wrote to `from` is copied when each of them has published it, and a barrier lies between. `from` may be
 * written again, and the block may end, when this thread has waited for the reads of its copies.
 */
__device__ __forceinline__ void store_bulk(void *to, const void *from, int bytes) {
  const unsigned int source = static_cast<unsigned int>(__cvta_generic_to_shared(from));
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(source), "r"(bytes)
               : "memory");
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
__device__ __forceinline__ void publish_to_bulk() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ __forceinline__ void wait_for_bulk_reads() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }

/*
 * sums[16 x 8] += a[16 x k] . b[k x 8] by the warp's 32 threads, float32 sums, k = 8 (TF32) or 16. Of thread 4 g + t:
 *   sums 0, 1: row g, columns 2 t, 2 t + 1;  2, 3: row g + 8
 *   TF32:    a 0..3: (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4);  b 0, 1: (t, g), (t + 4, g)
 *   16 bits: a 0..3: (g, 2 t), (g + 8, 2 t), (g, 2 t + 8), (g + 8, 2 t + 8), each with its right neighbour;
 *            b 0, 1: (2 t, g), (2 t + 8, g), each with the one below
 */
__device__ __forceinline__ void multiply_tf32(float *sums, const unsigned int (&a)[4], const unsigned int (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void multiply_float16(float *sums, const unsigned int (&a)[4], const unsigned int (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void multiply_bfloat16(float *sums, const unsigned int (&a)[4], const unsigned int (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

} // namespace ptx
} // namespace hotrow

#endif

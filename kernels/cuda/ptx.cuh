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

} // namespace ptx
} // namespace hotrow

#endif

/* Integer names, and the formats of embedding rows and of dense weights. No header is needed: NVRTC compiles these files as they are. */
#ifndef HOTROW_ROWS_CUH
#define HOTROW_ROWS_CUH

#include "ptx.cuh"

namespace hotrow {

using int32 = int;
using int64 = long long;
using uint32 = unsigned int;
using uint64 = unsigned long long;

struct Float32 {
  using Bits = float;
  static __device__ __forceinline__ float widen(Bits bits) { return bits; }
  static __device__ __forceinline__ Bits narrow(float value) { return value; }
};

struct Float16 {
  using Bits = unsigned short;
  static __device__ __forceinline__ float widen(Bits bits) { return ptx::float16_to_float32(bits); }
  static __device__ __forceinline__ Bits narrow(float value) { return ptx::to_float16(value); }
};

struct Bfloat16 {
  using Bits = unsigned short;
  static __device__ __forceinline__ float widen(Bits bits) { return __uint_as_float(static_cast<uint32>(bits) << 16); }
  static __device__ __forceinline__ Bits narrow(float value) { return ptx::to_bfloat16(value); }
};

} // namespace hotrow

#endif

/* Neighbouring elements that are loaded and stored together, and a walk over a matrix of them. */
#ifndef HOTROW_PACK_CUH
#define HOTROW_PACK_CUH

#include "rows.cuh"

namespace hotrow {

/* `width` elements, aligned to their size together: of 1, like the element; of 4 floats or 8 halves, to 16 bytes. */
template <class T, int width>
struct alignas(sizeof(T) * width) Pack {
  T at[width];
};

template <class T, int width>
__device__ __forceinline__ Pack<T, width> load_pack(const T *from) {
  return ptx::load(reinterpret_cast<const Pack<T, width> *>(from));
}

template <class T, int width>
__device__ __forceinline__ void store_pack(T *to, const Pack<T, width> &pack) {
  ptx::store(reinterpret_cast<Pack<T, width> *>(to), pack);
}

/*
 * Calls visit(row, column) for every pack of a [rows, columns] matrix, columns a multiple of `width`. Block (x, y): x
 * packs of a row, y such chunks at a time; blocks stride over the chunks, so any one-dimensional grid is correct.
 */
template <int width, class Visit>
__device__ __forceinline__ void for_each_pack(int64 rows, int64 columns, Visit visit) {
  const uint32 packs = static_cast<uint32>(columns) / width;
  const uint32 chunks_per_row = (packs + blockDim.x - 1) / blockDim.x;
  const uint64 chunks = static_cast<uint64>(rows) * chunks_per_row;
  for (uint64 chunk = static_cast<uint64>(blockIdx.x) * blockDim.y + threadIdx.y; chunk < chunks;
       chunk += static_cast<uint64>(gridDim.x) * blockDim.y) {
    const uint64 row = chunk / chunks_per_row;
    const uint32 pack = static_cast<uint32>(chunk - row * chunks_per_row) * blockDim.x + threadIdx.x;
    if (pack < packs) visit(static_cast<int64>(row), static_cast<int64>(pack) * width);
  }
}

} // namespace hotrow

#endif

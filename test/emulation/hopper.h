/* kernels/cuda/hopper.cuh for the host: the same functions and the same guard. */
#ifndef HOTROW_HOPPER_CUH
#define HOTROW_HOPPER_CUH

#include "ptx.h"

namespace hotrow {
struct alignas(64) TensorMap {
  unsigned long long word[16];
};

namespace ptx {

inline unsigned char *tiled_shared() { return static_cast<unsigned char *>(simt::dynamic_shared()); }
inline unsigned int shared_address(const void *in_shared) { return simt::shared_address(in_shared); }

inline void init_barrier(unsigned int barrier, int arrivals) { simt::init_barrier(barrier, arrivals); }
inline void publish_barriers() {}
inline void arrive(unsigned int barrier) { simt::arrive(barrier, 0); }
inline void arrive_expecting(unsigned int barrier, int bytes) { simt::arrive(barrier, bytes); }
inline void wait_for_phase(unsigned int barrier, unsigned int parity) { simt::wait_for_phase(barrier, parity); }
inline void part_barrier(int id, int threads) { simt::part_barrier(id, static_cast<unsigned int>(threads)); }

inline void load_tile(unsigned int to, const TensorMap *map, int row, int column, unsigned int barrier) {
  simt::TiledMatrix matrix;
  std::memcpy(&matrix, map, sizeof matrix);
  simt::start_tile_copy(to, matrix, row, column, barrier);
}

inline void store_tile(const TensorMap *map, int row, int column, unsigned int from) {
  simt::TiledMatrix matrix;
  std::memcpy(&matrix, map, sizeof matrix);
  simt::start_tile_store(matrix, row, column, from);
}
inline void commit_stores() {}

inline void copy16_async(unsigned int to, const void *from, bool inside) {
  copy_async<16>(reinterpret_cast<float *>(tiled_shared() + to), static_cast<const float *>(from), inside);
}

inline Words<4> load16(const char *from, bool inside) { return inside ? load_vector<16>(from) : Words<4>{}; }
inline void store16(char *to, const Words<4> &words) {
  const unsigned int(&word)[4] = words.word;
  store4(reinterpret_cast<unsigned int *>(to), word[0], word[1], word[2], word[3]);
}

inline Words<4> load_shared16(unsigned int from) {
  Words<4> words;
  std::memcpy(words.word, tiled_shared() + from, sizeof words.word);
  return words;
}
inline void store_shared16(unsigned int to, const Words<4> &words) { std::memcpy(tiled_shared() + to, words.word, sizeof words.word); }

template <int registers>
void give_registers() {}
template <int registers>
void take_registers() {}

inline unsigned long long factor_at(unsigned int address) { return address / 16; }
inline void begin_products() {}
inline void commit_products() { simt::commit_products(); }
template <int groups>
void wait_for_products() {
  simt::wait_for_products(groups);
}

enum class Factors { float16, bfloat16, e4m3 };
constexpr int factor_bytes(Factors factors) { return factors == Factors::e4m3 ? 1 : 2; }

template <Factors factors>
float factor_value(unsigned short bits) {
  if constexpr (factors == Factors::e4m3) return float8_e4m3_to_float32(static_cast<unsigned char>(bits));
  else if constexpr (factors == Factors::bfloat16) return __uint_as_float(static_cast<unsigned int>(bits) << 16);
  else return float16_to_float32(bits);
}

template <int columns, Factors factors>
void multiply(float (&sums)[columns / 2], unsigned long long left, unsigned long long right, bool add) {
  const unsigned int a = static_cast<unsigned int>(left * 16), b = static_cast<unsigned int>(right * 16);
  simt::start_product({sums, columns, a, b, add, factor_bytes(factors), factor_value<factors>});
}

} // namespace ptx
} // namespace hotrow

#endif

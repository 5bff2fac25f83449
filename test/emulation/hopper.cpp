/* What sm_90a has beyond other GPUs, emulated: barriers in shared memory, copies of tiles, products of warp groups. */
#include "fibers.h"

#include <utility>

namespace simt {
namespace {

/* What lies in a barrier's 8 bytes. `expected`: bytes of the phase that have not come. */
struct Barrier {
  static constexpr unsigned char MADE = 0xb5;
  unsigned char made, arrivals, missing, parity;
  std::int32_t expected;
};
static_assert(sizeof(Barrier) == 8, "as on a GPU");

struct TileCopy {
  unsigned int to;
  TiledMatrix matrix;
  int row, column;
  unsigned int barrier;
};
std::deque<TileCopy> tile_copies; /* under way */

constexpr unsigned int SWIZZLED_BYTES = 1024;
constexpr int PRODUCT_BYTES = 32; /* of columns */

Barrier &barrier_at(unsigned int place) {
  static Barrier none;
  if (place % sizeof(Barrier) == 0 && place + sizeof(Barrier) <= DYNAMIC_SHARED_BYTES) {
    Barrier *barrier = reinterpret_cast<Barrier *>(shared_memory + place);
    if (barrier->made == Barrier::MADE) return *barrier;
  }
  fail("no barrier was made here", nullptr, place);
  none = {Barrier::MADE, 1, 1, 0, 0};
  return none;
}

void end_phase_if_done(Barrier &barrier) {
  if (barrier.missing != 0 || barrier.expected != 0) return;
  barrier.missing = barrier.arrivals;
  barrier.parity ^= 1;
}

/* A barrier is in a phase of one parity when the phase before, of the other, has ended. */
bool may_go_on(const Fiber &fiber, std::size_t threads) {
  if (fiber.state == State::AtPhase) return barrier_at(fiber.barrier).parity != fiber.parity;
  if (fiber.state != State::AtPartBarrier) return false;
  unsigned int there = 0;
  for (std::size_t i = 0; i < threads; i++)
    there += fibers[i]->state == State::AtPartBarrier && fibers[i]->part == fiber.part;
  return there == fiber.part_threads;
}

/* Where a byte of rows of 128 bytes lies: 16-byte units change places within their row. */
unsigned int swizzled(unsigned int place) { return place ^ (place >> 7 & 7) << 4; }

void put_tile(const TileCopy &copy) {
  const TiledMatrix &matrix = copy.matrix;
  const std::uint64_t bytes = matrix.element_bytes;
  for (std::uint64_t r = 0; r < matrix.tile_rows; r++) {
    for (std::uint64_t c = 0; c < matrix.tile_columns; c++) {
      const std::uint64_t row = static_cast<std::uint64_t>(copy.row) + r, column = static_cast<std::uint64_t>(copy.column) + c;
      const void *from = reinterpret_cast<const void *>(matrix.address + row * matrix.row_bytes + column * bytes);
      unsigned char *element = shared_memory + swizzled(copy.to + static_cast<unsigned int>((r * matrix.tile_columns + c) * bytes));
      const bool inside = row < matrix.rows && column < matrix.columns && may_access(from, bytes, Access::Read);
      if (inside) std::memcpy(element, from, bytes);
      else std::memset(element, 0, bytes);
    }
  }
}

bool may_be_swizzled(const TiledMatrix &matrix, unsigned int place) {
  const std::uint64_t bytes = matrix.tile_columns * matrix.element_bytes;
  const bool may = place % SWIZZLED_BYTES == 0 && place + bytes * matrix.tile_rows <= DYNAMIC_SHARED_BYTES && bytes == 128;
  if (!may) fail("a tile that cannot be swizzled so", nullptr, bytes);
  return may;
}

float factor(const Product &product, unsigned int place, int row, int k) {
  unsigned short bits = 0;
  const unsigned int at = swizzled(place + static_cast<unsigned int>(row * 128 + k * product.element_bytes));
  std::memcpy(&bits, shared_memory + at, static_cast<std::size_t>(product.element_bytes));
  return product.value(bits);
}

/* The thread's sums, each added up in float64 and rounded once. */
void multiply(const Product &product) {
  const int thread = static_cast<int>(thread_number() % 128);
  for (int half = 0; half < 2; half++) {
    const int row = thread / 32 * 16 + thread % 32 / 4 + 8 * half;
    const int depth = PRODUCT_BYTES / product.element_bytes;
    float left[PRODUCT_BYTES];
    for (int k = 0; k < depth; k++) left[k] = factor(product, product.left, row, k);
    for (int i = 0; i < product.columns / 4; i++) {
      const int column = i / 2 * 8 + thread % 4 * 2 + i % 2;
      float &own = product.sums[i / 2 * 4 + half * 2 + i % 2];
      double sum = product.add ? own : 0.0;
      for (int k = 0; k < depth; k++)
        sum += static_cast<double>(left[k]) * static_cast<double>(factor(product, product.right, column, k));
      own = static_cast<float>(sum);
    }
  }
}

} // namespace

void begin_tiles() { tile_copies.clear(); }
bool tiles_are_under_way() { return !tile_copies.empty(); }

bool release_phases_and_parts(std::size_t threads) {
  std::vector<Fiber *> released;
  for (std::size_t i = 0; i < threads; i++)
    if (may_go_on(*fibers[i], threads)) released.push_back(fibers[i].get());
  for (Fiber *fiber : released) fiber->state = State::Ready;
  return !released.empty();
}

bool end_tile_copy() {
  if (tile_copies.empty()) return false;
  const TileCopy copy = tile_copies.front();
  tile_copies.pop_front();
  put_tile(copy);
  Barrier &told = barrier_at(copy.barrier);
  told.expected -= static_cast<std::int32_t>(copy.matrix.tile_rows * copy.matrix.tile_columns * copy.matrix.element_bytes);
  end_phase_if_done(told);
  return true;
}

unsigned int shared_address(const void *in_shared) {
  return static_cast<unsigned int>(static_cast<const unsigned char *>(in_shared) - shared_memory);
}

void init_barrier(unsigned int barrier, int arrivals) {
  const unsigned char count = static_cast<unsigned char>(arrivals);
  *reinterpret_cast<Barrier *>(shared_memory + barrier) = {Barrier::MADE, count, count, 0, 0};
}

void arrive(unsigned int barrier, int expected_bytes) {
  Barrier &own = barrier_at(barrier);
  if (own.missing == 0) fail("more arrivals at a barrier than it counts", nullptr, barrier);
  own.missing -= 1;
  own.expected += expected_bytes;
  end_phase_if_done(own);
}

void wait_for_phase(unsigned int barrier, unsigned int parity) {
  running->barrier = barrier;
  running->parity = parity;
  if (barrier_at(barrier).parity == parity) wait(State::AtPhase);
}

void part_barrier(int id, unsigned int threads) {
  running->part = id;
  running->part_threads = threads;
  wait(State::AtPartBarrier);
}

void start_tile_copy(unsigned int to, const TiledMatrix &matrix, int row, int column, unsigned int barrier) {
  if (may_be_swizzled(matrix, to)) tile_copies.push_back({to, matrix, row, column, barrier});
}

void start_tile_store(const TiledMatrix &matrix, int first_row, int first_column, unsigned int from) {
  if (!may_be_swizzled(matrix, from)) return;
  for (std::uint64_t r = 0; r < matrix.tile_rows; r++) {
    for (std::uint64_t c = 0; c < matrix.tile_columns; c++) {
      const std::uint64_t row = static_cast<std::uint64_t>(first_row) + r, column = static_cast<std::uint64_t>(first_column) + c;
      if (row >= matrix.rows || column >= matrix.columns) continue;
      void *to = reinterpret_cast<void *>(matrix.address + row * matrix.row_bytes + column * matrix.element_bytes);
      const unsigned int at = swizzled(from + static_cast<unsigned int>((r * matrix.tile_columns + c) * matrix.element_bytes));
      if (may_access(to, matrix.element_bytes, Access::Write))
        running->bulk_copies.push_back({to, shared_memory + at, matrix.element_bytes});
    }
  }
}

void start_product(const Product &product) { running->open_products.push_back(product); }

void commit_products() {
  running->products.push_back(std::move(running->open_products));
  running->open_products.clear();
}

void wait_for_products(std::size_t groups) {
  for (; running->products.size() > groups; running->products.pop_front())
    for (const Product &product : running->products.front()) multiply(product);
}

} // namespace simt

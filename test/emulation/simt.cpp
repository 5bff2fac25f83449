#include "fibers.h"

#include <cstdio>
#include <utility>

simt::Index3 threadIdx, blockIdx, blockDim, gridDim;

namespace simt {

Counts counts;
std::vector<std::unique_ptr<Fiber>> fibers;
Fiber *running;
alignas(1024) unsigned char shared_memory[DYNAMIC_SHARED_BYTES];

namespace {

constexpr std::size_t STACK_BYTES = 64 * 1024;

struct Region {
  std::uintptr_t begin, end;
  bool writable;
};

std::vector<Region> regions;
Place scheduler;
void (*kernel_running)(const void *);
const void *kernel_params;
char error[256];
Shown shown[MOST_WARPS];
bool shared_is_used = true;

} // namespace

void fail(const char *what, const void *address, std::size_t bytes) {
  if (error[0]) return;
  std::snprintf(error, sizeof error, "block %u thread (%u, %u): %s, %zu bytes at %p", blockIdx.x, threadIdx.x,
                threadIdx.y, what, bytes, address);
}

namespace {

[[noreturn]] __attribute__((noinline)) void go_to(Place &place) { __builtin_longjmp(place, 1); }

/* Leaves the running fiber, which goes on from here when it is resumed. */
__attribute__((noinline)) void leave(State state) {
  running->state = state;
  if (__builtin_setjmp(running->place) == 0) go_to(scheduler);
}

/* A fiber runs one thread after the other, of this block and those to come. */
void fiber_main() {
  for (;;) {
    kernel_running(kernel_params);
    leave(State::Ended);
  }
}

__attribute__((noinline)) void resume(Fiber &fiber) {
  running = &fiber;
  threadIdx = fiber.index;
  if (__builtin_setjmp(scheduler) != 0) return;
  if (fiber.entered) go_to(fiber.place);
  fiber.entered = true;
  setcontext(&fiber.context);
}

void make_fiber() {
  fibers.push_back(std::make_unique<Fiber>());
  Fiber &fiber = *fibers.back();
  fiber.stack.reset(new char[STACK_BYTES]); /* not set to 0: what is not touched takes no memory */
  getcontext(&fiber.context);
  fiber.context.uc_stack = {};
  fiber.context.uc_stack.ss_sp = fiber.stack.get();
  fiber.context.uc_stack.ss_size = STACK_BYTES;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, fiber_main, 0);
}

/* Releases [first, last) when all of them that live have come to the barrier. */
bool release(std::size_t first, std::size_t last, State barrier) {
  std::size_t waiting = 0;
  for (std::size_t i = first; i < last; i++) {
    if (fibers[i]->state == State::Ended) continue;
    if (fibers[i]->state != barrier) return false;
    waiting++;
  }
  for (std::size_t i = first; i < last; i++)
    if (fibers[i]->state == barrier) fibers[i]->state = State::Ready;
  return waiting > 0;
}

void begin_thread(Fiber &fiber, unsigned int thread) {
  fiber.index = {thread % blockDim.x, thread / blockDim.x, 0};
  fiber.state = State::Ready;
  fiber.exchanges = 0;
  fiber.groups.clear();
  fiber.open_group.clear();
  fiber.bulk_copies.clear();
  fiber.products.clear();
  fiber.open_products.clear();
}

void run_block(std::size_t threads, bool backwards) {
  /* NaNs: what a block reads before it wrote it shows. */
  if (shared_is_used) std::memset(shared_memory, 0xff, sizeof shared_memory);
  shared_is_used = false;
  while (fibers.size() < threads) make_fiber();
  for (std::size_t i = 0; i < threads; i++) begin_thread(*fibers[i], static_cast<unsigned int>(i));
  begin_tiles();
  for (;;) {
    bool any_ran = false;
    bool all_ended = true;
    for (std::size_t step = 0; step < threads; step++) {
      Fiber &fiber = *fibers[backwards ? threads - 1 - step : step];
      if (fiber.state == State::Ready) {
        resume(fiber);
        any_ran = true;
      }
      all_ended = all_ended && fiber.state == State::Ended;
    }
    if (all_ended) {
      if (tiles_are_under_way()) fail("a block ended before the copies that it began", nullptr, 0);
      return;
    }
    bool any_released = release(0, threads, State::AtBlockBarrier);
    for (std::size_t first = 0; first < threads; first += WARP_THREADS) {
      const std::size_t last = first + WARP_THREADS < threads ? first + WARP_THREADS : threads;
      any_released = release(first, last, State::AtWarpBarrier) || any_released;
    }
    any_released = release_phases_and_parts(threads) || any_released;
    /* A copy takes as long as it can. */
    if (!any_ran && !any_released && !end_tile_copy()) {
      fail("threads wait for each other at different barriers", nullptr, 0);
      fibers.clear(); /* they stand where they wait */
      return;
    }
  }
}

} // namespace

bool may_access(const void *address, std::size_t bytes, Access access) {
  const std::uintptr_t at = reinterpret_cast<std::uintptr_t>(address);
  if ((at & (bytes - 1)) != 0) { /* sizes are powers of two */
    fail("unaligned access", address, bytes);
    return false;
  }
  /* Most accesses are to the region of the one before: it comes first. */
  for (Region &region : regions) {
    if (at < region.begin || at + bytes > region.end) continue;
    std::swap(region, regions.front());
    if (access != Access::Write || regions.front().writable) return true;
    fail("write to read-only memory", address, bytes);
    return false;
  }
  fail(access == Access::Read    ? "read outside of every array"
       : access == Access::Write ? "write outside of every array"
                                 : "prefetch outside of every array",
       address, bytes);
  return false;
}

void wait(State state) {
  leave(state);
  threadIdx = running->index;
}

void block_barrier() { wait(State::AtBlockBarrier); }
void warp_barrier() { wait(State::AtWarpBarrier); }

unsigned int thread_number() { return threadIdx.y * blockDim.x + threadIdx.x; }

/* Two buffers in turn: a lane writes one again only when all lanes have read it, since the other's barrier lies between. */
const unsigned long long *exchange(unsigned long long own) {
  static unsigned long long given[2][MOST_WARPS][WARP_THREADS];
  running->exchanges ^= 1;
  unsigned long long *buffer = given[running->exchanges][thread_number() / WARP_THREADS];
  buffer[lane()] = own;
  warp_barrier();
  return buffer;
}

const Shown &show(const unsigned int *words, unsigned int count) {
  Shown &warp = shown[thread_number() / WARP_THREADS];
  std::memcpy(warp[lane()], words, count * sizeof *words);
  warp_barrier();
  return warp;
}

void *dynamic_shared() {
  shared_is_used = true;
  return shared_memory;
}

/* Whether bytes lie in the block's shared memory, `alignment` from its start. */
static bool lies_in_shared(const void *begin, std::size_t bytes, std::size_t alignment) {
  const std::ptrdiff_t at = static_cast<const unsigned char *>(begin) - shared_memory;
  return at >= 0 && static_cast<std::size_t>(at) + bytes <= DYNAMIC_SHARED_BYTES && static_cast<std::size_t>(at) % alignment == 0;
}

void start_copy(void *to, const void *from, std::size_t bytes) {
  if (!lies_in_shared(to, bytes, bytes))
    fail("copy to outside of shared memory, or unaligned", to, bytes);
  else
    running->open_group.push_back({to, from, bytes});
}

void commit_copies() {
  running->groups.push_back(std::move(running->open_group));
  running->open_group.clear();
}

void wait_for_copies(std::size_t groups) {
  for (; running->groups.size() > groups; running->groups.pop_front())
    for (const Copy &copy : running->groups.front()) {
      if (copy.from == nullptr) std::memset(copy.to, 0, copy.bytes);
      else std::memcpy(copy.to, copy.from, copy.bytes);
    }
}

void start_bulk_copy(void *to, const void *from, std::size_t bytes) {
  if (!lies_in_shared(from, bytes, 16) || bytes % 16 != 0)
    fail("bulk copy from outside of shared memory, or unaligned", from, bytes);
  else
    running->bulk_copies.push_back({to, from, bytes});
}

void wait_for_bulk_copies() {
  for (const Copy &copy : running->bulk_copies) std::memcpy(copy.to, copy.from, copy.bytes);
  running->bulk_copies.clear();
}

} // namespace simt

/* ----- What tests call. ----- */

extern "C" void simt_forget_regions() { simt::regions.clear(); }

extern "C" void simt_add_region(std::uintptr_t address, std::int64_t bytes, std::int64_t writable) {
  simt::regions.push_back({address, address + static_cast<std::uintptr_t>(bytes), writable != 0});
}

/* Runs a kernel to its end. shape: grid x, y; block x, y; 1: threads in descending order. counts: reads, writes,
 * prefetches. NULL, or what went wrong. */
extern "C" const char *simt_launch(void (*kernel)(const void *), const std::int64_t *shape, const void *params,
                                   std::int64_t *counts) {
  using namespace simt;
  error[0] = 0;
  simt::counts = {};
  kernel_running = kernel;
  kernel_params = params;
  gridDim = {static_cast<unsigned int>(shape[0]), static_cast<unsigned int>(shape[1]), 1};
  blockDim = {static_cast<unsigned int>(shape[2]), static_cast<unsigned int>(shape[3]), 1};
  for (unsigned int y = 0; y < gridDim.y; y++) {
    for (unsigned int x = 0; x < gridDim.x; x++) {
      blockIdx = {x, y, 0};
      run_block(static_cast<std::size_t>(blockDim.x) * blockDim.y, shape[4] != 0);
    }
  }
  counts[0] = simt::counts.reads;
  counts[1] = simt::counts.writes;
  counts[2] = simt::counts.prefetches;
  return error[0] ? error : nullptr;
}

/* For another library: the same, with leave to read and write `count` pieces of memory, pairs of an address and a length. */
extern "C" const char *simt_launch_within(void (*kernel)(const void *), const std::int64_t *shape, const void *params,
                                          const std::int64_t *memory, std::int64_t count) {
  simt_forget_regions();
  for (std::int64_t i = 0; i < count; i++)
    simt_add_region(static_cast<std::uintptr_t>(memory[2 * i]), memory[2 * i + 1], 1);
  std::int64_t counts[3];
  return simt_launch(kernel, shape, params, counts);
}

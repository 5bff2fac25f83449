/* The threads of a block as fibers: what simt.cpp, which runs them, and hopper.cpp share. */
#ifndef HOTROW_FIBERS_H
#define HOTROW_FIBERS_H

#include "simt.h"

#include <deque>
#include <memory>
#include <ucontext.h>
#include <vector>

namespace simt {

constexpr unsigned int WARP_THREADS = 32;
constexpr unsigned int MOST_WARPS = 32;

enum class State { Ready, AtBlockBarrier, AtWarpBarrier, AtPartBarrier, AtPhase, Ended };

struct Copy {
  void *to;
  const void *from; /* NULL: zeros */
  std::size_t bytes;
};

/*
 * Fibers change places by the compiler's own setjmp and longjmp, in functions of their own as those ask for: swapcontext asks the
 * system for the signal mask every time, and the C library's longjmp looks for handlers to call.
 */
using Place = void *[5];

struct Fiber {
  ucontext_t context; /* of the first entry */
  Place place;        /* where it goes on */
  bool entered = false;
  std::unique_ptr<char[]> stack;
  Index3 index;
  State state;
  unsigned int exchanges; /* parity of the lane's exchanges so far */
  std::deque<std::vector<Copy>> groups; /* committed, not waited for */
  std::vector<Copy> open_group;
  std::vector<Copy> bulk_copies; /* not waited for */
  int part;                      /* of the block, at whose barrier it waits, and that part's threads */
  unsigned int part_threads;
  unsigned int barrier, parity;  /* the phase that it waits for */
  std::deque<std::vector<Product>> products; /* committed, not waited for */
  std::vector<Product> open_products;
};

extern std::vector<std::unique_ptr<Fiber>> fibers; /* kept between launches, for their stacks */
extern Fiber *running;
extern unsigned char shared_memory[DYNAMIC_SHARED_BYTES];

/* Keeps the launch's first error. */
void fail(const char *what, const void *address, std::size_t bytes);
/* Until the running fiber is ready again. */
void wait(State state);

/* For the scheduler. Forgets what was under way. */
void begin_tiles();
/* Releases those of the first `threads` fibers that wait for a part's barrier or a phase, and may go on; whether there are any. */
bool release_phases_and_parts(std::size_t threads);
/* Lets the tile come whose copy began first; whether there is one. */
bool end_tile_copy();
bool tiles_are_under_way();

} // namespace simt

#endif

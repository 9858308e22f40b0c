// CUDA C++ on the CPU: a fiber for each thread of one block, and what CubeCL's kernels use of the language. It knows neither inline
// assembly nor shuffles nor asynchronous copies; a kernel with them does not compile here.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <type_traits>
#include <ucontext.h>
#include <vector>

#define __device__
#define __grid_constant__
#define __restrict__

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
static dim3 threadIdx, blockIdx, blockDim, gridDim;
using std::exp;
using std::log;
using std::max;
using std::min;

namespace emulator {

const unsigned LANES = 32;
const size_t SHARED_BYTES = 227 * 1024;
// A number that no kernel computes, where nobody has written yet.
const int POISON = 0x7f;

enum Wait { nowhere, at_block, at_warp };

struct Fiber {
  ucontext_t context;
  std::vector<char> stack;
  dim3 id;
  Wait wait;
  bool done;
};

static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static size_t current;
static std::function<void()> body;
alignas(256) static char shared[SHARED_BYTES];
static std::mt19937 order;
// The barrier that is left out, to see whether anybody misses it.
static int skipped = -1;

[[noreturn]] static void fail(const char* what) {
  printf("%s\n", what);
  exit(1);
}

static void suspend(Wait wait) {
  fibers[current].wait = wait;
  swapcontext(&fibers[current].context, &scheduler);
}

// A point at which others may go on. Mostly they do not, so that some are far ahead of the rest.
static void step() {
  if (order() % 16 == 0) suspend(nowhere);
}

static void barrier(Wait wait, int number) {
  if (number == skipped) step();
  else suspend(wait);
}

static void enter() {
  body();
  fibers[current].done = true;
  swapcontext(&fibers[current].context, &scheduler);
}

// Frees those who wait for nobody else. Whether there were any.
static bool release() {
  const auto waits = [](Wait wait, size_t from, size_t to) {
    bool any = false, all = true;
    for (size_t i = from; i < to; i++) {
      any |= !fibers[i].done;
      all &= fibers[i].done || fibers[i].wait == wait;
    }
    return any && all;
  };
  const auto free = [](size_t from, size_t to) {
    for (size_t i = from; i < to; i++) fibers[i].wait = nowhere;
    return true;
  };
  if (waits(at_block, 0, fibers.size())) return free(0, fibers.size());
  bool freed = false;
  for (size_t warp = 0; warp < fibers.size(); warp += LANES)
    if (waits(at_warp, warp, warp + LANES)) freed = free(warp, warp + LANES);
  return freed;
}

static void run_block() {
  memset(shared, POISON, SHARED_BYTES);
  fibers.resize(blockDim.x * blockDim.y);
  std::vector<size_t> turn;
  for (size_t i = 0; i < fibers.size(); i++) {
    Fiber& fiber = fibers[i];
    fiber.stack.resize(1 << 20);
    fiber.wait = nowhere;
    fiber.done = false;
    fiber.id = {unsigned(i % blockDim.x), unsigned(i / blockDim.x), 0};
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, enter, 0);
    turn.push_back(i);
  }
  for (bool left = true; left;) {
    // Another order every time: whoever relies on one is found out.
    std::shuffle(turn.begin(), turn.end(), order);
    bool ran = false;
    left = false;
    for (size_t i : turn) {
      left |= !fibers[i].done;
      if (fibers[i].done || fibers[i].wait != nowhere) continue;
      current = i;
      threadIdx = fibers[i].id;
      ran = true;
      swapcontext(&scheduler, &fibers[i].context);
    }
    if (left && !ran && !release()) fail("threads wait for others that never come");
  }
}

static void launch(dim3 grid, dim3 block, std::function<void()> kernel) {
  gridDim = grid;
  blockDim = block;
  body = kernel;
  for (unsigned z = 0; z < grid.z; z++)
    for (unsigned y = 0; y < grid.y; y++)
      for (unsigned x = 0; x < grid.x; x++) {
        blockIdx = {x, y, z};
        run_block();
      }
}

}  // namespace emulator

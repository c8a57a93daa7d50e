// An exchange between processes of one machine, through memory that all of them have mapped.

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <vector>

#include "boundary.h"

// Where a process says how often it has come. Must agree with `SEAT` of parallel/shared.py.
struct alignas(64) Seat {  // a cache line of its own
  std::uint32_t came;
  std::int32_t process;
};

// Waking up takes longer than the others are usually late; who waits longer leaves its core to them.
constexpr Index SPIN_NS = 50'000;

static Index now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * Index{1'000'000'000} + time.tv_nsec;
}

// Come for the `turn`th time and wait for the others, for at most `patience` ns or until a signal.
// Returns -1, or who has not come yet; then the same call goes on waiting.
EXPORT int meet(Seat* seats, int world, int own, std::uint32_t turn, Index patience) {
  if (seats[own].came != turn) {
    __atomic_store_n(&seats[own].came, turn, __ATOMIC_RELEASE);
    syscall(SYS_futex, &seats[own].came, FUTEX_WAKE, world, nullptr, nullptr, 0);
  }
  const Index began = now();
  for (int other = 0; other < world; ++other) {
    while (true) {
      const std::uint32_t came = __atomic_load_n(&seats[other].came, __ATOMIC_ACQUIRE);
      if (static_cast<std::int32_t>(came - turn) >= 0) break;
      const Index waited = now() - began;
      if (waited < SPIN_NS) continue;
      const Index left = patience - waited;
      const timespec limit{left / 1'000'000'000, left % 1'000'000'000};
      // It returns at once where the other one has come meanwhile.
      if (left <= 0 || (syscall(SYS_futex, &seats[other].came, FUTEX_WAIT, came, &limit, nullptr, 0) && errno == EINTR))
        return other;
    }
  }
  return -1;
}

// Arrays of sizes[i] floats become the sums over all processes in their order, times `factor`. Each process has gathered
// its arrays in shared[number * stride]; its own are still where they were.
EXPORT int average(Index count, float* const* arrays, const Index* sizes, const float* shared, Index stride, int world,
                   int own, float factor) {
  return guarded([=] {
    std::vector<const float*> parts(world);
    for (Index i = 0, offset = 0; i < count; offset += sizes[i++]) {
      for (int number = 0; number < world; ++number)
        parts[number] = number == own ? arrays[i] : shared + number * stride + offset;
      for (Index j = 0; j < sizes[i]; j += LANES) {
        const Index left = sizes[i] - j;
        Vector total = load(parts[0] + j, left);
        for (int number = 1; number < world; ++number) total += load(parts[number] + j, left);
        store(arrays[i] + j, all(factor) * total, left);
      }
    }
  });
}

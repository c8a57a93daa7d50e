// Mean and variance of a row of floats.
#pragma once

#include <cmath>

#include "common.h"

typedef float Half __attribute__((vector_size(2 * LANES), aligned(4), may_alias));
typedef double Doubles __attribute__((vector_size(4 * LANES)));

// Half as many floats as a `Vector` has.
inline Doubles load_doubles(const float* from) {
#ifdef __AVX512F__
  return _mm512_cvtps_pd(_mm256_loadu_ps(from));
#else
  return __builtin_convertvector(*reinterpret_cast<const Half*>(from), Doubles);
#endif
}

inline double sum(Doubles values) {
  double total = 0;
  for (Index lane = 0; lane < LANES / 2; ++lane) total += values[lane];
  return total;
}

// How far values are from `center`, summed up, and so are the squares of that.
struct Sums {
  Doubles center, total{}, squares{};
  void add(const float* from) {
    const Doubles away = load_doubles(from) - center;
    total += away;
    squares += away * away;
  }
};

struct Moments {
  double mean, variance;  // the variance divides by the number of values
};

// Far from zero a mean in float32 would lose the deviation. The differences from any value of the row are exact in
// double and no larger than √size deviations, so that nothing is lost, and the row is read once.
inline Moments moments_of(const float* from, Index size) {
  const double center = std::isfinite(from[0]) ? from[0] : 0;
  Sums even{center - Doubles{}}, odd{even.center};
  Index i = 0;
  for (; i + LANES <= size; i += LANES) {
    even.add(from + i);
    odd.add(from + i + LANES / 2);
  }
  double total = sum(even.total + odd.total), squares = sum(even.squares + odd.squares);
  for (; i < size; ++i) {
    const double away = from[i] - center;
    total += away;
    squares += away * away;
  }
  const double away = total / size, spread = squares / size - away * away;
  return {center + away, spread < 0 ? 0 : spread};
}

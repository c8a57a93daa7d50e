// Simulated integers of activations, and PACT's clip before them. Layouts do not matter here.

#include <cmath>

#include "common.h"

namespace {

inline Vector clipped(Vector x, Vector bound) {
  // A value that is not a number stays one.
  const Vector below = x < -bound ? -bound : x;
  return below > bound ? bound : below;
}

// Nearest integer, halves away from zero as std::round does: the largest float below ½ leaves 0.49999997 at 0.
inline Vector nearest(Vector x) {
  Vector rounded;
  for (Index lane = 0; lane < LANES; ++lane) rounded[lane] = std::trunc(x[lane] + std::copysign(0.49999997f, x[lane]));
  return rounded;
}

float largest_magnitude(Index size, const float* x) {
  float most = 0;
#pragma omp parallel for simd schedule(static) reduction(max : most) if (size > WORTH_THREADS)
  for (Index i = 0; i < size; ++i) most = std::max(most, std::fabs(x[i]));
  return most;
}

}  // namespace

// x [size] → y, rounded to `levels` steps of scale/levels on either side of zero. While training the scale follows a
// moving average of the largest magnitudes, accum / state.
EXPORT void fake_quantize(Index size, const float* x, int training, float rate, float levels, float* scale,
                          float* accum, float* state, float* y) {
  if (training) {
    // Rounded after the product too, as Paddle's: volatile keeps the compiler from fusing it with the sum.
    const volatile float kept = rate * *accum, count = rate * *state;
    *accum = kept + largest_magnitude(size, x);
    *state = count + 1;
    *scale = *accum / *state;
  }
  const Vector range = all(*scale);
  // As Paddle computes it, step by step, so that the same value never rounds to another integer.
  const float inverse = *scale <= 1e-6f ? 1.0f / (*scale + 1e-6f) : 1.0f / *scale;
  const float up = levels * inverse;
#pragma omp parallel for schedule(static) if (size > WORTH_THREADS)
  for (Index i = 0; i < size; i += LANES)
    store(y + i, nearest(up * clipped(load(x + i, size - i), range)) * *scale / levels, size - i);
}

// x [size] clipped to ±bound → y.
EXPORT void clip_forward(Index size, const float* x, float bound, float* y) {
#pragma omp parallel for schedule(static) if (size > WORTH_THREADS)
  for (Index i = 0; i < size; i += LANES) store(y + i, clipped(load(x + i, size - i), all(bound)), size - i);
}

// dy [size] → dx [size], nothing where x was clipped. Returns the gradient of the bound: the signed sum of what was.
EXPORT float clip_gradient(Index size, const float* x, float bound, const float* dy, float* dx) {
  constexpr Index PART = 1 << 12;
  const Index parts = (size + PART - 1) / PART;
  const Vector limit = all(bound), zero{};
  double total = 0;
#pragma omp parallel for schedule(static) reduction(+ : total) if (size > WORTH_THREADS)
  for (Index part = 0; part < parts; ++part) {
    Vector sums{};
    for (Index i = part * PART; i < std::min(size, (part + 1) * PART); i += LANES) {
      const Vector value = load(x + i, size - i), gradient = load(dy + i, size - i);
      const Vector above = value > limit ? gradient : zero, below = value < -limit ? gradient : zero;
      sums += above - below;
      store(dx + i, gradient - above - below, size - i);
    }
    total += sum(sums);
  }
  return total;
}

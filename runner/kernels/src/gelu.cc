// GELU (Hendrycks & Gimpel, 2016) in its exact form, x·Φ(x), Φ being the normal distribution.

#include "activation.h"

namespace {

// Φ(x), and exp(-x²/2), to which the density is proportional; both within a few units in the last place.
struct Normal {
  Vector cdf, density;
};

inline Normal normal(Vector x) {
  const Vector zero{}, one = all(1);
  // From here on exp(-x²/2), 1.7e-38 and less, is 0.
  const Vector limit = all(13.19f), magnitude = where(x < zero, -x, x);
  const Vector a = where(magnitude > limit, limit, magnitude);
  // exp(-a²/2) = 2ⁿ·exp(rest): the upper half of a has an exact square, which is the larger part of the exponent.
  const Vector upper = (Vector)((Integers)a & ~0xfff);
  const Vector large = upper * upper * -0.5f;
  const Vector shifted = large * 1.44269504f + ROUNDING, n = shifted - ROUNDING;
  const Vector rest = large - n * 0.693359375f + n * 2.12194440e-4f - (a - upper) * (a + upper) * 0.5f;
  const Vector density = where(magnitude > limit, zero, scaled_exponential(rest, shifted));
  // Φ(-a) / exp(-a²/2) is smooth: a polynomial in t = 1 / (1 + 0.26·a), fitted to a relative error of 2e-8.
  const Vector t = one / (1 + 0.26f * a);
  Vector ratio = all(0.030952683f);
  for (float coefficient : {-0.15501777f, 0.25604612f, -0.15620773f, 0.16462441f, 0.049437165f, 0.10344526f,
                            0.10295713f, 0.10376266f})
    ratio = ratio * t + coefficient;
  const Vector tail = ratio * t * density;
  return {where(x < zero, tail, one - tail), density};
}

}  // namespace

// x [size] → y.
EXPORT void gelu_forward(Index size, const float* x, float* y) {
#pragma omp parallel for schedule(static) if (size > WORTH_THREADS)
  for (Index i = 0; i < size; i += LANES) {
    const Vector value = load(x + i, size - i);
    store(y + i, value * normal(value).cdf, size - i);
  }
}

// x [size], dy [size] → dx [size].
EXPORT void gelu_gradient(Index size, const float* x, const float* dy, float* dx) {
#pragma omp parallel for schedule(static) if (size > WORTH_THREADS)
  for (Index i = 0; i < size; i += LANES) {
    const Vector value = load(x + i, size - i);
    const Normal at = normal(value);
    store(dx + i, load(dy + i, size - i) * (at.cdf + value * at.density * 0.39894228f), size - i);
  }
}

// Activations, alone or in the same pass as a normalisation.
#pragma once

#include "common.h"

// Must agree with `ACTIVATIONS` of native.py.
enum Activation { NONE, RELU, HARDSWISH, RELU6, SWISH };

#define FOR_ACTIVATION(kind, call)                                          \
  switch (kind) {                                                           \
    case RELU: { constexpr Activation KIND = RELU; call; } break;           \
    case HARDSWISH: { constexpr Activation KIND = HARDSWISH; call; } break; \
    case RELU6: { constexpr Activation KIND = RELU6; call; } break;         \
    case SWISH: { constexpr Activation KIND = SWISH; call; } break;         \
    default: { constexpr Activation KIND = NONE; call; }                    \
  }

typedef int Integers __attribute__((vector_size(4 * LANES)));

inline Vector where(decltype(Vector{} < Vector{}) condition, Vector yes, Vector no) { return condition ? yes : no; }

// Adding it to a small number rounds to an integer, which the lowest bits of the sum are: 1.5·2²³.
constexpr float ROUNDING = 12582912.0f;

// 2ⁿ·exp(rest) with `shifted` = n + ROUNDING and |rest| ≤ log(2) / 2: the polynomial of Cephes' expf (Moshier, 1989).
inline Vector scaled_exponential(Vector rest, Vector shifted) {
  Vector power = all(1.9875691500e-4f);
  for (float coefficient : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    power = power * rest + coefficient;
  power = power * rest * rest + rest + 1;
  return power * (Vector)(((Integers)shifted << 23) + 0x3f800000);
}

// 1 / (1 + exp(-x)), within a few units in the last place.
inline Vector sigmoid(Vector x) {
  // From here on the exponential, 1.6e-38 and less, would lose digits: the result is 1, and on the other side 0.
  const Vector zero{}, limit = all(87), low = where(x < -limit, -limit, x), a = -where(low > limit, limit, low);
  const Vector shifted = a * 1.44269504f + ROUNDING, n = shifted - ROUNDING;
  const Vector power = scaled_exponential(a - n * 0.693359375f + n * 2.12194440e-4f, shifted);
  return where(x < -limit, zero, 1 / (1 + power));
}

template <Activation KIND>
inline Vector activated(Vector x) {
  const Vector zero{}, one = all(1);
  // A value that is not a number stays one: every comparison with it is false.
  if (KIND == RELU) return where(x < zero, zero, x);
  if (KIND == HARDSWISH) return x * where(x <= all(-3), zero, where(x >= all(3), one, (x + 3) * (1.0f / 6)));
  if (KIND == RELU6) return where(x < zero, zero, where(x > all(6), all(6), x));
  if (KIND == SWISH) return x * sigmoid(x);
  return x;
}

// The derivative at x as Paddle has it.
template <Activation KIND>
inline Vector slope(Vector x) {
  const Vector zero{}, one = all(1);
  if (KIND == RELU) return where(x > zero, one, zero);
  if (KIND == HARDSWISH) return where(x <= all(-3), zero, where(x + 3 >= all(6), one, (2 * x + 3) * (1.0f / 6)));
  if (KIND == RELU6) return where(x > zero, where(x < all(6), one, zero), zero);
  if (KIND == SWISH) {
    const Vector rate = sigmoid(x);
    return rate * (1 + x * (1 - rate));
  }
  return one;
}

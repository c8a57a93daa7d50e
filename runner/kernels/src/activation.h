// Activations that a normalisation applies in the same pass.
#pragma once

#include "common.h"

// Must agree with `ACTIVATIONS` of native.py.
enum Activation { NONE, RELU, HARDSWISH, RELU6 };

inline Vector where(decltype(Vector{} < Vector{}) condition, Vector yes, Vector no) { return condition ? yes : no; }

template <Activation KIND>
inline Vector activated(Vector x) {
  const Vector zero{};
  // A value that is not a number stays one: every comparison with it is false.
  if (KIND == RELU) return where(x < zero, zero, x);
  if (KIND == HARDSWISH) return where(x <= all(-3), zero, where(x >= all(3), x, x * (x + 3) * (1.0f / 6)));
  if (KIND == RELU6) return where(x < zero, zero, where(x > all(6), all(6), x));
  return x;
}

// The derivative at x as Paddle has it.
template <Activation KIND>
inline Vector slope(Vector x) {
  const Vector zero{}, one = all(1);
  if (KIND == RELU) return where(x > zero, one, zero);
  if (KIND == HARDSWISH) return where(x <= all(-3), zero, where(x >= all(3), one, (2 * x + 3) * (1.0f / 6)));
  if (KIND == RELU6) return where(x > zero, where(x < all(6), one, zero), zero);
  return one;
}

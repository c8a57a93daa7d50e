// Many arrays as one, for an exchange between processes.

#include "common.h"

// Arrays of sizes[i] floats, one behind the other in `flat`.
EXPORT void gather(Index count, const float* const* arrays, const Index* sizes, float* flat) {
  for (Index i = 0; i < count; flat += sizes[i++]) std::memcpy(flat, arrays[i], sizeof(float) * sizes[i]);
}

// The way back; every value times `factor`.
EXPORT void scatter(Index count, float* const* arrays, const Index* sizes, const float* flat, float factor) {
  for (Index i = 0; i < count; flat += sizes[i++])
    for (Index j = 0; j < sizes[i]; ++j) arrays[i][j] = factor * flat[j];
}

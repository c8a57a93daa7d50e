// AdamW (Loshchilov & Hutter, 2019) for all parameters of an optimizer in one pass.

#include <cmath>
#include <vector>

#include "boundary.h"

// Must agree with `ENTRY` of optimizer.py.
struct Entry {
  Index size;
  float* parameter;
  const float* gradient;
  float *mean, *square;                // moving averages of the gradient and of its square
  float *mean_weight, *square_weight;  // β₁ᵗ and β₂ᵗ of this step t, then of the next
  float decay, rate;                   // of the weight; times the learning rate
};

static void step_all(Index count, Entry* entries, float learning_rate, float beta1, float beta2, float epsilon) {
  constexpr Index CHUNK = 1 << 13;
  struct Chunk {
    const Entry* entry;
    Index begin, end;
  };
  std::vector<Chunk> chunks;
  for (Index number = 0; number < count; ++number)
    for (Index begin = 0; begin < entries[number].size; begin += CHUNK)
      chunks.push_back({entries + number, begin, std::min(begin + CHUNK, entries[number].size)});
#pragma omp parallel for schedule(static)
  for (std::size_t number = 0; number < chunks.size(); ++number) {
    const Chunk& chunk = chunks[number];
    const Entry& entry = *chunk.entry;
    const float rate = learning_rate * entry.rate, kept = 1 - rate * entry.decay;
    const float correction = std::sqrt(1 - *entry.square_weight);
    const float step = rate * correction / (1 - *entry.mean_weight), floor = epsilon * correction;
    float *__restrict parameter = entry.parameter, *__restrict mean = entry.mean, *__restrict square = entry.square;
    const float* __restrict gradient = entry.gradient;
#pragma omp simd
    for (Index i = chunk.begin; i < chunk.end; ++i) {
      const float g = gradient[i];
      mean[i] = beta1 * mean[i] + (1 - beta1) * g;
      square[i] = beta2 * square[i] + (1 - beta2) * g * g;
      parameter[i] = kept * parameter[i] - step * mean[i] / (std::sqrt(square[i]) + floor);
    }
  }
  for (Index number = 0; number < count; ++number) {
    *entries[number].mean_weight *= beta1;
    *entries[number].square_weight *= beta2;
  }
}

EXPORT int adamw(Index count, Entry* entries, float learning_rate, float beta1, float beta2, float epsilon) {
  return guarded([=] { step_all(count, entries, learning_rate, beta1, beta2, epsilon); });
}

// Linear layers as matrix products; their inputs are rows, [R, I], as Paddle has them.

#include "boundary.h"
#include "products.h"

// x [R, I], weight [I, O], bias [O] or null → y [R, O].
EXPORT int linear_forward(Index rows, Index inputs, Index outputs, const float* x, const float* weight,
                          const float* bias, float* y) {
  return guarded([=] {
    multiply(rows, outputs, inputs, plain(x, inputs), plain(weight, outputs), y, outputs);
    if (!bias) return;
#pragma omp parallel for schedule(static) if (rows * outputs > WORTH_THREADS)
    for (Index row = 0; row < rows; ++row) {
      float* own = y + row * outputs;
#pragma omp simd
      for (Index i = 0; i < outputs; ++i) own[i] += bias[i];
    }
  });
}

// dy [R, O] → dx [R, I], dweight [I, O] and dbias [O], each unless null.
EXPORT int linear_gradient(Index rows, Index inputs, Index outputs, const float* x, const float* weight,
                           const float* dy, float* dx, float* dweight, float* dbias) {
  return guarded([=] {
    if (dx) multiply(rows, inputs, outputs, plain(dy, outputs), transposed(weight, outputs), dx, inputs);
    if (dweight) multiply(inputs, outputs, rows, transposed(x, inputs), plain(dy, outputs), dweight, outputs);
    if (!dbias) return;
#pragma omp parallel for schedule(static) if (rows * outputs > WORTH_THREADS)
    for (Index first = 0; first < outputs; first += LANES) {
      const Index count = outputs - first;
      Vector total{};
      for (Index row = 0; row < rows; ++row) total += load(dy + row * outputs + first, count);
      store(dbias + first, total, count);
    }
  });
}

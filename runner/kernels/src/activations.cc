// Activations of values of any shape.

#include "activation.h"

namespace {

template <Activation KIND>
void forward(Index size, const float* x, float* y) {
#pragma omp parallel for schedule(static) if (size > WORTH_THREADS)
  for (Index i = 0; i < size; i += LANES) store(y + i, activated<KIND>(load(x + i, size - i)), size - i);
}

template <Activation KIND>
void backward(Index size, const float* x, const float* dy, float* dx) {
#pragma omp parallel for schedule(static) if (size > WORTH_THREADS)
  for (Index i = 0; i < size; i += LANES)
    store(dx + i, load(dy + i, size - i) * slope<KIND>(load(x + i, size - i)), size - i);
}

}  // namespace

// x [size] → y.
EXPORT void activation_forward(Index size, int activation, const float* x, float* y) {
  FOR_ACTIVATION(activation, forward<KIND>(size, x, y))
}

// x [size], dy [size] → dx [size]. Of ReLU and ReLU6, whose slope can be told from it, x may be the output.
EXPORT void activation_gradient(Index size, int activation, const float* x, const float* dy, float* dx) {
  FOR_ACTIVATION(activation, backward<KIND>(size, x, dy, dx))
}

// Batch normalisation (Ioffe & Szegedy, 2015) with the activation behind it. A channel is one row of S = H·W·N floats.

#include <cmath>

#include "activation.h"
#include "moments.h"

namespace {

template <Activation KIND>
void apply(Index channels, Index size, const float* x, const float* mean, const float* rate, const float* gamma,
           const float* beta, float* y) {
#pragma omp parallel for schedule(static) if (channels * size > WORTH_THREADS)
  for (Index channel = 0; channel < channels; ++channel) {
    const Vector factor = all(gamma[channel] * rate[channel]);
    const Vector center = all(mean[channel]), shift = all(beta[channel]);
    const float* from = x + channel * size;
    float* to = y + channel * size;
    for (Index i = 0; i < size; i += LANES)
      store(to + i, activated<KIND>((load(from + i, size - i) - center) * factor + shift), size - i);
  }
}

template <Activation KIND>
void backward(Index channels, Index size, const float* x, const float* dy, const float* mean, const float* rate,
              const float* gamma, const float* beta, bool training, float* dx, float* dgamma, float* dbeta) {
#pragma omp parallel for schedule(static) if (channels * size > WORTH_THREADS)
  for (Index channel = 0; channel < channels; ++channel) {
    const Vector center = all(mean[channel]), scale = all(rate[channel]);
    const Vector factor = all(gamma[channel]), shift = all(beta[channel]);
    const float *from = x + channel * size, *gradient = dy + channel * size;
    float* to = dx + channel * size;
    Vector total{}, product{};
    for (Index i = 0; i < size; i += LANES) {
      const Vector normal = (load(from + i, size - i) - center) * scale;
      const Vector behind = load(gradient + i, size - i) * slope<KIND>(normal * factor + shift);
      total += behind;
      product += behind * normal;
    }
    dbeta[channel] = sum(total);
    // Behind the end of a row are zeros that are no pixels; their gradient is 0, so they count in neither sum.
    dgamma[channel] = sum(product);
    const Vector of_mean = all(training ? dbeta[channel] / size : 0), of_rate = all(training ? dgamma[channel] / size : 0);
    const Vector outer = factor * scale;
    for (Index i = 0; i < size; i += LANES) {
      const Vector normal = (load(from + i, size - i) - center) * scale;
      const Vector behind = load(gradient + i, size - i) * slope<KIND>(normal * factor + shift);
      store(to + i, outer * (behind - of_mean - normal * of_rate), size - i);
    }
  }
}

void measure(Index channels, Index size, const float* x, float epsilon, float momentum, float* mean, float* rate,
             float* running_mean, float* running_variance) {
#pragma omp parallel for schedule(static) if (channels * size > WORTH_THREADS)
  for (Index channel = 0; channel < channels; ++channel) {
    const Moments moments = moments_of(x + channel * size, size);
    const float middle = moments.mean, variance = moments.variance;
    mean[channel] = middle;
    rate[channel] = 1 / std::sqrt(variance + epsilon);
    running_mean[channel] = momentum * running_mean[channel] + (1 - momentum) * middle;
    running_variance[channel] = momentum * running_variance[channel] + (1 - momentum) * variance;
  }
}

// One value a channel, which has no deviation: y [C] is x [C], activated.
template <Activation KIND>
void apply_alone(Index channels, const float* x, float* y) {
  for (Index i = 0; i < channels; i += LANES) store(y + i, activated<KIND>(load(x + i, channels - i)), channels - i);
}

template <Activation KIND>
void backward_alone(Index channels, const float* x, const float* dy, float* dx, float* dgamma, float* dbeta) {
  for (Index i = 0; i < channels; i += LANES) {
    const Index count = channels - i;
    store(dx + i, load(dy + i, count) * slope<KIND>(load(x + i, count)), count);
    store(dgamma + i, Vector{}, count);
    store(dbeta + i, Vector{}, count);
  }
}

}  // namespace

#define FOR_ACTIVATION(kind, call)                                          \
  switch (kind) {                                                           \
    case RELU: { constexpr Activation KIND = RELU; call; } break;           \
    case HARDSWISH: { constexpr Activation KIND = HARDSWISH; call; } break; \
    case RELU6: { constexpr Activation KIND = RELU6; call; } break;         \
    default: { constexpr Activation KIND = NONE; call; }                    \
  }

// x [C, S] → y, with the batch's statistics, which are kept as mean [C] and 1/√(variance + ε) [C] for the gradient;
// running averages keep `momentum` of their value, their variance divides by S as Paddle's does. Of one value a channel, as
// of one image with a map of one pixel, y is that value, and running averages stay as they are: so it is with Paddle.
EXPORT void normalize_batch(Index channels, Index size, const float* x, const float* gamma, const float* beta,
                            float epsilon, float momentum, int activation, float* running_mean, float* running_variance,
                            float* mean, float* rate, float* y) {
  if (size == 1) {
    FOR_ACTIVATION(activation, apply_alone<KIND>(channels, x, y))
    return;
  }
  measure(channels, size, x, epsilon, momentum, mean, rate, running_mean, running_variance);
  FOR_ACTIVATION(activation, apply<KIND>(channels, size, x, mean, rate, gamma, beta, y))
}

// x [C, S] → y, with running averages. `rate` is filled for the gradient.
EXPORT void normalize_running(Index channels, Index size, const float* x, const float* gamma, const float* beta,
                              float epsilon, int activation, const float* mean, const float* variance, float* rate,
                              float* y) {
  for (Index channel = 0; channel < channels; ++channel) rate[channel] = 1 / std::sqrt(variance[channel] + epsilon);
  FOR_ACTIVATION(activation, apply<KIND>(channels, size, x, mean, rate, gamma, beta, y))
}

// dy [C, S] → dx [C, S], dgamma [C], dbeta [C]; `training` says whether mean and rate came from this very x.
EXPORT void normalize_gradient(Index channels, Index size, const float* x, const float* dy, const float* mean,
                               const float* rate, const float* gamma, const float* beta, int activation, int training,
                               float* dx, float* dgamma, float* dbeta) {
  if (training && size == 1) {
    FOR_ACTIVATION(activation, backward_alone<KIND>(channels, x, dy, dx, dgamma, dbeta))
    return;
  }
  FOR_ACTIVATION(activation,
                 backward<KIND>(channels, size, x, dy, mean, rate, gamma, beta, training, dx, dgamma, dbeta))
}

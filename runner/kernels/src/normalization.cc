// Batch normalisation (Ioffe & Szegedy, 2015) with the activation behind it. A channel is one row of S = H·W·N floats.

#include <cmath>

#include "activation.h"
#include "moments.h"

namespace {

template <Activation KIND>
void apply(Index channels, Index size, const float* x, const float* mean, const float* rate, const float* gamma,
           const float* beta, const float* shortcut, float* y) {
#pragma omp parallel for schedule(static) if (channels * size > WORTH_THREADS)
  for (Index channel = 0; channel < channels; ++channel) {
    const Vector factor = all(gamma[channel] * rate[channel]);
    const Vector center = all(mean[channel]), shift = all(beta[channel]);
    const float* from = x + channel * size;
    float* to = y + channel * size;
    if (shortcut) {
      const float* other = shortcut + channel * size;
      for (Index i = 0; i < size; i += LANES) {
        const Vector normal = (load(from + i, size - i) - center) * factor + shift;
        store(to + i, activated<KIND>(normal + load(other + i, size - i)), size - i);
      }
      continue;
    }
    for (Index i = 0; i < size; i += LANES)
      store(to + i, activated<KIND>((load(from + i, size - i) - center) * factor + shift), size - i);
  }
}

// With a shortcut, whose sum with the normal values was activated to y, its gradient is dshortcut [C, S].
template <Activation KIND, bool SHORTCUT>
void backward(Index channels, Index size, const float* x, const float* dy, const float* mean, const float* rate,
              const float* gamma, const float* beta, const float* y, bool training, float* dx, float* dgamma,
              float* dbeta, float* dshortcut) {
#pragma omp parallel for schedule(static) if (channels * size > WORTH_THREADS)
  for (Index channel = 0; channel < channels; ++channel) {
    const Vector center = all(mean[channel]), scale = all(rate[channel]);
    const Vector factor = all(gamma[channel]), shift = all(beta[channel]);
    const float *from = x + channel * size, *gradient = dy + channel * size;
    const float* result = SHORTCUT ? y + channel * size : nullptr;
    float *to = dx + channel * size, *other = SHORTCUT ? dshortcut + channel * size : nullptr;
    Vector total{}, product{};
    for (Index i = 0; i < size; i += LANES) {
      const Vector normal = (load(from + i, size - i) - center) * scale;
      const Vector at = SHORTCUT ? load(result + i, size - i) : normal * factor + shift;
      const Vector behind = load(gradient + i, size - i) * slope<KIND>(at);
      if (SHORTCUT) store(other + i, behind, size - i);
      total += behind;
      product += behind * normal;
    }
    dbeta[channel] = sum(total);
    // Behind the end of a row are zeros that are no pixels; their gradient is 0, so they count in neither sum.
    dgamma[channel] = sum(product);
    const Vector of_mean = all(training ? dbeta[channel] / size : 0);
    const Vector of_rate = all(training ? dgamma[channel] / size : 0);
    const Vector outer = factor * scale;
    for (Index i = 0; i < size; i += LANES) {
      const Vector normal = (load(from + i, size - i) - center) * scale;
      const Vector behind = SHORTCUT ? load(other + i, size - i)
                                     : load(gradient + i, size - i) * slope<KIND>(normal * factor + shift);
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

// One value a channel, which has no deviation: y [C] is x [C], plus the shortcut, activated.
template <Activation KIND>
void apply_alone(Index channels, const float* x, const float* shortcut, float* y) {
  for (Index i = 0; i < channels; i += LANES) {
    const Index count = channels - i;
    const Vector value = load(x + i, count);
    store(y + i, activated<KIND>(shortcut ? value + load(shortcut + i, count) : value), count);
  }
}

template <Activation KIND>
void backward_alone(Index channels, const float* x, const float* dy, const float* y, float* dx, float* dgamma,
                    float* dbeta, float* dshortcut) {
  for (Index i = 0; i < channels; i += LANES) {
    const Index count = channels - i;
    const Vector behind = load(dy + i, count) * slope<KIND>(load((y ? y : x) + i, count));
    store(dx + i, behind, count);
    if (y) store(dshortcut + i, behind, count);
    store(dgamma + i, Vector{}, count);
    store(dbeta + i, Vector{}, count);
  }
}

}  // namespace

// x [C, S] → y, with the batch's statistics, which are kept as mean [C] and 1/√(variance + ε) [C] for the gradient;
// running averages keep `momentum` of their value, their variance divides by S as Paddle's does. Of one value a
// channel, as of one image with a map of one pixel, y is that value, and running averages stay as they are: so it is
// with Paddle. A shortcut [C, S], unless it is null, is added before the activation.
EXPORT void normalize_batch(Index channels, Index size, const float* x, const float* gamma, const float* beta,
                            float epsilon, float momentum, int activation, const float* shortcut, float* running_mean,
                            float* running_variance, float* mean, float* rate, float* y) {
  if (size == 1) {
    FOR_ACTIVATION(activation, apply_alone<KIND>(channels, x, shortcut, y))
    return;
  }
  measure(channels, size, x, epsilon, momentum, mean, rate, running_mean, running_variance);
  FOR_ACTIVATION(activation, apply<KIND>(channels, size, x, mean, rate, gamma, beta, shortcut, y))
}

// x [C, S] → y, with running averages. `rate` is filled for the gradient.
EXPORT void normalize_running(Index channels, Index size, const float* x, const float* gamma, const float* beta,
                              float epsilon, int activation, const float* shortcut, const float* mean,
                              const float* variance, float* rate, float* y) {
  for (Index channel = 0; channel < channels; ++channel) rate[channel] = 1 / std::sqrt(variance[channel] + epsilon);
  FOR_ACTIVATION(activation, apply<KIND>(channels, size, x, mean, rate, gamma, beta, shortcut, y))
}

// dy [C, S] → dx [C, S], dgamma [C], dbeta [C]; `training` says whether mean and rate came from this very x. After a
// shortcut, y is the output, from which the slope of the activation is told (NONE, RELU, RELU6), and dshortcut [C, S]
// is filled; otherwise both are null.
EXPORT void normalize_gradient(Index channels, Index size, const float* x, const float* dy, const float* mean,
                               const float* rate, const float* gamma, const float* beta, int activation,
                               const float* y, int training, float* dx, float* dgamma, float* dbeta,
                               float* dshortcut) {
  if (training && size == 1) {
    FOR_ACTIVATION(activation, backward_alone<KIND>(channels, x, dy, y, dx, dgamma, dbeta, dshortcut))
    return;
  }
  if (y) {
    FOR_ACTIVATION(activation, (backward<KIND, true>(channels, size, x, dy, mean, rate, gamma, beta, y, training, dx,
                                                     dgamma, dbeta, dshortcut)))
    return;
  }
  FOR_ACTIVATION(activation, (backward<KIND, false>(channels, size, x, dy, mean, rate, gamma, beta, y, training, dx,
                                                    dgamma, dbeta, dshortcut)))
}

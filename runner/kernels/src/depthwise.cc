// Depthwise convolutions: each pixel is a weighted sum of runs of N floats. The maps that the weights connect it with
// are known from the shape, so forward pass and input gradient are the same loop over different connections.

#include "boundary.h"
#include "plan.h"
#include "products.h"

namespace {

// `VECTORS` registers of floats of one pixel.
template <int VECTORS>
inline void weighted_sum(const Tap* tap, const Tap* end, const float* weight, const float* map, Index batch, float bias,
                         float* to) {
  Vector total[VECTORS];
  for (int i = 0; i < VECTORS; ++i) total[i] = all(bias);
  for (; tap < end; ++tap) {
    const Vector factor = all(weight[tap->place]);
    const float* from = map + tap->pixel * batch;
    for (int i = 0; i < VECTORS; ++i) total[i] += factor * load(from + i * LANES);
  }
  for (int i = 0; i < VECTORS; ++i) store(to + i * LANES, total[i]);
}

inline void weighted_rest(const Tap* tap, const Tap* end, const float* weight, const float* map, Index batch, float bias,
                          float* to, Index count) {
  Vector total = all(bias);
  for (; tap < end; ++tap) total += weight[tap->place] * load(map + tap->pixel * batch, count);
  store(to, total, count);
}

void connect(const Connections& connected, Index channels, Index from_pixels, Index batch, Index places, const float* x,
             const float* weight, const float* bias, float* y) {
  const Index to_pixels = connected.begin.size() - 1;
#pragma omp parallel for schedule(static) if (channels * to_pixels * batch > WORTH_THREADS)
  for (Index channel = 0; channel < channels; ++channel) {
    const float* map = x + channel * from_pixels * batch;
    const float* own = weight + channel * places;
    const float shift = bias ? bias[channel] : 0;
    float* to = y + channel * to_pixels * batch;
    for (Index pixel = 0; pixel < to_pixels; ++pixel, to += batch) {
      const Tap *tap = connected.of(pixel), *end = connected.of(pixel + 1);
      Index n = 0;
      for (; n + 4 * LANES <= batch; n += 4 * LANES) weighted_sum<4>(tap, end, own, map + n, batch, shift, to + n);
      for (; n + LANES <= batch; n += LANES) weighted_sum<1>(tap, end, own, map + n, batch, shift, to + n);
      if (n < batch) weighted_rest(tap, end, own, map + n, batch, shift, to + n, batch - n);
    }
  }
}

void weight_gradient(const Plan& plan, const float* dy, const float* x, float* dweight, float* dbias) {
  const ThreadBuffers buffers(plan.places * LANES);
#pragma omp parallel for schedule(static) if (plan.channels * plan.outputs * plan.batch > WORTH_THREADS)
  for (Index channel = 0; channel < plan.channels; ++channel) {
    const float* map = x + channel * plan.pixels * plan.batch;
    const float* gradient = dy + channel * plan.outputs * plan.batch;
    Vector* totals = reinterpret_cast<Vector*>(buffers.own());
    std::fill(totals, totals + plan.places, Vector{});
    Vector of_bias{};
    for (Index output = 0; output < plan.outputs; ++output, gradient += plan.batch) {
      if (dbias)
        for (Index n = 0; n < plan.batch; n += LANES) of_bias += load(gradient + n, plan.batch - n);
      for (Index number = plan.of_outputs.begin[output]; number < plan.of_outputs.begin[output + 1]; ++number) {
        const Tap tap = plan.of_outputs.taps[number];
        const float* from = map + tap.pixel * plan.batch;
        Vector total = totals[tap.place];
        for (Index n = 0; n < plan.batch; n += LANES)
          total += load(gradient + n, plan.batch - n) * load(from + n, plan.batch - n);
        totals[tap.place] = total;
      }
    }
    for (Index place = 0; place < plan.places; ++place) dweight[channel * plan.places + place] = sum(totals[place]);
    if (dbias) dbias[channel] = sum(of_bias);
  }
}

}  // namespace

// x [C, H, W, N], weight [C, T], bias [C] or null → y [C, H', W', N].
EXPORT void depthwise_forward(const Plan* plan, const float* x, const float* weight, const float* bias, float* y) {
  connect(plan->of_outputs, plan->channels, plan->pixels, plan->batch, plan->places, x, weight, bias, y);
}

// dy [C, H', W', N], weight [C, T] → dx [C, H, W, N].
EXPORT void depthwise_input_gradient(const Plan* plan, const float* dy, const float* weight, float* dx) {
  connect(plan->of_inputs, plan->channels, plan->outputs, plan->batch, plan->places, dy, weight, nullptr, dx);
}

// dy [C, H', W', N], x [C, H, W, N] → dweight [C, T], and dbias [C] unless null.
EXPORT int depthwise_weight_gradient(const Plan* plan, const float* dy, const float* x, float* dweight, float* dbias) {
  return guarded([=] { weight_gradient(*plan, dy, x, dweight, dbias); });
}

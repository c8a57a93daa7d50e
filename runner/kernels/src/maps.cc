// Layouts, pooling and gates.

#include <limits>

#include "plan.h"

namespace {

// In place of the place of a maximum, where there is none. Must agree with `NOWHERE` of native.py.
constexpr std::int32_t NOWHERE = 255;

typedef std::int32_t Whole __attribute__((vector_size(4 * LANES)));
typedef std::uint8_t Bytes __attribute__((vector_size(LANES)));

inline Bytes load(const std::uint8_t* from, Index count) {
  Bytes bytes{};
  if (count >= LANES)
    std::memcpy(&bytes, from, LANES);
  else
    std::memcpy(&bytes, from, count);
  return bytes;
}

inline void store(std::uint8_t* to, Bytes bytes, Index count) {
  if (count >= LANES)
    std::memcpy(to, &bytes, LANES);
  else
    std::memcpy(to, &bytes, count);
}

}  // namespace

// x [rows, columns] → y [columns, rows].
EXPORT void transpose(Index rows, Index columns, const float* x, float* y) {
  constexpr Index TILE = 16;
#pragma omp parallel for schedule(static) if (rows * columns > WORTH_THREADS)
  for (Index column = 0; column < columns; column += TILE)
    for (Index row = 0; row < rows; row += TILE) {
      const Index last_row = std::min(row + TILE, rows), last_column = std::min(column + TILE, columns);
      for (Index j = column; j < last_column; ++j)
        for (Index i = row; i < last_row; ++i) y[j * rows + i] = x[i * columns + j];
    }
}

// x [C, P, N] → mean over P: y [C, N].
EXPORT void mean_pool_forward(Index channels, Index pixels, Index batch, const float* x, float* y) {
  const float part = 1.0f / pixels;
#pragma omp parallel for schedule(static) if (channels * pixels * batch > WORTH_THREADS)
  for (Index channel = 0; channel < channels; ++channel)
    for (Index n = 0; n < batch; n += LANES) {
      const float* from = x + channel * pixels * batch + n;
      Vector total{};
      for (Index pixel = 0; pixel < pixels; ++pixel) total += load(from + pixel * batch, batch - n);
      store(y + channel * batch + n, total * part, batch - n);
    }
}

// dy [C, N] → dx [C, P, N].
EXPORT void mean_pool_gradient(Index channels, Index pixels, Index batch, const float* dy, float* dx) {
  const float part = 1.0f / pixels;
#pragma omp parallel for schedule(static) if (channels * pixels * batch > WORTH_THREADS)
  for (Index channel = 0; channel < channels; ++channel)
    for (Index pixel = 0; pixel < pixels; ++pixel)
      for (Index n = 0; n < batch; n += LANES)
        store(dx + (channel * pixels + pixel) * batch + n, load(dy + channel * batch + n, batch - n) * part, batch - n);
}

// x [C, P, N] times gate [C, N] → y [C, P, N].
EXPORT void gate_forward(Index channels, Index pixels, Index batch, const float* x, const float* gate, float* y) {
#pragma omp parallel for schedule(static) if (channels * pixels * batch > WORTH_THREADS)
  for (Index channel = 0; channel < channels; ++channel)
    for (Index pixel = 0; pixel < pixels; ++pixel)
      for (Index n = 0; n < batch; n += LANES) {
        const Index place = (channel * pixels + pixel) * batch + n;
        store(y + place, load(x + place, batch - n) * load(gate + channel * batch + n, batch - n), batch - n);
      }
}

// dy [C, P, N] → dx [C, P, N], dgate [C, N].
EXPORT void gate_gradient(Index channels, Index pixels, Index batch, const float* x, const float* gate, const float* dy,
                          float* dx, float* dgate) {
#pragma omp parallel for schedule(static) if (channels * pixels * batch > WORTH_THREADS)
  for (Index channel = 0; channel < channels; ++channel)
    for (Index n = 0; n < batch; n += LANES) {
      const Index count = batch - n;
      const Vector factor = load(gate + channel * batch + n, count);
      Vector total{};
      for (Index pixel = 0; pixel < pixels; ++pixel) {
        const Index place = (channel * pixels + pixel) * batch + n;
        const Vector gradient = load(dy + place, count);
        store(dx + place, gradient * factor, count);
        total += gradient * load(x + place, count);
      }
      store(dgate + channel * batch + n, total, count);
    }
}

// x [C, H, W, N] → y [C, H', W', N] and the place of the kernel where the maximum was, uint8 of y's shape. As in Paddle,
// a maximum is at least the smallest finite number: where all is -∞ that is y, and no pixel has a gradient.
EXPORT void max_pool_forward(const Plan* of_shape, const float* x, float* y, std::uint8_t* where) {
  const Plan& plan = *of_shape;
#pragma omp parallel for schedule(static) if (plan.channels * plan.outputs * plan.batch > WORTH_THREADS)
  for (Index channel = 0; channel < plan.channels; ++channel) {
    const float* map = x + channel * plan.pixels * plan.batch;
    for (Index output = 0; output < plan.outputs; ++output) {
      const Tap *begin = plan.of_outputs.of(output), *end = plan.of_outputs.of(output + 1);
      for (Index n = 0; n < plan.batch; n += LANES) {
        const Index to = (channel * plan.outputs + output) * plan.batch + n, count = plan.batch - n;
        Vector most = all(-std::numeric_limits<float>::infinity());
        Whole place = Whole{} + NOWHERE;
        for (const Tap* tap = begin; tap < end; ++tap) {
          const Vector value = load(map + tap->pixel * plan.batch + n, count);
          // The first of equal values, and any that is not a number.
          const Whole larger = ~(value <= most);
          most = larger ? value : most;
          place = larger ? Whole{} + tap->place : place;
        }
        const Vector smallest = all(std::numeric_limits<float>::lowest());
        store(y + to, most < smallest ? smallest : most, count);
        store(where + to, __builtin_convertvector(place, Bytes), count);
      }
    }
  }
}

// dy [C, H', W', N] and where [C, H', W', N] → dx [C, H, W, N].
EXPORT void max_pool_gradient(const Plan* of_shape, const float* dy, const std::uint8_t* where, float* dx) {
  const Plan& plan = *of_shape;
#pragma omp parallel for schedule(static) if (plan.channels * plan.outputs * plan.batch > WORTH_THREADS)
  for (Index channel = 0; channel < plan.channels; ++channel)
    for (Index pixel = 0; pixel < plan.pixels; ++pixel) {
      const Tap *begin = plan.of_inputs.of(pixel), *end = plan.of_inputs.of(pixel + 1);
      for (Index n = 0; n < plan.batch; n += LANES) {
        const Index count = plan.batch - n;
        Vector total{};
        for (const Tap* tap = begin; tap < end; ++tap) {
          const Index from = (channel * plan.outputs + tap->pixel) * plan.batch + n;
          const Whole place = __builtin_convertvector(load(where + from, count), Whole);
          total += place == tap->place ? load(dy + from, count) : Vector{};
        }
        store(dx + (channel * plan.pixels + pixel) * plan.batch + n, total, count);
      }
    }
}

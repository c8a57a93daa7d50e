#include "plan.h"

#include <omp.h>

#include <limits>
#include <stdexcept>

#include "boundary.h"

namespace {

// Gathered floats that a block aims at, about half of a second-level cache, and columns that a product should have.
constexpr Index BLOCK_FLOATS = 128 << 10;
constexpr Index BLOCK_COLUMNS = 256;
// Maps of at most so many pixels are taken a pixel at a time where the batch alone gives enough columns: each pixel sees
// few places of the kernel, 4 of 9 on 2×2.
constexpr Index SMALL_MAP = 4, LARGE_BATCH = 32;

Index input_pixel(const Geometry& g, Index output, Index place) {
  const Index row = output / g.columns * g.stride_rows + place / g.kernel_columns * g.dilation_rows - g.pad_top;
  const Index column = output % g.columns * g.stride_columns + place % g.kernel_columns * g.dilation_columns - g.pad_left;
  return row >= 0 && row < g.height && column >= 0 && column < g.width ? row * g.width + column : -1;
}

Connections connections(const std::vector<std::vector<Tap>>& of_pixel) {
  Connections found;
  found.begin.push_back(0);
  for (const std::vector<Tap>& taps : of_pixel) {
    found.taps.insert(found.taps.end(), taps.begin(), taps.end());
    found.begin.push_back(found.taps.size());
  }
  return found;
}

void check(bool fits, const char* what) {
  if (!fits) throw std::length_error(what);
}

}  // namespace

Plan::Plan(const Geometry& geometry)
    : Geometry(geometry), pixels(height * width), outputs(rows * columns), places(kernel_rows * kernel_columns) {
  constexpr Index MOST = std::numeric_limits<std::int32_t>::max();
  // Places and pixels are kept in 32 bits, and so are the sizes of matrix products.
  check(pixels <= MOST && outputs <= MOST && places <= MOST && outputs * places <= MOST, "a map of 2³¹ pixels or more");
  // Only depthwise convolutions and pooling go from pixel to pixel.
  const bool connected = is_depthwise();
  check(connected || std::max(outputs, pixels) * batch <= MOST, "a matrix of 2³¹ columns or more");
  check(connected || std::max(filters, channels * places) <= MOST, "a matrix of 2³¹ rows or more");
  std::vector<std::vector<Tap>> from_outputs(connected ? outputs : 0), from_inputs(connected ? pixels : 0);
  for (Index output = 0; output < outputs; ++output)
    for (Index place = 0; place < places; ++place) {
      const Index pixel = input_pixel(*this, output, place);
      sources.push_back(pixel);
      if (pixel < 0 || !connected) continue;
      from_outputs[output].push_back({static_cast<std::int32_t>(pixel), static_cast<std::int32_t>(place)});
      from_inputs[pixel].push_back({static_cast<std::int32_t>(output), static_cast<std::int32_t>(place)});
    }
  of_outputs = connections(from_outputs);
  of_inputs = connections(from_inputs);

  const Index wanted = std::max(BLOCK_COLUMNS, BLOCK_FLOATS / (channels / groups * places));
  const Index count = outputs <= SMALL_MAP && batch >= LARGE_BATCH ? 1 : std::clamp<Index>(wanted / batch, 1, outputs);
  for (Index first = 0; first < outputs; first += count) {
    Block block{first, std::min(count, outputs - first), {}};
    for (Index place = 0; place < places; ++place)
      for (Index output = first; output < first + block.count; ++output)
        if (source(output, place) >= 0) {
          block.places.push_back(place);
          break;
        }
    if (block.places.empty()) block.places.push_back(0);
    widest = std::max(widest, block.count * static_cast<Index>(block.places.size()));
    blocks.push_back(block);
  }
}

bool Plan::is_pointwise() const {
  return groups == 1 && places == 1 && stride_rows == 1 && stride_columns == 1 && pad_top == 0 && pad_left == 0 &&
         outputs == pixels;
}

EXPORT int threads() { return omp_get_max_threads(); }

EXPORT int new_plan(const Geometry* geometry, const Plan** plan) {
  return guarded([=] { *plan = new Plan(*geometry); });
}

EXPORT void free_plan(const Plan* plan) { delete plan; }

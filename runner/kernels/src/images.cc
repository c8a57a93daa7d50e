// Augmentation and normalisation of a batch of images in one pass.

#include "common.h"

// images uint8 [total, S, S, C], places int64 [N] → y float32 [N, 3, S, S]: image `places[n]`, moved by padding -
// offsets[n] (rows, columns) over black, mirrored where flips[n], with a hole of side `cutout` from corner holes[n] on
// that has the colour `fill`; then every byte as `table` [3, 256] has it. Grey images are repeated to three channels.
// offsets, flips and holes may be null.
EXPORT void augment(Index batch, Index side, Index channels, const std::uint8_t* images, const Index* places,
                    Index padding, const Index* offsets, const std::uint8_t* flips, Index cutout, const Index* holes,
                    const std::uint8_t* fill, const float* table, float* y) {
#pragma omp parallel for schedule(static) if (batch * side * side > WORTH_THREADS)
  for (Index n = 0; n < batch; ++n) {
    const std::uint8_t* image = images + places[n] * side * side * channels;
    const Index down = offsets ? offsets[2 * n] - padding : 0, right = offsets ? offsets[2 * n + 1] - padding : 0;
    const Index step = flips && flips[n] ? -1 : 1, start = step < 0 ? side - 1 + right : right;
    // The columns whose source is in the image.
    const Index first = std::clamp<Index>(step > 0 ? -right : right, 0, side);
    const Index last = std::clamp<Index>(step > 0 ? side - right : side + right, 0, side);
    for (Index c = 0; c < 3; ++c) {
      const float* values = table + 256 * c;
      const Index of = c % channels;
      for (Index row = 0; row < side; ++row) {
        float* to = y + ((n * 3 + c) * side + row) * side;
        const Index from_row = row + down;
        if (from_row < 0 || from_row >= side) {
          std::fill(to, to + side, values[0]);
        } else {
          const std::uint8_t* from = image + from_row * side * channels + of;
          std::fill(to, to + first, values[0]);
          for (Index column = first; column < last; ++column) to[column] = values[from[(start + step * column) * channels]];
          std::fill(to + std::max(first, last), to + side, values[0]);
        }
        if (holes && row >= holes[2 * n] && row < holes[2 * n] + cutout) {
          const Index left = std::clamp<Index>(holes[2 * n + 1], 0, side);
          std::fill(to + left, to + std::clamp<Index>(holes[2 * n + 1] + cutout, left, side), values[fill[of]]);
        }
      }
    }
  }
}

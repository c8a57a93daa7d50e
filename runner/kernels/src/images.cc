// Augmentation and normalisation of a batch of images in one pass.

#include "common.h"

// images uint8 [total, H, W, S], places int64 [N] → y float32 [N, C, H, W]: image `places[n]`, moved by padding -
// offsets[n] (rows, columns) over black, mirrored where flips[n], with a hole of side `cutout` from corner holes[n] on
// that has the colour `fill`; then every byte as `table` [C, 256] has it. S is C, or 1: grey images are repeated.
// offsets, flips and holes may be null.
EXPORT void augment(Index batch, Index height, Index width, Index stored, Index channels, const std::uint8_t* images,
                    const Index* places, Index padding, const Index* offsets, const std::uint8_t* flips, Index cutout,
                    const Index* holes, const std::uint8_t* fill, const float* table, float* y) {
#pragma omp parallel for schedule(static) if (batch * height * width > WORTH_THREADS)
  for (Index n = 0; n < batch; ++n) {
    const std::uint8_t* image = images + places[n] * height * width * stored;
    const Index down = offsets ? offsets[2 * n] - padding : 0, right = offsets ? offsets[2 * n + 1] - padding : 0;
    const Index step = flips && flips[n] ? -1 : 1, start = step < 0 ? width - 1 + right : right;
    // The columns whose source is in the image.
    const Index first = std::clamp<Index>(step > 0 ? -right : right, 0, width);
    const Index last = std::clamp<Index>(step > 0 ? width - right : width + right, 0, width);
    for (Index c = 0; c < channels; ++c) {
      const float* values = table + 256 * c;
      const Index of = c % stored;
      for (Index row = 0; row < height; ++row) {
        float* to = y + ((n * channels + c) * height + row) * width;
        const Index from_row = row + down;
        if (from_row < 0 || from_row >= height) {
          std::fill(to, to + width, values[0]);
        } else {
          const std::uint8_t* from = image + from_row * width * stored + of;
          std::fill(to, to + first, values[0]);
          for (Index column = first; column < last; ++column) to[column] = values[from[(start + step * column) * stored]];
          std::fill(to + std::max(first, last), to + width, values[0]);
        }
        if (holes && row >= holes[2 * n] && row < holes[2 * n] + cutout) {
          const Index left = std::clamp<Index>(holes[2 * n + 1], 0, width);
          std::fill(to + left, to + std::clamp<Index>(holes[2 * n + 1] + cutout, left, width), values[fill[of]]);
        }
      }
    }
  }
}

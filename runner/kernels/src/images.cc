// Augmentation and normalisation of a batch of images in one pass.

#include "common.h"

// images uint8 [total, S, S, C], indices int64 [N] → y float32 [N, 3, S, S]: image `indices[n]` shifted by
// offsets[n] - padding (rows, columns) over black, mirrored where flips[n], with a hole of side `cutout` whose corner is
// holes[n], as value · scale[c] + shift[c]; the hole has `fill`. Grey images are repeated to three channels.
EXPORT void augment(Index batch, Index side, Index channels, const std::uint8_t* images, const Index* indices,
                    Index padding, const std::int64_t* offsets, const std::uint8_t* flips, Index cutout,
                    const std::int64_t* holes, const float* scale, const float* shift, const std::uint8_t* fill, float* y) {
  float table[3][256];
  for (Index c = 0; c < 3; ++c)
    for (Index value = 0; value < 256; ++value) table[c][value] = value * scale[c] + shift[c];
#pragma omp parallel for schedule(static) if (batch * side * side > WORTH_THREADS)
  for (Index n = 0; n < batch; ++n) {
    const std::uint8_t* image = images + indices[n] * side * side * channels;
    const Index down = offsets ? offsets[2 * n] - padding : 0, right = offsets ? offsets[2 * n + 1] - padding : 0;
    for (Index c = 0; c < 3; ++c) {
      const Index of = c % channels;
      for (Index row = 0; row < side; ++row) {
        float* to = y + ((n * 3 + c) * side + row) * side;
        const Index from_row = row + down;
        const bool cut_row = cutout && row >= holes[2 * n] && row < holes[2 * n] + cutout;
        for (Index column = 0; column < side; ++column) {
          const Index place = flips && flips[n] ? side - 1 - column : column;
          const Index from_column = place + right;
          std::uint8_t value = 0;
          if (from_row >= 0 && from_row < side && from_column >= 0 && from_column < side)
            value = image[(from_row * side + from_column) * channels + of];
          if (cut_row && column >= holes[2 * n + 1] && column < holes[2 * n + 1] + cutout) value = fill[of];
          to[column] = table[c][value];
        }
      }
    }
  }
}

// Augmentation and normalisation of a batch of images in one pass.

#include "bytes.h"

namespace {

void row_of(const std::uint8_t* from, Index count, Index stored, const Channels& channels, Index plane, float* to) {
  switch (stored) {
    case 3: return normalized_row<3>(from, count, stored, channels, plane, to);
    case 1: return normalized_row<1>(from, count, stored, channels, plane, to);
    default: return normalized_row<0>(from, count, stored, channels, plane, to);
  }
}

}  // namespace

// images uint8 [total, H, W, S], places int64 [N] → y float32 [N, C, H, W]: image `places[n]`, moved by padding -
// offsets[n] (rows, columns) over black, mirrored where flips[n], with a hole of side `cutout` from corner holes[n] on
// that has the colour `fill`; then every byte times `scales` plus `shifts` [C]. S is C, or 1: grey images are repeated.
// offsets, flips and holes may be null.
EXPORT void augment(Index batch, Index height, Index width, Index stored, Index count, const std::uint8_t* images,
                    const Index* places, Index padding, const Index* offsets, const std::uint8_t* flips, Index cutout,
                    const Index* holes, const std::uint8_t* fill, const float* scales, const float* shifts, float* y) {
  const Channels channels{scales, shifts, count};
  const Index plane = height * width;
#pragma omp parallel for schedule(static) if (batch * plane > WORTH_THREADS)
  for (Index n = 0; n < batch; ++n) {
    const std::uint8_t* image = images + places[n] * plane * stored;
    const Index down = offsets ? offsets[2 * n] - padding : 0, right = offsets ? offsets[2 * n + 1] - padding : 0;
    const bool backwards = flips && flips[n];
    // The columns whose source is in the image, and the leftmost of those sources.
    const Index first = std::clamp<Index>(backwards ? right : -right, 0, width);
    const Index last = std::clamp<Index>(backwards ? width + right : width - right, first, width);
    const Index source = backwards ? width + right - last : first + right;
    for (Index row = 0; row < height; ++row) {
      float* to = y + n * count * plane + row * width;
      const Index from_row = row + down;
      const bool inside = from_row >= 0 && from_row < height;
      const Index begin = inside ? first : width, end = inside ? last : width;
      for (Index c = 0; end - begin < width && c < count; ++c) {
        for (Index column = 0; column < begin; ++column) to[c * plane + column] = channels.of(c, 0);
        for (Index column = end; column < width; ++column) to[c * plane + column] = channels.of(c, 0);
      }
      if (begin < end) {
        const std::uint8_t* from = image + (from_row * width + source) * stored;
        row_of(from, end - begin, stored, channels, plane, to + begin);
        for (Index c = 0; backwards && c < count; ++c) reverse(to + c * plane + begin, to + c * plane + end);
      }
      if (holes && row >= holes[2 * n] && row < holes[2 * n] + cutout) {
        const Index left = std::clamp<Index>(holes[2 * n + 1], 0, width);
        const Index hole = std::clamp<Index>(holes[2 * n + 1] + cutout, left, width) - left;
        for (Index c = 0; c < count; ++c) std::fill_n(to + c * plane + left, hole, channels.of(c, fill[c % stored]));
      }
    }
  }
}

// images float32 [R, C, H, W] → y float32 [N, C, H, W]: image n, blended with image `partners[n]` within its box of
// boxes int64 [N, 4] (top, left, bottom, right), of which its own part is `blends[n]`.
EXPORT void mix(Index batch, Index count, Index height, Index width, const float* images, const Index* partners,
                const float* blends, const Index* boxes, float* y) {
  const Index plane = height * width;
#pragma omp parallel for schedule(static) if (batch * plane > WORTH_THREADS)
  for (Index n = 0; n < batch; ++n) {
    const Index *box = boxes + 4 * n, left = box[1], right = box[3];
    const float own = blends[n], rest = 1 - own;
    for (Index line = 0; line < count * height; ++line) {
      const Index row = line % height;
      const float* from = images + n * count * plane + line * width;
      const float* other = images + partners[n] * count * plane + line * width;
      float* to = y + n * count * plane + line * width;
      if (row < box[0] || row >= box[2]) {
        std::copy_n(from, width, to);
        continue;
      }
      std::copy_n(from, left, to);
      for (Index column = left; column < right; ++column) to[column] = from[column] * own + other[column] * rest;
      std::copy_n(from + right, width - right, to + right);
    }
  }
}

// What the kernels of a convolution know beforehand from its shape.
#pragma once

#include <vector>

#include "common.h"

// Must agree with `Geometry` of native.py.
struct Geometry {
  Index batch, channels, height, width;
  Index filters, kernel_rows, kernel_columns;
  Index stride_rows, stride_columns, pad_top, pad_left, dilation_rows, dilation_columns;
  Index rows, columns;  // of the output
  Index groups;
};

// Neighbouring output pixels, and the places of the kernel that see the map from at least one of them.
struct Block {
  Index first, count;
  std::vector<Index> places;
};

// An input pixel that an output pixel (or the reverse) is connected with, and by which place of the kernel.
struct Tap {
  std::int32_t pixel, place;
};

// The taps of each pixel: those of pixel p are from `of(p)` to before `of(p + 1)`.
struct Connections {
  std::vector<std::int32_t> begin;
  std::vector<Tap> taps;
  const Tap* of(Index pixel) const { return taps.data() + begin[pixel]; }
};

struct Plan : Geometry {
  Index pixels, outputs, places;
  // [outputs, places]: the input pixel seen there, or -1 outside of the map.
  std::vector<std::int32_t> sources;
  std::vector<Block> blocks;
  // The largest number of pixels times places of a block.
  Index widest = 0;
  Connections of_outputs, of_inputs;

  // Throws std::length_error for shapes with sizes that the kernels have no room for.
  explicit Plan(const Geometry& geometry);
  Index source(Index output, Index place) const { return sources[output * places + place]; }
  bool is_pointwise() const;
  bool is_depthwise() const { return groups == channels && groups == filters; }
};

// Random changes of images: one bilinear resampling, operations on colours, holes. All in whole numbers, so that
// runner/data/augment, which has the same without a compiler, gives the same; the formulas are explained there.

#include <cmath>

#include "boundary.h"
#include "bytes.h"
#include "products.h"

namespace {

// Must agree with `Operation` of operations.py.
enum Operation {
  NOTHING, BRIGHTNESS, CONTRAST, SATURATION, INVERT, HUE, SHARPNESS, POSTERIZE, SOLARIZE, AUTOCONTRAST, EQUALIZE, BLUR
};

constexpr Index MAP_BITS = 20, WEIGHT_BITS = 11, ONE = 1 << 12;
constexpr Index LARGEST_FACTOR = 64, MOST_RADIUS = 64, MOST_ADDED = 1 << 17;
constexpr std::int32_t BLUR_ONE = 1 << 14;
const double GREY[3] = {0.2989, 0.587, 0.114};

using Byte = std::uint8_t;

// An image with its channels one after another, and room for one of them in whole numbers.
struct Picture {
  Byte* pixels;
  std::int32_t* room;
  Index channels, height, width;
  Index size() const { return height * width; }
  Byte* plane(Index channel) const { return pixels + channel * size(); }
};

Byte cut(Index value) { return static_cast<Byte>(std::clamp<Index>(value, 0, 255)); }

Index fixed(double value, Index most) {
  return static_cast<Index>(std::floor(std::clamp<double>(value, -most, most) * ONE + 0.5));
}

// from: uint8 [h, w, S].
void copied(const Byte* __restrict from, const Picture& to) {
  if (to.channels == 3) {
    Byte *__restrict red = to.plane(0), *__restrict green = to.plane(1), *__restrict blue = to.plane(2);
    const Index size = to.size();
    for (Index place = 0; place < size; ++place) {
      red[place] = from[3 * place];
      green[place] = from[3 * place + 1];
      blue[place] = from[3 * place + 2];
    }
    return;
  }
  for (Index c = 0; c < to.channels; ++c) {
    Byte* plane = to.plane(c);
    for (Index place = 0; place < to.size(); ++place) plane[place] = from[place * to.channels + c];
  }
}

// Narrows a run of columns to those whose place, from + column · step, is in 0…side - 1; 0 and 0 where there are none.
void clip_run(Index from, Index step, Index side, Index& begin, Index& end) {
  const auto least = [](Index value, Index by) { return value <= 0 ? -(-value / by) : (value - 1) / by + 1; };
  if (step < 0) {
    begin = std::max(begin, least(from - side + 1, -step));
    end = std::min(end, least(from + 1, -step));
  } else if (step > 0) {
    begin = std::max(begin, least(-from, step));
    end = std::min(end, least(side - from, step));
  } else if (from < 0 || from >= side) {
    end = 0;
  }
  if (begin >= end) begin = end = 0;
}

// A run of pixels of one row, all from within the image: the k-th from (x + k · dx, y + k · dy), in half pixels with
// MAP_BITS bits of a fraction, WHOLE being wide enough for them. It is made in blocks, of loops that do one thing.
template <Index FIXED, class WHOLE>
void resampled_run(const Byte* from, Index height, Index width, Index stored, const Index* start, const Index* step,
                   Index run, Byte* to, Index plane) {
  constexpr WHOLE HALF = WHOLE(1) << MAP_BITS, MASK = (1 << WEIGHT_BITS) - 1;
  constexpr std::int32_t ONE_WEIGHT = 1 << WEIGHT_BITS;
  constexpr Index BLOCK = 64;
  const WHOLE last_column = width - 1, last_row = height - 1, line = width * stored;
  WHOLE places[4][BLOCK];
  std::int32_t rights[BLOCK], downs[BLOCK];
  std::uint32_t words[4][BLOCK];
  for (Index done = 0; done < run; done += BLOCK) {
    const Index count = std::min(BLOCK, run - done);
    const WHOLE x = start[0] + done * step[0] - HALF, y = start[1] + done * step[1] - HALF;
    const WHOLE dx = step[0], dy = step[1];
    for (Index k = 0; k < count; ++k) {
      const WHOLE across = x + WHOLE(k) * dx, down = y + WHOLE(k) * dy;
      const WHOLE left = across >> (MAP_BITS + 1), top = down >> (MAP_BITS + 1);
      rights[k] = static_cast<std::int32_t>((across >> (MAP_BITS + 1 - WEIGHT_BITS)) & MASK);
      downs[k] = static_cast<std::int32_t>((down >> (MAP_BITS + 1 - WEIGHT_BITS)) & MASK);
      const WHOLE columns[2] = {std::max<WHOLE>(left, 0) * WHOLE(stored),
                                std::min<WHOLE>(left + 1, last_column) * WHOLE(stored)};
      const WHOLE rows[2] = {std::max<WHOLE>(top, 0) * line, std::min<WHOLE>(top + 1, last_row) * line};
      places[0][k] = rows[0] + columns[0], places[1][k] = rows[0] + columns[1];
      places[2][k] = rows[1] + columns[0], places[3][k] = rows[1] + columns[1];
    }
    for (Index c = 0; c < stored; ++c) {
      // Three channels are one word, in which the last pixel's are behind a byte of the one before.
      if (FIXED != 3 || c == 0) {
        const WHOLE last = height * line - 4;
        for (Index corner = 0; corner < 4; ++corner)
          for (Index k = 0; k < count; ++k) {
            const WHOLE place = places[corner][k];
            if (FIXED == 3) {
              std::uint32_t word;
              std::memcpy(&word, from + std::min(place, last), 4);
              words[corner][k] = word >> (place > last ? 8 : 0);
            } else {
              words[corner][k] = from[place + c];
            }
          }
      }
      const std::uint32_t shift = FIXED == 3 ? 8 * c : 0;
      Byte* own = to + c * plane + done;
      for (Index k = 0; k < count; ++k) {
        const auto value = [&](Index corner) {
          return static_cast<std::int32_t>((words[corner][k] >> shift) & 255);
        };
        const std::int32_t right = rights[k], down = downs[k];
        const std::int32_t above = value(0) * (ONE_WEIGHT - right) + value(1) * right;
        const std::int32_t below = value(2) * (ONE_WEIGHT - right) + value(3) * right;
        const std::int32_t total = above * (ONE_WEIGHT - down) + below * down + (1 << (2 * WEIGHT_BITS - 1));
        own[k] = static_cast<Byte>(total >> (2 * WEIGHT_BITS));
      }
    }
  }
}

// map: the first two rows of an affine map from half pixels of `to` to those of `from`, uint8 [h, w, S].
void resampled(const Byte* from, Index height, Index width, const Index* map, const Byte* fill, const Picture& to) {
  constexpr Index SIDE = Index(2) << MAP_BITS;
  const Index step[2] = {2 * map[0], 2 * map[3]};
  // Places within the image, and steps between two of them, are below 2³¹; three channels of a pixel have no word.
  const bool narrow = std::max(height, width) < (Index(1) << (30 - MAP_BITS));
  const auto run_of = to.channels == 3 && height * width > 1
                          ? (narrow ? resampled_run<3, std::int32_t> : resampled_run<3, Index>)
                          : (narrow ? resampled_run<0, std::int32_t> : resampled_run<0, Index>);
  for (Index row = 0; row < to.height; ++row) {
    const Index x = map[0] + map[1] * (2 * row + 1) + 2 * map[2], y = map[3] + map[4] * (2 * row + 1) + 2 * map[5];
    Index begin = 0, end = to.width;
    clip_run(x, step[0], SIDE * width, begin, end);
    clip_run(y, step[1], SIDE * height, begin, end);
    Byte* pixels = to.pixels + row * to.width;
    for (Index c = 0; c < to.channels; ++c) {
      std::fill(pixels + c * to.size(), pixels + c * to.size() + begin, fill[c]);
      std::fill(pixels + c * to.size() + end, pixels + c * to.size() + to.width, fill[c]);
    }
    const Index start[2] = {x + begin * step[0], y + begin * step[1]};
    run_of(from, height, width, to.channels, start, step, end - begin, pixels + begin, to.size());
  }
}

// Linear changes of colour that follow each other: pixels → matrix · pixels + its last column. Of images that have
// not three channels, the first row is that of each.
class Matrix {
 public:
  void add(Operation operation, double strength, const Picture& picture) {
    if (!pending_) begin(picture);
    const Index count = picture.channels == 3 ? 3 : 1;
    if (operation == BRIGHTNESS) {
      for (Index c = 0; c < count; ++c)
        for (Index k = 0; k < 4; ++k) rows_[c][k] *= strength;
    } else if (operation == CONTRAST) {
      double middle = 0;
      for (Index c = 0; c < count; ++c) {
        double value = rows_[c][3];
        for (Index k = 0; k < count; ++k) value += rows_[c][k] * mean_[k];
        middle += (count == 3 ? GREY[c] : 1) * value;
      }
      for (Index c = 0; c < count; ++c) {
        for (Index k = 0; k < 4; ++k) rows_[c][k] *= strength;
        rows_[c][3] += (1 - strength) * middle;
      }
    } else if (operation == SATURATION && count == 3) {
      for (Index k = 0; k < 4; ++k) {
        const double grey = GREY[0] * rows_[0][k] + GREY[1] * rows_[1][k] + GREY[2] * rows_[2][k];
        for (Index c = 0; c < 3; ++c) rows_[c][k] = strength * rows_[c][k] + (1 - strength) * grey;
      }
    } else if (operation == INVERT) {
      for (Index c = 0; c < count; ++c) {
        for (Index k = 0; k < 4; ++k) rows_[c][k] = -rows_[c][k];
        rows_[c][3] += 255;
      }
    }
  }

  void apply(const Picture& picture) {
    if (!pending_) return;
    pending_ = false;
    std::int32_t whole[3][4];
    for (Index c = 0; c < 3; ++c)
      for (Index k = 0; k < 4; ++k)
        whole[c][k] = static_cast<std::int32_t>(fixed(rows_[c][k], k < 3 ? LARGEST_FACTOR : MOST_ADDED));
    const Index size = picture.size();
    if (picture.channels == 3) {
      Byte *red = picture.plane(0), *green = picture.plane(1), *blue = picture.plane(2);
      for (Index place = 0; place < size; ++place) {
        const std::int32_t r = red[place], g = green[place], b = blue[place];
        const auto value = [&](const std::int32_t* row) {
          const std::int32_t total = row[0] * r + row[1] * g + row[2] * b + row[3] + static_cast<std::int32_t>(ONE / 2);
          return static_cast<Byte>(std::clamp(total >> 12, 0, 255));
        };
        red[place] = value(whole[0]), green[place] = value(whole[1]), blue[place] = value(whole[2]);
      }
    } else {
      for (Index place = 0; place < size * picture.channels; ++place)
        picture.pixels[place] = cut((whole[0][0] * picture.pixels[place] + whole[0][3] + ONE / 2) >> 12);
    }
  }

 private:
  void begin(const Picture& picture) {
    pending_ = true;
    for (Index c = 0; c < 3; ++c) {
      for (Index k = 0; k < 4; ++k) rows_[c][k] = c == k;
      Index total = 0;
      if (c < picture.channels)
        for (Index place = 0; place < picture.size(); ++place) total += picture.plane(c)[place];
      mean_[c] = static_cast<double>(total) / picture.size();
    }
  }

  bool pending_ = false;
  double rows_[3][4], mean_[3];
};

void turn_hue(const Picture& picture, double turn) {
  if (picture.channels != 3) return;
  for (Index place = 0; place < picture.size(); ++place) {
    Byte* pixel = picture.pixels + place;
    const double red = pixel[0], green = pixel[picture.size()], blue = pixel[2 * picture.size()];
    const double most = std::max({red, green, blue}), spread = most - std::min({red, green, blue});
    const double divisor = spread == 0 ? 1 : spread;
    double hue = most == red     ? (green - blue) / divisor
                 : most == green ? 2 + (blue - red) / divisor
                                 : 4 + (red - green) / divisor;
    hue = hue / 6 + turn;
    hue = 6 * (hue - std::floor(hue));
    const double starts[3] = {5, 3, 1};
    for (Index c = 0; c < 3; ++c) {
      double part = starts[c] + hue;
      if (part >= 6) part -= 6;
      const double value = most - spread * std::clamp<double>(std::min(part, 4 - part), 0, 1);
      pixel[c * picture.size()] = static_cast<Byte>(std::floor(value + 0.5));
    }
  }
}

void sharpen(const Picture& picture, double factor) {
  if (std::min(picture.height, picture.width) < 3) return;
  const Index width = picture.width;
  const auto strength = static_cast<std::int32_t>(ONE - fixed(std::min<double>(factor, LARGEST_FACTOR), LARGEST_FACTOR));
  constexpr auto UNIT = static_cast<std::int32_t>(ONE);
  for (Index c = 0; c < picture.channels; ++c) {
    Byte* plane = picture.plane(c);
    for (Index row = 1; row < picture.height - 1; ++row) {
      const Byte *middle = plane + row * width, *above = middle - width, *below = middle + width;
      std::int32_t* __restrict smooth = picture.room + row * width;
      for (Index column = 1; column < width - 1; ++column) {
        const std::int32_t total = above[column - 1] + above[column] + above[column + 1] + middle[column - 1] +
                                   5 * middle[column] + middle[column + 1] + below[column - 1] + below[column] +
                                   below[column + 1];
        smooth[column] = (2 * total + 13) / 26;
      }
    }
    for (Index row = 1; row < picture.height - 1; ++row) {
      Byte* __restrict pixels = plane + row * width;
      const std::int32_t* smooth = picture.room + row * width;
      for (Index column = 1; column < width - 1; ++column) {
        const std::int32_t pixel = pixels[column];
        const std::int32_t value = (pixel * UNIT + strength * (smooth[column] - pixel) + UNIT / 2) >> 12;
        pixels[column] = static_cast<Byte>(std::clamp(value, 0, 255));
      }
    }
  }
}

void look_up(Byte* plane, Index size, const Byte* table) {
  for (Index place = 0; place < size; ++place) plane[place] = table[plane[place]];
}

void posterize(const Picture& picture, Index bits) {
  const Byte mask = static_cast<Byte>(256 - (1 << (8 - bits)));
  for (Index place = 0; place < picture.size() * picture.channels; ++place) picture.pixels[place] &= mask;
}

void solarize(const Picture& picture, double threshold) {
  Byte table[256];
  for (Index value = 0; value < 256; ++value)
    table[value] = static_cast<Byte>(value >= threshold ? 255 - value : value);
  look_up(picture.pixels, picture.size() * picture.channels, table);
}

void stretch(const Picture& picture) {
  for (Index c = 0; c < picture.channels; ++c) {
    Byte least = 255, most = 0;
    for (Index place = 0; place < picture.size(); ++place) {
      least = std::min(least, picture.plane(c)[place]);
      most = std::max(most, picture.plane(c)[place]);
    }
    const Index low = least, spread = most - low;
    if (!spread) continue;
    Byte table[256];
    for (Index value = 0; value < 256; ++value) table[value] = cut((2 * 255 * (value - low) + spread) / (2 * spread));
    look_up(picture.plane(c), picture.size(), table);
  }
}

void equalize(const Picture& picture) {
  for (Index c = 0; c < picture.channels; ++c) {
    Index counts[256] = {};
    for (Index place = 0; place < picture.size(); ++place) ++counts[picture.plane(c)[place]];
    Index last = 255;
    while (!counts[last]) --last;
    const Index step = (picture.size() - counts[last]) / 255;
    if (!step) continue;
    Byte table[256];
    for (Index value = 0, before = 0; value < 256; before += counts[value++])
      table[value] = static_cast<Byte>(std::min<Index>((before + step / 2) / step, 255));
    look_up(picture.plane(c), picture.size(), table);
  }
}

Index mirrored(Index place, Index side) {
  if (side == 1) return 0;
  place = std::abs(place) % (2 * side - 2);
  return std::min(place, 2 * side - 2 - place);
}

void blur(const Picture& picture, double sigma) {
  const Index radius = std::min<Index>(static_cast<Index>(std::ceil(3 * sigma)), MOST_RADIUS);
  const Index height = picture.height, width = picture.width;
  double kernel[2 * MOST_RADIUS + 1], total = 0;
  for (Index place = -radius; place <= radius; ++place)
    total += kernel[place + radius] = std::exp(-0.5 * (place / sigma) * (place / sigma));
  std::int32_t weights[2 * MOST_RADIUS + 1], sum = 0;
  for (Index place = 0; place <= 2 * radius; ++place)
    sum += weights[place] = static_cast<std::int32_t>(std::floor(BLUR_ONE * kernel[place] / total + 0.5));
  weights[radius] += BLUR_ONE - sum;
  for (Index c = 0; c < picture.channels; ++c) {
    Byte* plane = picture.plane(c);
    for (Index row = 0; row < height; ++row)
      for (Index column = 0; column < width; ++column) {
        const Byte* line = plane + row * width;
        std::int32_t value = 32;
        if (column >= radius && column + radius < width)
          for (Index place = 0; place <= 2 * radius; ++place) value += weights[place] * line[column + place - radius];
        else
          for (Index place = 0; place <= 2 * radius; ++place)
            value += weights[place] * line[mirrored(column + place - radius, width)];
        picture.room[row * width + column] = value >> 6;
      }
    std::int32_t* totals = picture.room + picture.size();
    for (Index row = 0; row < height; ++row) {
      std::fill(totals, totals + width, 1 << 21);
      for (Index place = 0; place <= 2 * radius; ++place) {
        const std::int32_t* line = picture.room + mirrored(row + place - radius, height) * width;
        for (Index column = 0; column < width; ++column) totals[column] += weights[place] * line[column];
      }
      for (Index column = 0; column < width; ++column)
        plane[row * width + column] = static_cast<Byte>(totals[column] >> 22);
    }
  }
}

void operate(const Picture& picture, Index count, const std::int32_t* codes, const float* values) {
  Matrix matrix;
  for (Index k = 0; k < count; ++k) {
    const auto operation = static_cast<Operation>(codes[k]);
    if (operation == NOTHING) continue;
    if (operation <= INVERT) {
      matrix.add(operation, values[k], picture);
      continue;
    }
    matrix.apply(picture);
    switch (operation) {
      case HUE: turn_hue(picture, values[k]); break;
      case SHARPNESS: sharpen(picture, values[k]); break;
      case POSTERIZE: posterize(picture, static_cast<Index>(values[k])); break;
      case SOLARIZE: solarize(picture, values[k]); break;
      case AUTOCONTRAST: stretch(picture); break;
      case EQUALIZE: equalize(picture); break;
      case BLUR: blur(picture, values[k]); break;
      default: break;
    }
  }
  matrix.apply(picture);
}

// box: top, left, bottom, right.
void fill_box(const Picture& picture, const Index* box, const Byte* colour) {
  const Index left = std::clamp<Index>(box[1], 0, picture.width);
  const Index right = std::clamp<Index>(box[3], left, picture.width);
  for (Index c = 0; c < picture.channels; ++c)
    for (Index row = std::max<Index>(box[0], 0); row < std::min(box[2], picture.height); ++row)
      std::fill_n(picture.plane(c) + row * picture.width + left, right - left, colour[c]);
}

}  // namespace

// images uint8 [total, H, W, S], places int64 [N]: image `places[n]` as maps int64 [N, 6] take it to H × W (null: as
// it is; half pixels with MAP_BITS bits of a fraction), over fill uint8 [S]; then operations, codes int32 [N, K] with
// values [N, K]; then boxes int64 [N, M, 4] of the colour hole uint8 [S]. To `changed` uint8 [N, S, H, W], or where that
// is null to y float32 [N, C, H, W], every byte times `scales` plus `shifts` [C]. S is C, or 1: grey images are repeated.
EXPORT int change(Index batch, Index from_height, Index from_width, Index height, Index width, Index stored,
                  Index channels, const std::uint8_t* images, const Index* places, const Index* maps,
                  const std::uint8_t* fill, Index operations, const std::int32_t* codes, const float* values,
                  Index holes, const Index* boxes, const std::uint8_t* hole, const float* scales,
                  const float* shifts, std::uint8_t* changed, float* y) {
  return guarded([&] {
    const Index size = height * width;
    const ThreadBuffers rooms(size + width + (stored * size + 3) / 4);
#pragma omp parallel for schedule(static) if (batch * size > WORTH_THREADS)
    for (Index n = 0; n < batch; ++n) {
      auto* room = reinterpret_cast<std::int32_t*>(rooms.own());
      Byte* pixels = changed ? changed + n * stored * size : reinterpret_cast<Byte*>(room + size + width);
      const Picture picture{pixels, room, stored, height, width};
      const Byte* image = images + places[n] * from_height * from_width * stored;
      if (!maps) {
        copied(image, picture);
      } else {
        resampled(image, from_height, from_width, maps + 6 * n, fill, picture);
      }
      operate(picture, operations, codes + operations * n, values + operations * n);
      for (Index box = 0; box < holes; ++box) fill_box(picture, boxes + 4 * (holes * n + box), hole);
      if (changed) continue;
      for (Index c = 0; c < channels; ++c)
        normalized<1>(picture.plane(c % stored), size, 1, {scales + c, shifts + c, 1}, size,
                      y + (n * channels + c) * size);
    }
  });
}

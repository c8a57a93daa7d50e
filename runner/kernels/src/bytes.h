// Bytes of images as the floats that a network is given: byte · scale + shift of the channel, each rounded.
#pragma once

#include "common.h"

struct Channels {
  const float *scales, *shifts;
  Index count;
  float of(Index channel, std::uint8_t byte) const { return byte * scales[channel] + shifts[channel]; }
};

// from: uint8 [count, S], to `to`, a plane of so many floats for each channel. S is that of the images where it is not
// FIXED: loops with a constant step, and with a constant count, become a few instructions.
template <Index FIXED>
inline void normalized(const std::uint8_t* __restrict from, Index count, Index stored, const Channels& channels,
                       Index plane, float* to) {
  if (FIXED == 3 && channels.count == 3) {
    float *__restrict red = to, *__restrict green = to + plane, *__restrict blue = to + 2 * plane;
    const float *scales = channels.scales, *shifts = channels.shifts;
    const float scale[3] = {scales[0], scales[1], scales[2]}, shift[3] = {shifts[0], shifts[1], shifts[2]};
    for (Index column = 0; column < count; ++column) {
      red[column] = from[3 * column] * scale[0] + shift[0];
      green[column] = from[3 * column + 1] * scale[1] + shift[1];
      blue[column] = from[3 * column + 2] * scale[2] + shift[2];
    }
    return;
  }
  const Index step = FIXED ? FIXED : stored;
  for (Index c = 0; c < channels.count; ++c) {
    const std::uint8_t* __restrict bytes = from + c % step;
    float* __restrict own = to + c * plane;
    const float scale = channels.scales[c], shift = channels.shifts[c];
    for (Index column = 0; column < count; ++column) own[column] = bytes[step * column] * scale + shift;
  }
}

// The same of a row of any length. What is left over is made together with pixels before it, once more.
template <Index FIXED>
void normalized_row(const std::uint8_t* from, Index count, Index stored, const Channels& channels, Index plane,
                    float* to) {
  constexpr Index WIDE = 64;
  const auto part = [&](Index begin, Index size) __attribute__((always_inline)) {
    normalized<FIXED>(from + begin * stored, size, stored, channels, plane, to + begin);
  };
  Index done = 0;
  for (; done + WIDE <= count; done += WIDE) part(done, WIDE);
  if (done == count) return;
  if (count >= WIDE) return part(count - WIDE, WIDE);
  for (; done + LANES <= count; done += LANES) part(done, LANES);
  if (done == count) return;
  if (count >= LANES) return part(count - LANES, LANES);
  part(0, count);
}

inline Vector turned(Vector value) {
  Vector result;
  for (Index lane = 0; lane < LANES; ++lane) result[lane] = value[LANES - 1 - lane];
  return result;
}

// The same floats from the last to the first, a register from either end at a time; the last two may overlap.
inline void reverse(float* begin, float* end) {
  for (; end - begin >= LANES; begin += LANES, end -= LANES) {
    const Vector left = load(begin), right = load(end - LANES);
    store(begin, turned(right));
    store(end - LANES, turned(left));
  }
  if (begin < end) std::reverse(begin, end);
}

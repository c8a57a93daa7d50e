// One picture scaled with antialiasing: the numbers of Pillow's `resize(size, BILINEAR, box)`, bit for bit.

#ifdef __SSSE3__
#include <immintrin.h>
#endif

#include <cmath>
#include <vector>

#include "boundary.h"

namespace {

// Of a weight: a sum of products with bytes stays below 2³¹.
constexpr int BITS = 22;
constexpr std::int32_t ROUNDING = 1 << (BITS - 1);

inline std::uint8_t byte(std::int32_t sum) { return std::uint8_t(std::min(sum >> BITS, 255)); }

// Which pixels of one side, and how much of each, make those of the result.
struct Side {
  Index reach = 0;                    // most pixels that make one
  std::vector<Index> first, count;    // [size]
  std::vector<std::int32_t> weights;  // [size, most], 0 behind those that count
  Index most;

  // The part from `begin` to `end` of `length` pixels becomes `size` pixels.
  Side(Index length, float begin, float end, Index size) : first(size), count(size) {
    const double scale = double(end - begin) / size, support = std::max(scale, 1.0);
    most = 2 * Index(std::ceil(support)) + 1;
    weights.resize(size * most);
    std::vector<double> triangle(most);
    for (Index at = 0; at < size; ++at) {
      // Without `volatile` the compiler may round once where Pillow rounds twice.
      const volatile double offset = (at + 0.5) * scale;
      const double center = begin + offset;
      first[at] = std::max<Index>(Index(center - support + 0.5), 0);
      count[at] = std::min<Index>(Index(center + support + 0.5), length) - first[at];
      reach = std::max(reach, count[at]);
      double total = 0;
      for (Index k = 0; k < count[at]; ++k) {
        const volatile double distance = (k + first[at] - center + 0.5) * (1 / support);
        triangle[k] = std::max(1 - std::abs(distance), 0.0);
        total += triangle[k];
      }
      for (Index k = 0; k < count[at]; ++k) {
        const volatile double scaled = (total == 0 ? triangle[k] : triangle[k] / total) * (1 << BITS);
        weights[at * most + k] = std::int32_t(scaled + 0.5);
      }
    }
  }
};

// LANES bytes of a row that `count` rows, of `stride` bytes, make by their weights.
inline void scale_down(const std::uint8_t* image, Index stride, Index count, const std::int32_t* weights,
                       std::uint8_t* to) {
  std::int32_t sums[LANES];
  std::fill_n(sums, LANES, ROUNDING);
  for (Index k = 0; k < count; ++k)
    for (Index lane = 0; lane < LANES; ++lane) sums[lane] += image[k * stride + lane] * weights[k];
  for (Index lane = 0; lane < LANES; ++lane) to[lane] = byte(sums[lane]);
}

// The pixels of rows to those of other ones. Some more than are needed are read of each row, with a weight of 0.
struct Across {
  const Side& side;
  const Index channels;
#ifdef __SSSE3__
  // Four pixels of a colour picture at a time, in pairs as the instruction has them. It multiplies 16 bits, so a weight
  // is 2¹¹ · high + low; [size, blocks, high and low of two pairs].
  const Index blocks;
  std::vector<std::int16_t> pairs;

  Across(const Side& side, Index channels) : side(side), channels(channels), blocks((side.reach + 3) / 4) {
    if (channels == 1) return;
    pairs.resize(side.first.size() * blocks * 32);
    for (std::size_t at = 0; at < side.first.size(); ++at)
      for (Index k = 0; k < side.count[at]; ++k)
        for (Index c = 0; c < 3; ++c) {
          std::int16_t* to = &pairs[(at * blocks + k / 4) * 32 + k % 4 / 2 * 8 + 2 * c + k % 2];
          to[0] = std::int16_t(side.weights[at * side.most + k] >> 11);
          to[16] = std::int16_t(side.weights[at * side.most + k] & 2047);
        }
  }

  void colour(const std::uint8_t* row, std::uint8_t* to) const {
    const __m128i first = _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1);
    const __m128i second = _mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
    const auto vector = [](const auto* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); };
    const std::int16_t* weights = pairs.data();
    for (std::size_t at = 0; at < side.first.size(); ++at) {
      const std::uint8_t* from = row + 3 * side.first[at];
      __m128i high = _mm_setzero_si128(), low = _mm_set1_epi32(ROUNDING);
      for (Index block = 0; block < blocks; ++block, from += 12, weights += 32) {
        const __m128i one = _mm_shuffle_epi8(vector(from), first), two = _mm_shuffle_epi8(vector(from), second);
        high = _mm_add_epi32(high, _mm_madd_epi16(one, vector(weights)));
        high = _mm_add_epi32(high, _mm_madd_epi16(two, vector(weights + 8)));
        low = _mm_add_epi32(low, _mm_madd_epi16(one, vector(weights + 16)));
        low = _mm_add_epi32(low, _mm_madd_epi16(two, vector(weights + 24)));
      }
      __m128i sum = _mm_srai_epi32(_mm_add_epi32(_mm_slli_epi32(high, 11), low), BITS);
      sum = _mm_packs_epi32(sum, sum);
      const int bytes = _mm_cvtsi128_si32(_mm_packus_epi16(sum, sum));
      std::memcpy(to + 3 * at, &bytes, 3);
    }
  }
#else
  Across(const Side& side, Index channels) : side(side), channels(channels) {}

  void colour(const std::uint8_t* row, std::uint8_t* to) const { scale<3>(row, to); }
#endif

  template <Index channels>
  void scale(const std::uint8_t* row, std::uint8_t* to) const {
    for (std::size_t at = 0; at < side.first.size(); ++at) {
      const std::uint8_t* from = row + channels * side.first[at];
      const std::int32_t* weights = &side.weights[at * side.most];
      std::int32_t sums[channels];
      std::fill_n(sums, channels, ROUNDING);
      for (Index k = 0; k < side.reach; ++k)
        for (Index c = 0; c < channels; ++c) sums[c] += from[channels * k + c] * weights[k];
      for (Index c = 0; c < channels; ++c) to[channels * at + c] = byte(sums[c]);
    }
  }

  void operator()(const std::uint8_t* row, std::uint8_t* to) const { channels == 1 ? scale<1>(row, to) : colour(row, to); }
};

}  // namespace

// image uint8 [height, width, channels], of which the box from (left, upper) to (right, lower) becomes y uint8 [rows,
// columns, channels], first down, then across; channels is 1 or 3.
EXPORT int resample(Index height, Index width, Index channels, const std::uint8_t* image, float left, float upper,
                    float right, float lower, Index rows, Index columns, std::uint8_t* y) {
  return guarded([&] {
    const Side down(height, upper, lower, rows), side(width, left, right, columns);
    const Across across(side, channels);
    const Index stride = width * channels, begin = side.first.front() * channels;
    const Index end = (side.first.back() + side.count.back()) * channels;
    std::vector<std::uint8_t> scaled(end + side.reach * channels + 2 * LANES), narrow;
    if (end < LANES) {
      // Vectors would reach beyond the last row.
      narrow.assign(image, image + height * stride);
      narrow.resize(narrow.size() + LANES);
      image = narrow.data();
    }
    for (Index row = 0; row < rows; ++row) {
      const std::uint8_t* from = image + down.first[row] * stride;
      for (Index at = begin; at < end; at += LANES) {
        // The last vector ends with the row.
        const Index place = std::max<Index>(std::min(at, end - LANES), 0);
        scale_down(from + place, stride, down.count[row], &down.weights[row * down.most], &scaled[place]);
      }
      across(scaled.data(), y + row * columns * channels);
    }
  });
}

// What all kernels share. Maps are float32 in the batch-last layout [C, H, W, N].
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#ifdef __AVX512F__
#include <immintrin.h>
#define MASKED true
#else
#define MASKED false
#endif

#define EXPORT extern "C" __attribute__((visibility("default")))

using Index = std::int64_t;

// 16 floats: one AVX-512 register, or what the compiler makes of it elsewhere.
constexpr Index LANES = 16;
typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef float Unaligned __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

// Below so many floats a second thread costs more than it brings.
constexpr Index WORTH_THREADS = 1 << 14;

inline Vector all(float value) { return value - Vector{}; }

inline Vector load(const float* from) { return *reinterpret_cast<const Unaligned*>(from); }

inline void store(float* to, Vector value) { *reinterpret_cast<Unaligned*>(to) = value; }

// The first `count` floats; the others are 0. Cheap where registers can be masked.
inline Vector load(const float* from, Index count) {
  if (count >= LANES) return load(from);
#ifdef __AVX512F__
  return _mm512_maskz_loadu_ps((1u << count) - 1, from);
#else
  Vector value{};
  std::memcpy(&value, from, sizeof(float) * count);
  return value;
#endif
}

inline void store(float* to, Vector value, Index count) {
  if (count >= LANES) return store(to, value);
#ifdef __AVX512F__
  _mm512_mask_storeu_ps(to, (1u << count) - 1, value);
#else
  std::memcpy(to, &value, sizeof(float) * count);
#endif
}

// 16 rows of 16 floats become columns.
inline void transpose(Vector (&rows)[LANES]) {
#ifdef __AVX512F__
  // Pairs, fours, and then quarters of registers change places.
  __m512 pairs[LANES], fours[LANES], halves[LANES];
  for (int i = 0; i < LANES; i += 2) {
    pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < LANES; i += 4)
    for (int j = 0; j < 2; ++j) {
      const __m512d one = _mm512_castps_pd(pairs[i + j]), other = _mm512_castps_pd(pairs[i + j + 2]);
      fours[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(one, other));
      fours[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(one, other));
    }
  for (int i = 0; i < LANES; i += 8)
    for (int j = 0; j < 4; ++j) {
      halves[i + j] = _mm512_shuffle_f32x4(fours[i + j], fours[i + j + 4], 0x88);
      halves[i + j + 4] = _mm512_shuffle_f32x4(fours[i + j], fours[i + j + 4], 0xdd);
    }
  for (int j = 0; j < 8; ++j) {
    rows[j] = _mm512_shuffle_f32x4(halves[j], halves[j + 8], 0x88);
    rows[j + 8] = _mm512_shuffle_f32x4(halves[j], halves[j + 8], 0xdd);
  }
#else
  for (Index i = 0; i < LANES; ++i)
    for (Index j = 0; j < i; ++j) {
      const float other = rows[i][j];
      rows[i][j] = rows[j][i];
      rows[j][i] = other;
    }
#endif
}

inline float sum(Vector value) {
  float total = 0;
  for (Index lane = 0; lane < LANES; ++lane) total += value[lane];
  return total;
}

// Matrix products, and the memory for what is multiplied.
#pragma once

#include <omp.h>

#include <cstdlib>
#include <new>

#include "common.h"

// Element (i, j) is `data[i * row + j * column]`; one of the two strides is 1.
struct Matrix {
  const float* data;
  Index row, column;
  Matrix from(Index i, Index j) const { return {data + i * row + j * column, row, column}; }
};

inline Matrix plain(const float* data, Index stride) { return {data, stride, 1}; }
inline Matrix transposed(const float* data, Index stride) { return {data, 1, stride}; }

// A [rows, depth] times B [depth, columns] → [rows, columns] with that stride, or added to it. Serial when called by one
// of several threads. Sizes are below 2³¹. May throw std::bad_alloc in a single thread.
void multiply(Index rows, Index columns, Index depth, const Matrix& a, const Matrix& b, float* to, Index stride,
              bool adds = false);

struct Buffer {
  float* data;
  explicit Buffer(Index size) : data(static_cast<float*>(std::aligned_alloc(64, (size * 4 + 63) / 64 * 64))) {
    if (!data) throw std::bad_alloc();
  }
  ~Buffer() { std::free(data); }
  Buffer(const Buffer&) = delete;
};

// A buffer for each thread of a parallel region, all of them taken before it: there a lack of memory can be reported.
class ThreadBuffers {
 public:
  explicit ThreadBuffers(Index size) : stride_((size + LANES - 1) / LANES * LANES), all_(stride_ * omp_get_max_threads()) {}
  float* own() const { return all_.data + stride_ * omp_get_thread_num(); }

 private:
  Index stride_;
  Buffer all_;
};

// What one of `parts` threads works on, so that no two write to the same place.
struct Share {
  Index begin, size;
  Share(Index total, Index part, Index parts) : begin(total * part / parts), size(total * (part + 1) / parts - begin) {}
};

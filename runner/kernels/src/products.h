// Matrix products, and the memory for what is multiplied.
#pragma once

#include <omp.h>

#include <cstdlib>
#include <new>

#include "common.h"

enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 };
using Sgemm = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);

// cblas_sgemm of the library that Paddle brings along; serial when called by one of several threads. Its sizes are
// ints: a `Plan` has none that are larger.
extern Sgemm sgemm;

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

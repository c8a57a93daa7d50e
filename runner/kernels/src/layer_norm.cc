// Layer normalisation (Ba, Kiros & Hinton, 2016) of rows [R, S]: the last dimensions are one row.

#include <cmath>

#include "moments.h"

namespace {

// Rows whose gradients of γ and β are summed in float32 before they are in double. Must agree with tokens.py.
constexpr Index ROWS_OF_PART = 32;

// What a row is normalised by: (x - center)·rstd + shift. The shift is what float32 leaves of the mean.
struct Row {
  float center, rstd, shift;
  Vector normalized(const float* from, Index count) const { return (load(from, count) - center) * rstd + shift; }
};

inline Vector factors(const float* gamma, Index count) { return gamma ? load(gamma, count) : all(1); }

void gradient_of_row(Index size, const float* x, const float* dy, const Row& row, const float* gamma, float* dgamma,
                     float* dbeta, float* dx) {
  Vector total{}, product{};
  for (Index i = 0; i < size; i += LANES) {
    const Index count = size - i;
    const Vector normalized = row.normalized(x + i, count), upstream = load(dy + i, count);
    if (dgamma) {
      store(dgamma + i, load(dgamma + i, count) + upstream * normalized, count);
      store(dbeta + i, load(dbeta + i, count) + upstream, count);
    }
    const Vector inner = upstream * factors(gamma + (gamma ? i : 0), count);
    total += inner;
    product += inner * normalized;
  }
  // Behind the end of a row the gradient is 0, so that nothing there counts.
  const float of_mean = sum(total) / size, of_rstd = sum(product) / size;
  for (Index i = 0; i < size; i += LANES) {
    const Index count = size - i;
    const Vector inner = load(dy + i, count) * factors(gamma + (gamma ? i : 0), count);
    store(dx + i, row.rstd * (inner - of_mean - row.normalized(x + i, count) * of_rstd), count);
  }
}

}  // namespace

// x [R, S], gamma [S] or null, beta [S] or null → y [R, S]; rows [R, 3] are kept for the gradient.
EXPORT void layer_norm_forward(Index count, Index size, const float* x, const float* gamma, const float* beta,
                               float epsilon, void* rows, float* y) {
#pragma omp parallel for schedule(static) if (count * size > WORTH_THREADS)
  for (Index number = 0; number < count; ++number) {
    const float* from = x + number * size;
    float* to = y + number * size;
    const Moments moments = moments_of(from, size);
    const float center = moments.mean;
    const double rstd = 1 / std::sqrt(moments.variance + epsilon);
    const Row row{center, float(rstd), float((center - moments.mean) * rstd)};
    static_cast<Row*>(rows)[number] = row;
    for (Index i = 0; i < size; i += LANES) {
      const Vector normalized = row.normalized(from + i, size - i);
      const Vector scaled = gamma ? normalized * load(gamma + i, size - i) : normalized;
      store(to + i, beta ? scaled + load(beta + i, size - i) : scaled, size - i);
    }
  }
}

// dy [R, S] → dx [R, S]; dgamma [S] and dbeta [S] unless null. parts [⌈R / ROWS_OF_PART⌉, 2, S] is room for the sums,
// whose order does not depend on the number of threads.
EXPORT void layer_norm_gradient(Index count, Index size, const float* x, const float* dy, const void* rows,
                                const float* gamma, float* parts, float* dx, float* dgamma, float* dbeta) {
  const Index parts_count = (count + ROWS_OF_PART - 1) / ROWS_OF_PART;
#pragma omp parallel for schedule(static) if (count * size > WORTH_THREADS)
  for (Index part = 0; part < parts_count; ++part) {
    float* of_gamma = dgamma ? parts + 2 * part * size : nullptr;
    if (of_gamma) std::memset(of_gamma, 0, sizeof(float) * 2 * size);
    for (Index number = part * ROWS_OF_PART; number < std::min(count, (part + 1) * ROWS_OF_PART); ++number)
      gradient_of_row(size, x + number * size, dy + number * size, static_cast<const Row*>(rows)[number], gamma,
                      of_gamma, of_gamma ? of_gamma + size : nullptr, dx + number * size);
  }
  if (!dgamma) return;
#pragma omp parallel for schedule(static) if (parts_count * size > WORTH_THREADS)
  for (Index block = 0; block < 2 * size; block += LANES) {
    const Index end = std::min(2 * size, block + LANES);
    double totals[LANES] = {};
    for (Index part = 0; part < parts_count; ++part)
      for (Index i = block; i < end; ++i) totals[i - block] += parts[2 * part * size + i];
    for (Index i = block; i < end; ++i) (i < size ? dgamma[i] : dbeta[i - size]) = totals[i - block];
  }
}

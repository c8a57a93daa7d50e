// Products of matrices. The library that Paddle brings along computes them with half of what a processor with AVX-512
// can do, so there they are computed here: a tile of the result stays in registers while a panel of B, which fits the
// first-level cache, and the rows of A go by (Goto & van de Geijn, "Anatomy of High-Performance Matrix Multiplication",
// 2008).

#include "products.h"

namespace {

// cblas_sgemm of the library that Paddle brings along.
using Sgemm = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);
Sgemm sgemm;

}  // namespace

EXPORT void use_sgemm(void* function) { sgemm = reinterpret_cast<Sgemm>(function); }

#ifdef __AVX512F__

namespace {

// A tile has 8 rows of 2 registers. A panel has so many lines of B of a tile's width; some of them are packed at once,
// more where they are short: the longer the runs that are read, the quicker is memory.
constexpr Index TILE_ROWS = 8, TILE_REGISTERS = 2, TILE_COLUMNS = TILE_REGISTERS * LANES;
constexpr Index PANEL_LINES = 256, FULL_PANELS = 4, MOST_PANELS = 16;
// From this depth on threads share out the depth: what they add up afterwards is small beside it.
constexpr Index DEEP_PRODUCT = 4096, LARGEST_SUMS = 1 << 20;

// What a tile is made of: `depth` columns of A's rows times as many lines of a panel.
struct Tile {
  Index depth;
  Matrix a;
  const float* panel;
  float* to;
  Index stride, last;  // floats of the last register that are part of the result
  bool adds;
};

template <int HEIGHT, int REGISTERS>
void compute(const Tile& tile) {
  const float *a = tile.a.data, *panel = tile.panel;
  const Index row = tile.a.row, column = tile.a.column;
  Vector sums[HEIGHT][REGISTERS] = {};
  for (Index k = 0; k < tile.depth; ++k, a += column, panel += TILE_COLUMNS)
    for (int i = 0; i < HEIGHT; ++i)
      for (int j = 0; j < REGISTERS; ++j) sums[i][j] += all(a[i * row]) * load(panel + j * LANES);
  for (int i = 0; i < HEIGHT; ++i)
    for (int j = 0; j < REGISTERS; ++j) {
      float* to = tile.to + i * tile.stride + j * LANES;
      const Index count = j + 1 < REGISTERS ? LANES : tile.last;
      store(to, tile.adds ? sums[i][j] + load(to, count) : sums[i][j], count);
    }
}

using Compute = void (*)(const Tile&);
// By height, and by whether there is a second register.
constexpr Compute COMPUTE[TILE_ROWS][TILE_REGISTERS] = {
    {compute<1, 1>, compute<1, 2>}, {compute<2, 1>, compute<2, 2>}, {compute<3, 1>, compute<3, 2>},
    {compute<4, 1>, compute<4, 2>}, {compute<5, 1>, compute<5, 2>}, {compute<6, 1>, compute<6, 2>},
    {compute<7, 1>, compute<7, 2>}, {compute<8, 1>, compute<8, 2>},
};

// `depth` lines of some columns of B, panel by panel.
void pack(const Matrix& b, Index depth, Index columns, float* panels) {
  const Index size = depth * TILE_COLUMNS;
  const auto place = [=](Index k, Index j) {
    return panels + j / TILE_COLUMNS * size + k * TILE_COLUMNS + j % TILE_COLUMNS;
  };
  if (b.column == 1) {
    for (Index k = 0; k < depth; ++k)
      for (Index j = 0; j < columns; j += LANES) store(place(k, j), load(b.data + k * b.row + j, columns - j));
    return;
  }
  for (Index j = 0; j < columns; j += LANES)
    for (Index k = 0; k < depth; k += LANES) {
      const Index width = columns - j, length = std::min(LANES, depth - k);
      Vector lines[LANES];
      for (Index i = 0; i < LANES; ++i)
        lines[i] = i < width ? load(b.data + (j + i) * b.column + k, length) : Vector{};
      transpose(lines);
      for (Index i = 0; i < length; ++i) store(place(k + i, j), lines[i]);
    }
}

void serial(Index rows, Index columns, Index depth, const Matrix& a, const Matrix& b, float* to, Index stride,
            bool adds) {
  alignas(64) float panels[FULL_PANELS * PANEL_LINES * TILE_COLUMNS];
  const Index wide =
      TILE_COLUMNS * std::clamp<Index>(FULL_PANELS * PANEL_LINES / std::max<Index>(depth, 1), FULL_PANELS, MOST_PANELS);
  for (Index left = 0; left < columns; left += wide) {
    const Index end = std::min(left + wide, columns);
    for (Index first = 0; first == 0 || first < depth; first += PANEL_LINES) {
      const Index lines = std::min(PANEL_LINES, depth - first);
      pack(b.from(first, left), lines, end - left, panels);
      for (Index column = left; column < end; column += TILE_COLUMNS) {
        const Index width = std::min(TILE_COLUMNS, end - column), registers = (width + LANES - 1) / LANES;
        const float* panel = panels + (column - left) * lines;
        for (Index row = 0; row < rows; row += TILE_ROWS)
          COMPUTE[std::min(TILE_ROWS, rows - row) - 1][registers - 1](
              {lines, a.from(row, first), panel, to + row * stride + column, stride, width - (registers - 1) * LANES,
               adds || first > 0});
      }
    }
  }
}

// Threads share out the depth, each with sums of its own.
void by_depth(Index parts, Index rows, Index columns, Index depth, const Matrix& a, const Matrix& b, float* to,
              Index stride, bool adds) {
  const Index size = rows * columns;
  const Buffer sums(parts * size);
#pragma omp parallel for schedule(static)
  for (Index part = 0; part < parts; ++part) {
    const Share own(depth, part, parts);
    serial(rows, columns, own.size, a.from(0, own.begin), b.from(own.begin, 0), sums.data + part * size, columns,
           false);
  }
  for (Index row = 0; row < rows; ++row)
    for (Index column = 0; column < columns; column += LANES) {
      const Index count = columns - column;
      float* place = to + row * stride + column;
      Vector total = adds ? load(place, count) : Vector{};
      for (Index part = 0; part < parts; ++part) total += load(sums.data + part * size + row * columns + column, count);
      store(place, total, count);
    }
}

}  // namespace

void multiply(Index rows, Index columns, Index depth, const Matrix& a, const Matrix& b, float* to, Index stride,
              bool adds) {
  const Index threads = omp_get_level() > 0 || rows * columns * depth < WORTH_THREADS ? 1 : omp_get_max_threads();
  if (threads == 1) return serial(rows, columns, depth, a, b, to, stride, adds);
  if (depth >= DEEP_PRODUCT && threads * rows * columns <= LARGEST_SUMS)
    return by_depth(threads, rows, columns, depth, a, b, to, stride, adds);
  const bool by_columns = columns >= rows;
  const Index unit = by_columns ? TILE_COLUMNS : TILE_ROWS, size = by_columns ? columns : rows;
#pragma omp parallel for schedule(static)
  for (Index part = 0; part < threads; ++part) {
    const Share own((size + unit - 1) / unit, part, threads);
    const Index begin = own.begin * unit, length = std::min(own.size * unit, size - begin);
    if (length <= 0) continue;
    if (by_columns)
      serial(rows, length, depth, a, b.from(0, begin), to + begin, stride, adds);
    else
      serial(length, columns, depth, a.from(begin, 0), b, to + begin * stride, stride, adds);
  }
}

#else

void multiply(Index rows, Index columns, Index depth, const Matrix& a, const Matrix& b, float* to, Index stride,
              bool adds) {
  enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112 };
  // Both strides of a transposed line are 1, but it is shorter than the row of a plain matrix.
  const bool is_plain_a = a.column == 1 && a.row >= depth, is_plain_b = b.column == 1 && b.row >= columns;
  sgemm(ROW_MAJOR, is_plain_a ? PLAIN : TRANSPOSED, is_plain_b ? PLAIN : TRANSPOSED, rows, columns, depth, 1, a.data,
        is_plain_a ? a.row : a.column, b.data, is_plain_b ? b.row : b.column, adds, to, stride);
}

#endif

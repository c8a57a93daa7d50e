// 3×3 convolutions by Winograd's F(2×2, 3×3) (Lavin & Gray, 2016): a 2×2 tile of the output is seen by a 4×4 tile of the
// input. Transformed, the two are multiplied frequency by frequency, 16 matrix products of [O, C] by [C, tiles·N], with
// 4 multiplications an output where the plain way takes 9. Its constants are 1 and 1/2, so that results differ by no
// more than rounding. The gradient of the input is a convolution with flipped kernels; that of the weights is the
// transpose of the forward pass.

#include "winograd.h"

#include "products.h"

namespace {

// Columns of a product that a block aims at: few enough that it stays in the second-level cache.
constexpr Index COLUMNS = 64, GRADIENT_COLUMNS = 256;
// Floats that the threads may sum up the gradients of the weights in.
constexpr Index MOST_SUMS = 1 << 20;
// Smaller maps are cheaper the other way, which leaves out what would meet the padding; with fewer channels or images
// the transforms cost more than they save, and so they do with registers that are not full unless they can be masked.
constexpr Index SMALL_MAP = 9, FEW_CHANNELS = MASKED ? 16 : 32, FEW_IMAGES = 4;
constexpr Index FREQUENCIES = 16;

// Maps of `rows` × `columns` pixels in tiles of 2×2.
struct Tiles {
  Index rows, columns, batch, across, count, of_block;
  Tiles(Index rows, Index columns, Index batch, Index wanted)
      : rows(rows),
        columns(columns),
        batch(batch),
        across((columns + 1) / 2),
        count((rows + 1) / 2 * across),
        of_block(std::clamp<Index>(wanted / batch, 1, count)) {}
  Index blocks() const { return (count + of_block - 1) / of_block; }
  Index top(Index tile) const { return tile / across * 2; }
  Index left(Index tile) const { return tile % across * 2; }
};

// Some tiles of all channels in each frequency: [16, channels, size]. A line more keeps frequencies out of the same set.
struct Transformed {
  Index stride;
  float* data;
  Transformed(Index channels, const Tiles& tiles, float* data) : stride(line(channels, tiles)), data(data) {}
  static Index line(Index channels, const Tiles& tiles) { return channels * tiles.of_block * tiles.batch + LANES; }
  static Index size(Index channels, const Tiles& tiles) { return FREQUENCIES * line(channels, tiles); }
  float* at(Index frequency, Index place) const { return data + frequency * stride + place; }
};

// Bᵀ d B of the 4×4 pixels around each tile: what a channel [H, W, N] looks like at `place`.
void transform_input(const Tiles& tiles, Index first, Index end, const float* map, Index height, Index width,
                     Index pad_top, Index pad_left, const Transformed& to, Index place) {
  for (Index tile = first; tile < end; ++tile)
    for (Index n = 0; n < tiles.batch; n += LANES) {
      const Index count = tiles.batch - n;
      Vector across[4][4];
      for (Index i = 0; i < 4; ++i) {
        Vector d[4];
        for (Index j = 0; j < 4; ++j) {
          const Index row = tiles.top(tile) - pad_top + i, column = tiles.left(tile) - pad_left + j;
          const bool inside = row >= 0 && row < height && column >= 0 && column < width;
          d[j] = inside ? load(map + (row * width + column) * tiles.batch + n, count) : Vector{};
        }
        across[i][0] = d[0] - d[2];
        across[i][1] = d[1] + d[2];
        across[i][2] = d[2] - d[1];
        across[i][3] = d[1] - d[3];
      }
      const Index own = place + (tile - first) * tiles.batch + n;
      for (Index j = 0; j < 4; ++j) {
        store(to.at(j, own), across[0][j] - across[2][j], count);
        store(to.at(4 + j, own), across[1][j] + across[2][j], count);
        store(to.at(8 + j, own), across[2][j] - across[1][j], count);
        store(to.at(12 + j, own), across[1][j] - across[3][j], count);
      }
    }
}

// Aᵀ m A: the 2×2 pixels of each tile of a filter [H', W', N].
void transform_output(const Tiles& tiles, Index first, Index end, const Transformed& from, Index place, float bias,
                      float* map) {
  for (Index tile = first; tile < end; ++tile)
    for (Index n = 0; n < tiles.batch; n += LANES) {
      const Index count = tiles.batch - n, own = place + (tile - first) * tiles.batch + n;
      Vector down[2][4];
      for (Index j = 0; j < 4; ++j) {
        const Vector m0 = load(from.at(j, own), count), m1 = load(from.at(4 + j, own), count);
        const Vector m2 = load(from.at(8 + j, own), count), m3 = load(from.at(12 + j, own), count);
        down[0][j] = m0 + m1 + m2;
        down[1][j] = m1 - m2 - m3;
      }
      const Index top = tiles.top(tile), left = tiles.left(tile);
      for (Index i = 0; i < 2 && top + i < tiles.rows; ++i) {
        float* to = map + ((top + i) * tiles.columns + left) * tiles.batch + n;
        store(to, down[i][0] + down[i][1] + down[i][2] + bias, count);
        if (left + 1 < tiles.columns)
          store(to + tiles.batch, down[i][1] - down[i][2] - down[i][3] + bias, count);
      }
    }
}

// A dy Aᵀ, the transpose of the above.
void transform_gradient(const Tiles& tiles, Index first, Index end, const float* map, const Transformed& to,
                        Index place) {
  for (Index tile = first; tile < end; ++tile)
    for (Index n = 0; n < tiles.batch; n += LANES) {
      const Index count = tiles.batch - n, own = place + (tile - first) * tiles.batch + n;
      const Index top = tiles.top(tile), left = tiles.left(tile);
      Vector down[4][2];
      for (Index j = 0; j < 2; ++j) {
        const float* from = map + (top * tiles.columns + left + j) * tiles.batch + n;
        const bool inside = left + j < tiles.columns, below = inside && top + 1 < tiles.rows;
        const Vector upper = inside ? load(from, count) : Vector{};
        const Vector lower = below ? load(from + tiles.columns * tiles.batch, count) : Vector{};
        down[0][j] = upper;
        down[1][j] = upper + lower;
        down[2][j] = upper - lower;
        down[3][j] = -lower;
      }
      for (Index i = 0; i < 4; ++i) {
        store(to.at(4 * i, own), down[i][0], count);
        store(to.at(4 * i + 1, own), down[i][0] + down[i][1], count);
        store(to.at(4 * i + 2, own), down[i][0] - down[i][1], count);
        store(to.at(4 * i + 3, own), -down[i][1], count);
      }
    }
}

// Kernels of 9 weights as a matrix of `rows` × `columns`, of which the strides are given in kernels.
struct Kernels {
  Index rows, columns, row_stride, column_stride;
  Index place(Index row, Index column) const { return 9 * (row * row_stride + column * column_stride); }
  Index size() const { return rows * columns; }
  // Floats of a frequency: a line more keeps frequencies out of the same set.
  Index stride() const { return size() + LANES; }
};

// G g Gᵀ of kernels, flipped if so wanted: [16, rows, columns], a frequency `stride` floats long.
void transform_kernels(const Kernels& kernels, const float* weight, bool flipped, float* transformed) {
#pragma omp parallel for schedule(static) if (kernels.size() > WORTH_THREADS)
  for (Index column = 0; column < kernels.columns; column += LANES)
    for (Index row = 0; row < kernels.rows; ++row) {
      const Index count = std::min(LANES, kernels.columns - column);
      Vector g[LANES] = {}, down[4][3];
      for (Index lane = 0; lane < count; ++lane) g[lane] = load(weight + kernels.place(row, column + lane), 9);
      transpose(g);
      if (flipped) std::reverse(g, g + 9);
      for (Index j = 0; j < 3; ++j) {
        const Vector outer = 0.5f * (g[j] + g[6 + j]), inner = 0.5f * g[3 + j];
        down[0][j] = g[j];
        down[1][j] = outer + inner;
        down[2][j] = outer - inner;
        down[3][j] = g[6 + j];
      }
      for (Index i = 0; i < 4; ++i) {
        const Vector outer = 0.5f * (down[i][0] + down[i][2]), inner = 0.5f * down[i][1];
        float* to = transformed + 4 * i * kernels.stride() + row * kernels.columns + column;
        store(to, down[i][0], count);
        store(to + kernels.stride(), outer + inner, count);
        store(to + 2 * kernels.stride(), outer - inner, count);
        store(to + 3 * kernels.stride(), down[i][2], count);
      }
    }
}

// Gᵀ m G of the sum of some parts [parts, 16, rows, columns], the transpose of the above.
void transform_kernel_gradient(const Kernels& kernels, const float* transformed, Index parts, float* dweight) {
#pragma omp parallel for schedule(static) if (kernels.size() > WORTH_THREADS)
  for (Index row = 0; row < kernels.rows; ++row)
    for (Index column = 0; column < kernels.columns; column += LANES) {
      const Index count = std::min(LANES, kernels.columns - column);
      Vector down[3][4], g[LANES] = {};
      for (Index j = 0; j < 4; ++j) {
        Vector m[4] = {};
        for (Index part = 0; part < parts; ++part)
          for (Index i = 0; i < 4; ++i) {
            const Index frequency = part * FREQUENCIES + 4 * i + j;
            m[i] += load(transformed + frequency * kernels.stride() + row * kernels.columns + column, count);
          }
        const Vector m0 = m[0], m1 = 0.5f * m[1], m2 = 0.5f * m[2], m3 = m[3];
        down[0][j] = m0 + m1 + m2;
        down[1][j] = m1 - m2;
        down[2][j] = m1 + m2 + m3;
      }
      for (Index i = 0; i < 3; ++i) {
        const Vector m1 = 0.5f * down[i][1], m2 = 0.5f * down[i][2];
        g[3 * i] = down[i][0] + m1 + m2;
        g[3 * i + 1] = m1 - m2;
        g[3 * i + 2] = m1 + m2 + down[i][3];
      }
      transpose(g);
      for (Index lane = 0; lane < count; ++lane) store(dweight + kernels.place(row, column + lane), g[lane], 9);
    }
}

// x [C, H, W, N] with transformed kernels [16, O, C] → y [O, H', W', N].
void convolve(Index channels, Index height, Index width, Index pad_top, Index pad_left, const float* x,
              const Kernels& kernels, const float* transformed, const float* bias, const Tiles& tiles, float* y) {
  // Where there are fewer blocks than threads, these share out the filters.
  const Index shares = std::min((omp_get_max_threads() + tiles.blocks() - 1) / tiles.blocks(), kernels.rows);
  const ThreadBuffers inputs(Transformed::size(channels, tiles));
  const ThreadBuffers outputs(Transformed::size((kernels.rows + shares - 1) / shares, tiles));
#pragma omp parallel for schedule(static) collapse(2)
  for (Index block = 0; block < tiles.blocks(); ++block)
    for (Index share = 0; share < shares; ++share) {
      const Share own(kernels.rows, share, shares);
      const Transformed seen(channels, tiles, inputs.own()), made(own.size, tiles, outputs.own());
      const Index first = block * tiles.of_block, end = std::min(first + tiles.of_block, tiles.count);
      const Index size = (end - first) * tiles.batch;
      for (Index channel = 0; channel < channels; ++channel)
        transform_input(tiles, first, end, x + channel * height * width * tiles.batch, height, width, pad_top, pad_left,
                        seen, channel * size);
      for (Index frequency = 0; frequency < FREQUENCIES; ++frequency)
        multiply(own.size, size, channels,
                 plain(transformed + frequency * kernels.stride() + own.begin * channels, channels),
                 plain(seen.at(frequency, 0), size), made.at(frequency, 0), size);
      for (Index filter = 0; filter < own.size; ++filter)
        transform_output(tiles, first, end, made, filter * size, bias ? bias[own.begin + filter] : 0,
                         y + (own.begin + filter) * tiles.rows * tiles.columns * tiles.batch);
    }
}

}  // namespace

namespace winograd {

bool fits(const Plan& plan) {
  return plan.groups == 1 && plan.kernel_rows == 3 && plan.kernel_columns == 3 && plan.stride_rows == 1 &&
         plan.stride_columns == 1 && plan.dilation_rows == 1 && plan.dilation_columns == 1 && plan.pad_top <= 2 &&
         plan.pad_left <= 2 && plan.outputs > SMALL_MAP && std::min(plan.channels, plan.filters) >= FEW_CHANNELS &&
         plan.batch >= FEW_IMAGES && (MASKED || plan.batch % LANES == 0);
}

void forward(const Plan& plan, const float* x, const float* weight, const float* bias, float* y) {
  const Kernels kernels{plan.filters, plan.channels, plan.channels, 1};
  const Buffer transformed(FREQUENCIES * kernels.stride());
  transform_kernels(kernels, weight, false, transformed.data);
  convolve(plan.channels, plan.height, plan.width, plan.pad_top, plan.pad_left, x, kernels, transformed.data, bias,
           Tiles(plan.rows, plan.columns, plan.batch, COLUMNS), y);
}

void input_gradient(const Plan& plan, const float* dy, const float* weight, float* dx) {
  const Kernels kernels{plan.channels, plan.filters, 1, plan.channels};
  const Buffer transformed(FREQUENCIES * kernels.stride());
  transform_kernels(kernels, weight, true, transformed.data);
  convolve(plan.filters, plan.rows, plan.columns, 2 - plan.pad_top, 2 - plan.pad_left, dy, kernels, transformed.data,
           nullptr, Tiles(plan.height, plan.width, plan.batch, COLUMNS), dx);
}

void weight_gradient(const Plan& plan, const float* dy, const float* x, float* dweight) {
  const Kernels kernels{plan.filters, plan.channels, plan.channels, 1};
  const Tiles tiles(plan.rows, plan.columns, plan.batch, GRADIENT_COLUMNS);
  // Threads share out the tiles, each with sums of its own, and where those were too large the channels.
  const Index threads = omp_get_max_threads(), sums = FREQUENCIES * kernels.stride();
  const Index parts = std::clamp<Index>(MOST_SUMS / sums, 1, std::min(threads, tiles.blocks()));
  const Index shares = std::min((threads + parts - 1) / parts, plan.channels);
  const Buffer product(parts * sums);
  const ThreadBuffers inputs(Transformed::size((plan.channels + shares - 1) / shares, tiles));
  const ThreadBuffers gradients(Transformed::size(plan.filters, tiles));
#pragma omp parallel for schedule(static) collapse(2)
  for (Index part = 0; part < parts; ++part)
    for (Index share = 0; share < shares; ++share) {
      const Share blocks(tiles.blocks(), part, parts), own(plan.channels, share, shares);
      const Transformed seen(own.size, tiles, inputs.own()), gradient(plan.filters, tiles, gradients.own());
      for (Index block = blocks.begin; block < blocks.begin + blocks.size; ++block) {
        const Index first = block * tiles.of_block, end = std::min(first + tiles.of_block, tiles.count);
        const Index size = (end - first) * plan.batch;
        for (Index channel = 0; channel < own.size; ++channel)
          transform_input(tiles, first, end, x + (own.begin + channel) * plan.pixels * plan.batch, plan.height,
                          plan.width, plan.pad_top, plan.pad_left, seen, channel * size);
        for (Index filter = 0; filter < plan.filters; ++filter)
          transform_gradient(tiles, first, end, dy + filter * plan.outputs * plan.batch, gradient, filter * size);
        for (Index frequency = 0; frequency < FREQUENCIES; ++frequency)
          multiply(plan.filters, own.size, size, plain(gradient.at(frequency, 0), size),
                   transposed(seen.at(frequency, 0), size),
                   product.data + part * sums + frequency * kernels.stride() + own.begin, plan.channels,
                   block > blocks.begin);
      }
    }
  transform_kernel_gradient(kernels, product.data, parts, dweight);
}

}  // namespace winograd

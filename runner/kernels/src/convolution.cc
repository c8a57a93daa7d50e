// Convolutions as matrix products (Chellapilla et al., 2006): weights [O, C·T] times what each output pixel sees
// [C·T, pixels·N], gathered a block at a time so that it stays in the cache. In the batch-last layout a gathered row is
// made of runs of N floats, and a 1×1 convolution needs no gathering at all.

#include <omp.h>

#include <memory>

#include "boundary.h"
#include "plan.h"
#include "products.h"
#include "winograd.h"

namespace {

// Fewer channels than these are not shared out among threads.
constexpr Index FEW_CHANNELS = 8;

// What a block's pixels see of some channels: [channels · places, count · N].
void gather(const Plan& plan, const Block& block, const float* maps, Index channels, float* gathered) {
  const Index run = plan.batch, end = block.first + block.count;
  for (Index channel = 0; channel < channels; ++channel) {
    const float* map = maps + channel * plan.pixels * run;
    for (Index place : block.places)
      for (Index output = block.first, length; output < end; output += length) {
        const Index source = plan.source(output, place);
        length = 1;
        if (source < 0) {
          std::memset(gathered, 0, sizeof(float) * run);
        } else {
          // Neighbours are copied at once.
          while (output + length < end && plan.source(output + length, place) == source + length) ++length;
          std::memcpy(gathered, map + source * run, sizeof(float) * run * length);
        }
        gathered += run * length;
      }
  }
}

// The transpose of `gather`: add every gathered value to the pixel it came from.
void scatter(const Plan& plan, const Block& block, const float* gathered, Index channels, float* maps) {
  const Index run = plan.batch;
  for (Index channel = 0; channel < channels; ++channel) {
    float* map = maps + channel * plan.pixels * run;
    for (Index place : block.places)
      for (Index output = block.first; output < block.first + block.count; ++output, gathered += run) {
        const Index source = plan.source(output, place);
        if (source < 0) continue;
        float* to = map + source * run;
#pragma omp simd
        for (Index n = 0; n < run; ++n) to[n] += gathered[n];
      }
  }
}

// Weights [O, C/groups, T] as each block needs them: at its places alone. Blocks that need the same share it.
class BlockWeights {
 public:
  BlockWeights(const Plan& plan, const float* weight) {
    const Index rows = plan.filters * (plan.channels / plan.groups);
    for (const Block& block : plan.blocks) {
      const Index count = block.places.size(), number = of_block_.size();
      if (count == plan.places) {
        of_block_.push_back(weight);
      } else if (number && plan.blocks[number - 1].places == block.places) {
        of_block_.push_back(of_block_.back());
      } else {
        float* picked = picked_.emplace_back(std::make_unique<Buffer>(rows * count))->data;
#pragma omp parallel for schedule(static) if (rows * count > WORTH_THREADS)
        for (Index row = 0; row < rows; ++row)
          for (Index place = 0; place < count; ++place)
            picked[row * count + place] = weight[row * plan.places + block.places[place]];
        of_block_.push_back(picked);
      }
    }
  }
  const float* operator[](Index block) const { return of_block_[block]; }

 private:
  std::vector<const float*> of_block_;
  std::vector<std::unique_ptr<Buffer>> picked_;
};

Index shares(const Plan& plan, Index things) {
  const Index threads = omp_get_max_threads();
  return plan.groups >= threads ? 1 : std::min(threads, things);
}

// Floats of the widest block of some channels.
Index gathered_size(const Plan& plan, Index channels) { return channels * plan.widest * plan.batch; }

void add_bias(const float* bias, Index filters, Index size, float* y) {
#pragma omp parallel for schedule(static) if (filters * size > WORTH_THREADS)
  for (Index filter = 0; filter < filters; ++filter) {
    float* row = y + filter * size;
#pragma omp simd
    for (Index i = 0; i < size; ++i) row[i] += bias[filter];
  }
}

void bias_gradient(const float* dy, Index filters, Index size, float* dbias) {
#pragma omp parallel for schedule(static) if (filters * size > WORTH_THREADS)
  for (Index filter = 0; filter < filters; ++filter) {
    Vector total{};
    for (Index i = 0; i < size; i += LANES) total += load(dy + filter * size + i, size - i);
    dbias[filter] = sum(total);
  }
}

void forward(const Plan& plan, const float* x, const float* weight, const float* bias, float* y) {
  if (winograd::fits(plan)) return winograd::forward(plan, x, weight, bias, y);
  const Index size = plan.outputs * plan.batch;
  if (plan.is_pointwise()) {
    multiply(plan.filters, size, plan.channels, plain(weight, plan.channels), plain(x, size), y, size);
  } else {
    const Index channels = plan.channels / plan.groups, filters = plan.filters / plan.groups;
    const BlockWeights weights(plan, weight);
    const ThreadBuffers buffers(gathered_size(plan, channels));
#pragma omp parallel
    {
      float* gathered = buffers.own();
#pragma omp for schedule(static) collapse(2)
      for (Index group = 0; group < plan.groups; ++group)
        for (Index number = 0; number < static_cast<Index>(plan.blocks.size()); ++number) {
          const Block& block = plan.blocks[number];
          const Index depth = channels * block.places.size(), columns = block.count * plan.batch;
          gather(plan, block, x + group * channels * plan.pixels * plan.batch, channels, gathered);
          multiply(filters, columns, depth, plain(weights[number] + group * filters * depth, depth),
                   plain(gathered, columns), y + (group * filters * plan.outputs + block.first) * plan.batch, size);
        }
    }
  }
  if (bias) add_bias(bias, plan.filters, size, y);
}

void input_gradient(const Plan& plan, const float* dy, const float* weight, float* dx) {
  if (winograd::fits(plan)) return winograd::input_gradient(plan, dy, weight, dx);
  const Index size = plan.outputs * plan.batch;
  if (plan.is_pointwise()) {
    multiply(plan.channels, size, plan.filters, transposed(weight, plan.channels), plain(dy, size), dx, size);
    return;
  }
  const Index channels = plan.channels / plan.groups, filters = plan.filters / plan.groups;
  const Index map = plan.pixels * plan.batch, parts = shares(plan, channels);
  const BlockWeights weights(plan, weight);
  const ThreadBuffers buffers(gathered_size(plan, channels / parts + 1));
#pragma omp parallel
  {
    float* gathered = buffers.own();
#pragma omp for schedule(static) collapse(2)
    for (Index group = 0; group < plan.groups; ++group)
      for (Index part = 0; part < parts; ++part) {
        const Share own(channels, part, parts);
        float* maps = dx + (group * channels + own.begin) * map;
        std::memset(maps, 0, sizeof(float) * own.size * map);
        for (Index number = 0; number < static_cast<Index>(plan.blocks.size()); ++number) {
          const Block& block = plan.blocks[number];
          const Index places = block.places.size(), columns = block.count * plan.batch;
          const float* weight_of_own = weights[number] + (group * filters * channels + own.begin) * places;
          multiply(own.size * places, columns, filters, transposed(weight_of_own, channels * places),
                   plain(dy + (group * filters * plan.outputs + block.first) * plan.batch, size), gathered, columns);
          scatter(plan, block, gathered, own.size, maps);
        }
      }
  }
}

void weight_gradient(const Plan& plan, const float* dy, const float* x, float* dweight, float* dbias) {
  const Index size = plan.outputs * plan.batch;
  if (dbias) bias_gradient(dy, plan.filters, size, dbias);
  if (winograd::fits(plan)) return winograd::weight_gradient(plan, dy, x, dweight);
  if (plan.is_pointwise()) {
    multiply(plan.filters, plan.channels, size, plain(dy, size), transposed(x, size), dweight, plan.channels);
    return;
  }
  const Index channels = plan.channels / plan.groups, filters = plan.filters / plan.groups;
  // A few channels, such as the three of an image, cannot be shared out evenly, but their filters can.
  const bool by_channel = channels >= FEW_CHANNELS;
  const Index parts = shares(plan, by_channel ? channels : filters), row = channels * plan.places;
  std::memset(dweight, 0, sizeof(float) * plan.filters * row);
  const ThreadBuffers blocks(gathered_size(plan, by_channel ? channels / parts + 1 : channels));
  const ThreadBuffers products(filters * row);
#pragma omp parallel
  {
    float *gathered = blocks.own(), *product = products.own();
#pragma omp for schedule(static) collapse(2)
    for (Index group = 0; group < plan.groups; ++group)
      for (Index part = 0; part < parts; ++part) {
        const Share seen = by_channel ? Share(channels, part, parts) : Share(channels, 0, 1);
        const Share made = by_channel ? Share(filters, 0, 1) : Share(filters, part, parts);
        const Index first_filter = group * filters + made.begin;
        float* to = dweight + first_filter * row + seen.begin * plan.places;
        for (const Block& block : plan.blocks) {
          const Index places = block.places.size(), depth = seen.size * places, columns = block.count * plan.batch;
          const float* gradient = dy + (first_filter * plan.outputs + block.first) * plan.batch;
          gather(plan, block, x + (group * channels + seen.begin) * plan.pixels * plan.batch, seen.size, gathered);
          if (places == plan.places) {
            multiply(made.size, depth, columns, plain(gradient, size), transposed(gathered, columns), to, row, true);
            continue;
          }
          multiply(made.size, depth, columns, plain(gradient, size), transposed(gathered, columns), product, depth);
          for (Index filter = 0; filter < made.size; ++filter)
            for (Index channel = 0; channel < seen.size; ++channel)
              for (Index place = 0; place < places; ++place)
                to[filter * row + channel * plan.places + block.places[place]] +=
                    product[filter * depth + channel * places + place];
        }
      }
  }
}

}  // namespace

// x [C, H, W, N], weight [O, C/groups, T], bias [O] or null → y [O, H', W', N].
EXPORT int convolution_forward(const Plan* plan, const float* x, const float* weight, const float* bias, float* y) {
  return guarded([=] { forward(*plan, x, weight, bias, y); });
}

// dy [O, H', W', N], weight [O, C/groups, T] → dx [C, H, W, N].
EXPORT int convolution_input_gradient(const Plan* plan, const float* dy, const float* weight, float* dx) {
  return guarded([=] { input_gradient(*plan, dy, weight, dx); });
}

// dy [O, H', W', N], x [C, H, W, N] → dweight [O, C/groups, T], and dbias [O] unless null.
EXPORT int convolution_weight_gradient(const Plan* plan, const float* dy, const float* x, float* dweight,
                                       float* dbias) {
  return guarded([=] { weight_gradient(*plan, dy, x, dweight, dbias); });
}

// The kernels of relu.cc for CUDA devices, with the half-precision types of mixed-precision training.

#include <algorithm>

#include "paddle/phi/api/all.h"

namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 4096;

// Half-precision values are compared as float: not every architecture compares them itself.
template <typename T>
struct Comparable {
  using type = float;
};
template <>
struct Comparable<double> {
  using type = double;
};

template <typename T>
__global__ void Forward(const T* input, T* output, int64_t count) {
  using C = typename Comparable<T>::type;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    output[i] = static_cast<C>(input[i]) < C(0) ? static_cast<T>(0.0f) : input[i];
  }
}

template <typename T>
__global__ void Backward(const T* output, const T* upstream, T* downstream, int64_t count) {
  using C = typename Comparable<T>::type;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    downstream[i] = static_cast<C>(output[i]) > C(0) ? upstream[i] : static_cast<T>(0.0f);
  }
}

int Blocks(int64_t count) { return static_cast<int>(std::min((count + kThreads - 1) / kThreads, kMaxBlocks)); }

}  // namespace

paddle::Tensor ReluForwardCuda(const paddle::Tensor& x) {
  auto out = paddle::empty_like(x);
  if (x.numel() == 0) return out;
  PD_DISPATCH_FLOATING_AND_HALF_TYPES(x.dtype(), "runner_relu forward", ([&] {
    Forward<data_t><<<Blocks(x.numel()), kThreads, 0, x.stream()>>>(x.data<data_t>(), out.data<data_t>(), x.numel());
  }));
  return out;
}

paddle::Tensor ReluBackwardCuda(const paddle::Tensor& out, const paddle::Tensor& out_grad) {
  auto x_grad = paddle::empty_like(out);
  if (out.numel() == 0) return x_grad;
  PD_DISPATCH_FLOATING_AND_HALF_TYPES(out.dtype(), "runner_relu backward", ([&] {
    Backward<data_t><<<Blocks(out.numel()), kThreads, 0, out.stream()>>>(
        out.data<data_t>(), out_grad.data<data_t>(), x_grad.data<data_t>(), out.numel());
  }));
  return x_grad;
}

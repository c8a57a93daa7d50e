// ReLU as an operator of its own: kernels for the CPU, dispatch to those of relu.cu, shapes and the gradient.

#include <vector>

#include "paddle/phi/api/all.h"

#ifdef PADDLE_WITH_CUDA
paddle::Tensor ReluForwardCuda(const paddle::Tensor& x);
paddle::Tensor ReluBackwardCuda(const paddle::Tensor& out, const paddle::Tensor& out_grad);
#endif

namespace {

paddle::Tensor ReluForwardCpu(const paddle::Tensor& x) {
  auto out = paddle::empty_like(x);
  PD_DISPATCH_FLOATING_TYPES(x.dtype(), "runner_relu forward", ([&] {
    const data_t* input = x.data<data_t>();
    data_t* output = out.data<data_t>();
    for (int64_t i = 0; i < x.numel(); ++i) {
      // Written this way round, NaN stays NaN and a diverged run is noticed.
      output[i] = input[i] < data_t(0) ? data_t(0) : input[i];
    }
  }));
  return out;
}

paddle::Tensor ReluBackwardCpu(const paddle::Tensor& out, const paddle::Tensor& out_grad) {
  auto x_grad = paddle::empty_like(out);
  PD_DISPATCH_FLOATING_TYPES(out.dtype(), "runner_relu backward", ([&] {
    const data_t* output = out.data<data_t>();
    const data_t* upstream = out_grad.data<data_t>();
    data_t* downstream = x_grad.data<data_t>();
    for (int64_t i = 0; i < out.numel(); ++i) {
      downstream[i] = output[i] > data_t(0) ? upstream[i] : data_t(0);
    }
  }));
  return x_grad;
}

std::vector<paddle::Tensor> ReluForward(const paddle::Tensor& x) {
#ifdef PADDLE_WITH_CUDA
  if (x.is_gpu()) return {ReluForwardCuda(x)};
#endif
  PD_CHECK(x.is_cpu(), "runner_relu runs on CPU and, if built with CUDA, on GPU.");
  return {ReluForwardCpu(x)};
}

std::vector<paddle::Tensor> ReluBackward(const paddle::Tensor& out, const paddle::Tensor& out_grad) {
#ifdef PADDLE_WITH_CUDA
  if (out.is_gpu()) return {ReluBackwardCuda(out, out_grad)};
#endif
  return {ReluBackwardCpu(out, out_grad)};
}

}  // namespace

PD_BUILD_OP(runner_relu).Inputs({"X"}).Outputs({"Out"}).SetKernelFn(PD_KERNEL(ReluForward));

PD_BUILD_GRAD_OP(runner_relu)
    .Inputs({"Out", paddle::Grad("Out")})
    .Outputs({paddle::Grad("X")})
    .SetKernelFn(PD_KERNEL(ReluBackward));

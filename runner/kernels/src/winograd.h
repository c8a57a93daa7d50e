// The faster way of 3×3 convolutions without a stride.
#pragma once

#include "plan.h"

namespace winograd {

bool fits(const Plan& plan);

// The arguments are those of `convolution_forward` and its gradients.
void forward(const Plan& plan, const float* x, const float* weight, const float* bias, float* y);
void input_gradient(const Plan& plan, const float* dy, const float* weight, float* dx);
void weight_gradient(const Plan& plan, const float* dy, const float* x, float* dweight);

}  // namespace winograd

"""The ReLU operator of this package on a GPU against Paddle's: values and gradients."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from runner.models.ops import custom_relu

#: One element, fewer than a block of threads has, an odd number of blocks, and more than all blocks take at once.
SHAPES = [(1,), (3, 5, 7), (1025,), (5, 1 << 20)]


@pytest.mark.gpu(real=True)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_custom_relu(dtype, record_property):
    generator, count = np.random.default_rng(0), 0
    for shape in SHAPES:
        values = generator.standard_normal(shape).astype(np.float32)
        values.flat[0] = 0.0
        upstream = paddle.to_tensor(generator.standard_normal(shape).astype(np.float32)).astype(dtype)
        results = []
        for function in (custom_relu, F.relu):
            x = paddle.to_tensor(values).astype(dtype)
            x.stop_gradient = False
            y = function(x)
            y.backward(upstream)
            assert y.dtype == x.dtype
            results.append([tensor.astype("float32").numpy() for tensor in (y, x.grad)])
        for ours, theirs in zip(*results, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        count += values.size
    record_property("figure", f"{count:,} values and gradients are equal")


@pytest.mark.gpu(real=True)
def test_custom_relu_keeps_what_is_not_a_number_and_takes_nothing():
    assert np.isnan(custom_relu(paddle.to_tensor([float("nan")])).numpy()).all()
    assert custom_relu(paddle.zeros([0, 3])).shape == [0, 3]

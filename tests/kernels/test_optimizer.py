"""AdamW in one pass does what Paddle's does."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from runner.kernels import native
from runner.kernels.optimizer import AdamW

pytestmark = pytest.mark.skipif(bool(native.unavailable()), reason="no compiled kernels here")


def trained(kind, steps, state=None, wide=(), dtype="float64"):
    """The network and optimizer after some steps on random gradients; the last layer has no gradient at first.

    wide: layers that compute in `dtype`.
    """
    paddle.seed(0)
    network = nn.Sequential(nn.Linear(130, 70), nn.ReLU(), nn.Linear(70, 3), nn.Linear(3, 3))
    for number in wide:
        network[number].to(dtype=dtype)
    groups = [
        {"params": [network[0].weight, network[2].weight], "weight_decay": 0.1},
        {"params": [network[0].bias, network[2].bias], "weight_decay": 0.0, "learning_rate": 0.3},
        {"params": network[3].parameters(), "weight_decay": 0.0},
    ]
    schedule = paddle.optimizer.lr.StepDecay(0.02, 3, 0.5)
    optimizer = kind(learning_rate=schedule, parameters=groups, beta1=0.8, beta2=0.95, epsilon=1e-6)
    if state:
        network.set_state_dict(state[0])
        optimizer.set_state_dict(state[1])
    for step in range(*steps):
        images = paddle.to_tensor(np.random.default_rng(step).standard_normal((5, 130), dtype=np.float32))
        for layer in network if step >= 2 else network[:3]:
            weights = layer.parameters()
            images = layer(images.astype(weights[0].dtype) if weights else images)
        images.square().sum().backward()
        optimizer.step()
        optimizer.clear_grad(set_to_zero=step % 2 == 0)
        schedule.step()
    return network, optimizer


def arrays(state):
    return {name: value.numpy() for name, value in state.items() if isinstance(value, paddle.Tensor)}


def test_weights_and_state_equal_paddles():
    # Parameters are named by a counter: the two must begin at the same place.
    with paddle.utils.unique_name.guard():
        plain = trained(paddle.optimizer.AdamW, (0, 9))
    with paddle.utils.unique_name.guard():
        fast = trained(AdamW, (0, 9))
    for ours, theirs in zip(fast, plain, strict=True):
        expected = arrays(theirs.state_dict())
        found = arrays(ours.state_dict())
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_it_goes_on_from_its_state_bit_for_bit():
    with paddle.utils.unique_name.guard():
        whole, _ = trained(AdamW, (0, 8))
    with paddle.utils.unique_name.guard():
        half = trained(AdamW, (0, 5))
        state = [{name: value.clone() for name, value in half[0].state_dict().items()}, half[1].state_dict()]
    with paddle.utils.unique_name.guard():
        resumed, _ = trained(AdamW, (5, 8), state)
    for name, value in whole.state_dict().items():
        np.testing.assert_array_equal(resumed.state_dict()[name].numpy(), value.numpy())


def test_parameters_of_float64_are_changed_by_paddle():
    found = []
    for kind in (paddle.optimizer.AdamW, AdamW):
        with paddle.utils.unique_name.guard():
            network, optimizer = trained(kind, (0, 5), wide=(0, 2, 3))
        found.append((arrays(network.state_dict()), arrays(optimizer.state_dict())))
    for ours, theirs in zip(found[1], found[0], strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert ours[name].dtype == value.dtype
            np.testing.assert_array_equal(ours[name], value, err_msg=name)


@pytest.mark.parametrize("wide", [(0,), (3,)])
def test_parameters_of_two_types_are_refused_by_paddle_as_without(wide):
    for kind in (paddle.optimizer.AdamW, AdamW):
        with pytest.raises(ValueError, match="float64"):
            trained(kind, (0, 5), wide=wide)


def test_parameters_that_become_float64_between_steps_are_changed_as_by_paddle():
    messages = []
    for kind in (paddle.optimizer.AdamW, AdamW):
        layer = nn.Linear(3, 2)
        optimizer = kind(learning_rate=0.1, parameters=[{"params": layer.parameters(), "weight_decay": 0.1}])
        layer(paddle.ones([1, 3])).sum().backward()
        optimizer.step()
        optimizer.clear_grad()
        layer.to(dtype="float64")
        layer(paddle.ones([1, 3], dtype="float64")).sum().backward()
        with pytest.raises(Exception, match="float") as refused:
            optimizer.step()
        messages.append(str(refused.value).splitlines()[0])
    assert messages[0] == messages[1]

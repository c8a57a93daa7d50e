"""Hints against the paper's formula, and whose their learnt adapters are."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from runner.training.hints import Adapters, hint


def maps(*shape, seed=0):
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return paddle.to_tensor(values, stop_gradient=False)


def adapters(own, other, seed=1):
    made = Adapters()
    made.add("features", "student", "teacher", {"a": own}, {"b": other}, seed)
    return made


def loss_of(made, own, other):
    return hint(made.adapted("features", "student", "teacher", {"a": own}), {"b": other})


def averaged(values, size):
    """Means of areas of equal size, in float64."""
    count, channels, height, width = values.shape
    return values.reshape(count, channels, size[0], height // size[0], size[1], width // size[1]).mean((3, 5))


@pytest.mark.parametrize(("own_size", "size"), [((4, 6), (4, 6)), ((4, 6), (2, 3)), ((2, 3), (4, 6))])
def test_a_hint_is_the_squared_difference_of_regressed_maps_averaged_to_the_smaller_size(own_size, size):
    own, other = maps(3, 2, *own_size), maps(3, 5, *size, seed=1)
    made = adapters(own, other)
    [weight, bias] = (value.numpy().astype(np.float64) for value in made.parameters.values())
    bias += 0.3
    made.parameters["adapters/features/student/teacher/a.bias"].set_value(bias.astype(np.float32))
    smaller = np.minimum(own_size, size)
    regressed = np.einsum("oc,nchw->nohw", weight[:, :, 0, 0], own.numpy().astype(np.float64)) + bias[:, None, None]
    difference = averaged(regressed, smaller) - averaged(other.numpy().astype(np.float64), smaller)
    assert float(loss_of(made, own, other)) == pytest.approx(np.mean(difference**2), rel=1e-5)


def test_maps_and_adapters_have_gradients_and_steps_of_the_adapters_alone_bring_the_maps_nearer():
    own, other = maps(4, 3, 5, 5), maps(4, 6, 5, 5, seed=2).detach()
    made = adapters(own, other)
    first = loss_of(made, own, other)
    first.backward()
    assert own.grad.numpy().any()
    for parameter in made.parameters.values():
        parameter.set_value(parameter - 0.5 * parameter.grad)
    assert float(loss_of(made, own, other)) < float(first)


def test_adapters_are_a_function_of_seed_and_name_and_draw_nothing():
    own, other = maps(2, 3, 4, 4), maps(2, 3, 4, 4)
    paddle.seed(5)
    drawn = paddle.rand([3]).numpy()
    paddle.seed(5)
    first = adapters(own, other)
    np.testing.assert_array_equal(paddle.rand([3]).numpy(), drawn)
    again, others = adapters(own, other), adapters(own, other, seed=2)
    name = "adapters/features/student/teacher/a.weight"
    np.testing.assert_array_equal(first.parameters[name].numpy(), again.parameters[name].numpy())
    assert not np.array_equal(first.parameters[name].numpy(), others.parameters[name].numpy())


def test_each_network_has_the_adapters_of_its_own_maps():
    made, features = Adapters(), {"a": maps(2, 3, 4, 4)}
    for name, peer in (("student", "student1"), ("student1", "student")):
        made.add("features/student1", name, peer, features, features, seed=0)
    named = {name: [key for key, _ in made.of([name])] for name in ("student", "student1", "student2")}
    assert [len(keys) for keys in named.values()] == [2, 2, 0]
    assert all(key.startswith("adapters/features/student1/student1/student/") for key in named["student1"])
    assert len([*made.of(["student", "student1"])]) == 4


def test_a_term_without_adapters_compares_maps_as_they_are():
    features = {"a": maps(2, 3, 4, 4)}
    assert Adapters().adapted("features", "student", "teacher", features) is features

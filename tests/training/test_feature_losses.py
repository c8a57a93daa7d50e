"""Feature losses against formulas written by hand."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from runner import config as cfg
from runner.errors import ConfigError
from runner.training import feature_losses


def maps(*shape, seed=0, scale=1.0):
    values = np.random.default_rng(seed).standard_normal(shape) * scale
    return paddle.to_tensor(values.astype(np.float32), stop_gradient=False)


def attention_transfer(own, other):
    return feature_losses.attention_transfer({"a": own}, {"b": other})


def by_hand(own, other):
    """The paper's formula for maps of one size, with loops over images and pixels."""
    own, other = own.numpy().astype(np.float64), other.numpy().astype(np.float64)
    total, (count, _, height, width) = 0.0, own.shape
    for image in range(count):
        attentions = []
        for values in (own[image], other[image]):
            attention = np.array([[np.sum(values[:, y, x] ** 2) for x in range(width)] for y in range(height)])
            attentions.append(attention / np.sqrt(np.sum(attention**2)))
        total += np.mean((attentions[0] - attentions[1]) ** 2)
    return total / count


@pytest.mark.parametrize("channels", [(4, 4), (4, 7), (1, 16)])
def test_attention_transfer_is_the_papers_formula_for_any_numbers_of_channels(channels):
    own, other = maps(3, channels[0], 5, 4), maps(3, channels[1], 5, 4, seed=1)
    assert float(attention_transfer(own, other)) == pytest.approx(by_hand(own, other), rel=1e-5)


def test_pairs_of_layers_add_up():
    pairs = [(maps(2, 3, 4, 4, seed=seed), maps(2, 5, 4, 4, seed=seed + 9)) for seed in (1, 2)]
    both = feature_losses.attention_transfer({"a": pairs[0][0], "b": pairs[1][0]}, {"x": pairs[0][1], "y": pairs[1][1]})
    assert both.shape == []
    assert float(both) == pytest.approx(sum(by_hand(*pair) for pair in pairs), rel=1e-5)


def test_attention_does_not_depend_on_how_strong_the_activations_are():
    own = maps(3, 4, 5, 5)
    assert float(attention_transfer(own, 30 * own)) == pytest.approx(0, abs=1e-10)
    strong, weak = maps(3, 4, 5, 5, seed=1, scale=1e4), maps(3, 4, 5, 5, seed=1, scale=1e-4)
    assert float(attention_transfer(own, strong)) == pytest.approx(float(attention_transfer(own, weak)), rel=1e-4)


def test_the_larger_of_two_attentions_is_averaged_down():
    own, other = maps(2, 3, 8, 8), maps(2, 5, 4, 4, seed=1)
    energy = own.square().sum(axis=1, keepdim=True).reshape([2, 1, 4, 2, 4, 2]).mean([3, 5])
    assert float(attention_transfer(own, other)) == pytest.approx(by_hand(energy.sqrt(), other), rel=1e-5)
    assert float(attention_transfer(other, own)) == pytest.approx(float(attention_transfer(own, other)), rel=1e-5)


def test_sizes_that_are_no_multiples_of_each_other_meet_at_the_smaller_sides():
    loss = attention_transfer(maps(2, 3, 7, 3), maps(2, 3, 4, 5, seed=1))
    loss.backward()
    assert 0 < float(loss) < 1


def test_the_gradient_is_that_of_the_formula():
    own, other = maps(2, 3, 3, 3), maps(2, 4, 3, 3, seed=1)
    attention_transfer(own, other.detach()).backward()
    step, values = 1e-3, own.numpy()
    for place in [(0, 0, 0, 0), (1, 2, 1, 2), (0, 1, 2, 0)]:
        moved = []
        for sign in (1, -1):
            changed = values.copy()
            changed[place] += sign * step
            moved.append(by_hand(paddle.to_tensor(changed), other))
        assert own.grad.numpy()[place] == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-2, abs=1e-5)


def test_images_for_which_nothing_is_active_leave_loss_and_gradient_finite():
    values = maps(3, 4, 5, 5).numpy()
    values[1] = 0
    own = paddle.to_tensor(values, stop_gradient=False)
    loss = attention_transfer(own, maps(3, 4, 5, 5, seed=1))
    loss.backward()
    assert np.isfinite(float(loss))
    assert np.isfinite(own.grad.numpy()).all()
    assert own.grad.numpy()[[0, 2]].any()


@pytest.mark.parametrize(("own", "other"), [((1, 1), (1, 1)), ((4, 4), (1, 1)), ((1, 4), (4, 1))])
def test_maps_that_have_one_pixel_in_common_are_refused(own, other):
    with pytest.raises(ConfigError, match="'a' and the peer's 'b' have one pixel in common.*Name earlier layers"):
        attention_transfer(maps(2, 3, *own), maps(2, 3, *other))


def test_a_loss_of_the_user_is_called_with_both_and_its_arguments():
    loss = feature_losses.build(cfg.CustomFeatureLoss(target="tests.samples:mean_difference", kwargs={"scale": 3.0}))
    own, other = maps(2, 3, 4, 4), maps(2, 5, 2, 2, seed=1)
    expected = 3 * np.mean((own.numpy().mean((1, 2, 3)) - other.numpy().mean((1, 2, 3))) ** 2)
    assert float(loss({"a": own}, {"b": other})) == pytest.approx(expected, rel=1e-5)

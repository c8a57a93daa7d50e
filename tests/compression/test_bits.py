"""How many bits each weight has, by its name and by what fewer would do; and the ranges that suit them."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paddle import nn

from runner import config as cfg
from runner.compression import adaround, bias_correction, bits, ptq, qat, ranges, slim
from runner.errors import ConfigError
from tests.conftest import composed


def network():
    """The second layer is told apart: its weights are a hundred times as large."""
    paddle.seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Linear(8, 8), nn.Linear(8, 4))
    layers[2].weight.set_value(layers[2].weight * 100)
    layers.eval()
    return layers


def images():
    return [paddle.to_tensor(np.random.default_rng(0).standard_normal((16, 3, 2, 2), dtype=np.float32))]


def settings(**own):
    return cfg.TrainedQuantization(pact=cfg.Pact(enabled=False), **own)


def test_the_last_pattern_that_matches_decides():
    chosen = bits.by_name(settings(weight_bits=6, layer_bits={"[12]": 3, "2": 4}), ["1", "2", "3"])
    assert chosen == {"1": 3, "2": 4, "3": 6}


def test_layers_round_to_their_own_bits():
    layers = network()
    qat.quantize_and_calibrate(layers, settings(layer_bits={"3": 3}), images(), trained=True)
    quantized = slim.fake_quantized(layers)
    assert {name: slim.bits(layer)[0] for name, layer in quantized.items()} == {"1": 8, "2": 8, "3": 3}
    column = slim.rounded_weight(quantized["3"]).numpy()[:, 0] / slim.weight_ranges(quantized["3"])[0]
    np.testing.assert_allclose(column * 3, np.round(column * 3), atol=1e-5)


@pytest.mark.parametrize("budget", [3.0, 5.5])
def test_a_budget_is_kept_and_the_same_plan_is_made_every_time(budget):
    own = settings(average_weight_bits=budget, layer_bits={"3": 8})
    plans = [bits.chosen(network(), own, ["1", "2", "3"], images()) for _ in range(2)]
    assert plans[0] == plans[1]
    assert plans[0]["3"] == 8
    sizes = {"1": 96, "2": 64, "3": 32}
    assert sum(sizes[name] * plans[0][name] for name in sizes) <= budget * sum(sizes.values())


def test_what_harms_least_gives_most():
    layers = network()
    # Weights of one magnitude a channel need no more than two bits.
    layers[1].weight.set_value(layers[1].weight.sign())
    before = [value.numpy() for value in layers.parameters()]
    said = []
    plan = bits.chosen(layers, settings(average_weight_bits=4.5), ["1", "2", "3"], images(), said.append)
    assert plan["1"] == 2 < plan["2"]
    assert said[-1].startswith("weight bits: ")
    for value, kept in zip(layers.parameters(), before, strict=True):
        np.testing.assert_array_equal(value.numpy(), kept)


def test_the_analysis_sees_its_images_whatever_the_ranges_are_measured_on():
    layers, seen, said = network(), [], []
    layers.register_forward_pre_hook(lambda _layer, inputs: seen.append(len(inputs[0])))
    batches = [batch for _ in range(5) for batch in images()[0].split(4)]
    own = settings(average_weight_bits=4.0, sensitivity_images=70, calibration_batches=1)
    qat.quantize_and_calibrate(layers, own, batches, trained=True, report=said.append)
    assert seen[:2] == [64, 6]
    assert seen[-1] == 4
    assert "training images" not in " ".join(said)


def test_a_training_set_with_fewer_images_than_the_analysis_asks_for_is_said():
    said = []
    own = settings(average_weight_bits=4.0, sensitivity_images=2000)
    bits.chosen(network(), own, ["1", "2", "3"], images(), said.append)
    assert "measured on all 16 training images: compression.quantize.sensitivity_images=2000 asks for more" in said[0]


def test_the_change_of_the_logits_is_the_mean_over_all_images_in_however_many_passes():
    layers, [together] = network(), images()
    expected = np.square((layers(together) * 1.5 - layers(together)).numpy()).mean()
    for size in (1, 5, 16):
        batches = together.split([size] * (16 // size) + [16 % size] * (16 % size > 0))
        changed = bits._change(layers, batches, [layers(batch) * 1.5 for batch in batches])
        assert changed == pytest.approx(expected, rel=1e-5)


def test_bits_that_a_large_layer_leaves_go_to_small_ones_again():
    # By harm per bit the small layers lose theirs first, and then the large one falls far below the budget.
    harm = {
        "small": {2: 0.3, 3: 0.2, 4: 0.1, 5: 0.0}, "other": {2: 0.2, 3: 0.1, 4: 0.05, 5: 0.0},
        "large": {2: 900.0, 3: 500.0, 4: 200.0, 5: 0.0},
    }  # fmt: skip
    sizes = {"small": 10, "other": 20, "large": 1000}
    assert bits.allocate(sizes, harm, 4000 + 5 * 30) == {"small": 5, "other": 5, "large": 4}
    # The most harm saved per bit comes first.
    assert bits.allocate(sizes, harm, 4000 + 5 * 10 + 3 * 20) == {"small": 5, "other": 3, "large": 4}
    assert bits.allocate(sizes, harm, 4000 + 5 * 10 + 3 * 20 - 1) == {"small": 5, "other": 2, "large": 4}


@given(
    layers=st.lists(
        st.tuples(st.integers(1, 3000), st.lists(st.floats(0, 100), min_size=7, max_size=7)), min_size=1, max_size=8
    ),
    average=st.floats(2, 8),
    most=st.integers(3, 8),
)
def test_a_budget_is_kept_and_no_raise_that_fits_it_is_left(layers, average, most):
    sizes = {str(number): size for number, (size, _) in enumerate(layers)}
    steps = [one for one in bits.TRIED if one <= most]
    harm = {
        str(number): dict(zip(steps, sorted(curve, reverse=True)[: len(steps)], strict=True))
        for number, (_, curve) in enumerate(layers)
    }
    budget = average * sum(sizes.values())
    plan = bits.allocate(sizes, harm, budget)
    left = budget - sum(sizes[name] * own for name, own in plan.items())
    assert left >= 0
    assert all(own == most or sizes[name] > left for name, own in plan.items())
    assert plan == bits.allocate(sizes, harm, budget)


def test_a_budget_that_named_layers_exceed_is_refused():
    with pytest.raises(ConfigError, match=r"at least 5 bits on average. Raise it, or name fewer layers"):
        bits.check(network(), settings(average_weight_bits=3.0, layer_bits={"1": 8}), ["1", "2", "3"])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["+compression.quantize.layer_bits={out:9}"], "must be at least 2 and at most 8"),
        (["compression.quantize.weight_bits=4", "compression.quantize.average_weight_bits=6"], "Raise that, or lower"),
    ],
)
def test_bits_that_cannot_be_are_refused(words, reason):
    with pytest.raises(ConfigError, match=reason):
        composed("compression=qat", *words)


@pytest.mark.parametrize("key", ["adaround.enabled", "bias_correction", "weight_range", "lr_factor"])
def test_what_another_kind_of_quantization_has_is_refused_with_the_one_that_has_it(key):
    has, lacks = ("lsq", "ptq") if key == "lr_factor" else ("ptq", "qat")
    with pytest.raises(ConfigError, match=f"compression={has}"):
        composed(f"compression={lacks}", f"+compression.quantize.{key}=1")


def test_the_least_squared_error_is_within_the_largest_weight_and_better():
    weight = np.random.default_rng(0).standard_normal((4, 200)).astype(np.float32)
    weight[:, 0] = 8.0
    mse = cfg.CalibratedQuantization(weight_range=cfg.WeightRange.mse)
    largest, best = (ranges.of_weight(weight, 0, 4, one) for one in (cfg.CalibratedQuantization(), mse))
    assert (best < largest).all()

    def error(magnitudes):
        return np.square(weight - ranges.rounded(weight, magnitudes, 0, 4)).sum()

    assert error(best) < 0.8 * error(largest)


def compressible():
    paddle.seed(0)
    layers = nn.Sequential(
        nn.Conv2D(4, 16, 1, bias_attr=False), nn.BatchNorm2D(16), nn.ReLU(), nn.Conv2D(16, 16, 3, padding=1, groups=16),
        nn.ReLU(), nn.Conv2D(16, 8, 1), nn.Flatten(), nn.Linear(8 * 36, 10),
    )  # fmt: skip
    layers.eval()
    return layers


def correlated(seed):
    generator = np.random.default_rng(seed)
    mixed = np.einsum(
        "ck,nkhw->nchw", np.random.default_rng(9).standard_normal((4, 2)), 1 + generator.standard_normal((48, 2, 6, 6))
    )
    return paddle.to_tensor(mixed.astype(np.float32))


def calibrated(**own):
    layers = compressible()
    own = {"weight_bits": 3, "weight_range": cfg.WeightRange.mse, **own}
    said: list[str] = []
    ptq.quantize_and_calibrate(
        layers, cfg.CalibratedQuantization(**own), [correlated(1), correlated(2)], compressible(), 0, said.append
    )
    layers.eval()
    assert paddle.is_grad_enabled()
    return layers, said


@pytest.mark.parametrize("own", [{"bias_correction": True}, {"adaround": cfg.AdaRound(enabled=True)}])
def test_layers_are_compared_on_their_images_whatever_the_ranges_are_measured_on(monkeypatch, own):
    seen = []
    monkeypatch.setattr(adaround, "round_weights", lambda *words: seen.append(sum(map(len, words[3]))))
    monkeypatch.setattr(bias_correction, "correct", lambda *words: seen.append(sum(map(len, words[2]))))
    batches, layers = [*correlated(1).split(12)] * 25, compressible()
    settings = cfg.CalibratedQuantization(calibration_batches=1, **own)
    ptq.quantize_and_calibrate(layers, settings, batches, compressible())
    assert seen == [ptq.COMPARED_IMAGES]


def noise(layers):
    expected = compressible()(correlated(3)).numpy()
    return float(np.square(layers(correlated(3)).numpy() - expected).mean())


def test_corrected_biases_bring_back_the_means():
    plain, corrected = calibrated()[0], calibrated(bias_correction=True)[0]

    def shift(layers, places):
        reference, own, x = compressible()[:places], layers[:places], paddle.concat([correlated(1), correlated(2)])
        return np.abs((own(x) - reference(x)).numpy().mean(axis=(0, 2, 3))).max()

    # The first convolution has no bias, but a normalisation; the third has one.
    for places in (2, 6):
        assert shift(corrected, places) < 0.2 * shift(plain, places)
    assert noise(corrected) < noise(plain)


def test_rounding_by_adaround_is_better_stays_on_the_grid_and_follows_its_seed():
    plain, _ = calibrated()
    (rounded, said), (again, _) = (calibrated(adaround=cfg.AdaRound(enabled=True, iterations=150)) for _ in range(2))
    assert noise(rounded) < 0.8 * noise(plain)
    assert "AdaRound: 4 of 4 layers" in said[-1]
    for name, layer in slim.fake_quantized(rounded).items():
        np.testing.assert_allclose(slim.rounded_weight(layer).numpy(), layer.weight.numpy(), atol=1e-5)
        np.testing.assert_array_equal(slim.fake_quantized(again)[name].weight.numpy(), layer.weight.numpy())
        before = dict(compressible().named_sublayers())[name].weight.numpy()
        axis = slim.channel_axis(layer)
        shape = [-1 if place == axis else 1 for place in range(before.ndim)]
        steps = (slim.weight_ranges(layer) / 3).reshape(shape)
        clipped = np.clip(before, -3 * steps, 3 * steps)
        # Up or down, and nowhere else.
        assert (np.abs(layer.weight.numpy() - clipped) <= steps * 1.001).all()

"""How much each layer loses: the budget is met, and by no more than a step of channels."""

from __future__ import annotations

import itertools

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn

from runner import config as cfg
from runner.compression import allocation, dependencies, importance, pruning, shapes, slim
from runner.compression.plan import grown
from runner.errors import ConfigError
from runner.models import cost
from runner.training import seeding
from tests.compression.test_pruning import KINDS, built, pruned
from tests.samples import evidence

SHAPE = (3, 32, 32)


def batches(count=2):
    """Random images and labels, the same every time."""
    random = np.random.default_rng(0)
    for _ in range(count):
        yield paddle.to_tensor(random.normal(size=(4, *SHAPE)).astype(np.float32)), paddle.to_tensor([0, 1, 2, 3])


def accuracy_of(network):
    """As many parts of the accuracy as of the weights are left."""
    everything = slim.parameters(network)
    return lambda: slim.parameters(network) / everything


@pytest.mark.parametrize("allocation", cfg.Allocation)
@pytest.mark.parametrize("budget", [cfg.Budget.filters, cfg.Budget.macs, cfg.Budget.params])
def test_every_allocation_meets_every_budget(budget, allocation):
    network = built()
    plan = pruned(
        network, evidence(accuracy_of(network)), ratio=0.4, budget=budget, allocation=allocation, channel_multiple=1,
        criterion="l2_norm",
    )  # fmt: skip
    before, after = {"filters": plan.filters, "macs": plan.macs, "params": plan.params}[budget.name]
    assert 0.4 - 0.02 * (budget is cfg.Budget.filters) <= 1 - after / before < 0.45
    assert plan.macs[1] == cost.macs(network, SHAPE)
    assert plan.params[1] == slim.parameters(network)


def test_a_budget_that_cannot_be_met_is_refused_with_what_can():
    with pytest.raises(ConfigError, match=r"all that may be removed of MobileNetV3 is .*% of its params"):
        pruned(built(), ratio=0.99, budget=cfg.Budget.params)


def test_a_ranking_takes_from_the_layers_whose_scores_are_low():
    network = built(KINDS["resnet18"])
    network.layer1[0].bn1.weight.set_value(paddle.full([64], 0.01))
    plan = pruned(network, ratio=0.02, budget=cfg.Budget.macs, allocation=cfg.Allocation.ranking, criterion="bn_scale")
    assert list(plan.channels) == ["layer1.0.conv1"]


def test_of_equal_scores_the_first_filters_go():
    network = built(KINDS["resnet18"])
    weight = np.ones((64, 64, 3, 3), dtype=np.float32)
    weight[40:] = 2
    network.layer1[0].conv1.weight.set_value(weight)
    pruned(network, ratio=0.25, criterion="l1_norm", skip=["conv1", "layer[234].*", "layer1.1.*"])
    assert (network.layer1[0].conv1.weight.numpy()[24:] == 2).all()


def one_group(network):
    return [group for group in dependencies.find(network, SHAPE) if group.layers == ["layer1.0.conv1"]]


def scored(network, criterion):
    settings = cfg.Pruning(criterion=criterion)
    [scores] = importance.of_units(network, one_group(network), settings, batches, F.cross_entropy)
    return scores


def test_scales_of_normalisation_are_scores():
    network = built(KINDS["resnet18"])
    scales = np.random.default_rng(0).normal(size=64).astype(np.float32)
    network.layer1[0].bn1.weight.set_value(scales)
    np.testing.assert_allclose(scored(network, "bn_scale"), np.abs(scales))


def test_taylor_scores_are_the_squared_changes_of_the_loss_by_differences():
    network = built(KINDS["resnet18"])
    random, norm = np.random.default_rng(0), network.layer1[0].bn1
    norm.weight.set_value(random.normal(size=64).astype(np.float32))
    norm.bias.set_value(random.normal(size=64).astype(np.float32))
    expected, gate = np.zeros(64), 1e-2
    network.eval()
    with paddle.no_grad():
        for place, (images, labels) in itertools.product(range(0, 64, 9), batches()):
            losses = []
            for factor in (1 + gate, 1 - gate):
                own = norm.weight.numpy(), norm.bias.numpy()
                for tensor, value in zip((norm.weight, norm.bias), own, strict=True):
                    scaled = value.copy()
                    scaled[place] *= factor
                    tensor.set_value(scaled)
                losses.append(float(F.cross_entropy(network(images), labels)))
                norm.weight.set_value(own[0])
                norm.bias.set_value(own[1])
            expected[place] += ((losses[0] - losses[1]) / (2 * gate)) ** 2 / 2
    own = scored(network, "taylor")
    np.testing.assert_allclose(own[::9], expected[::9], rtol=0.1, atol=1e-4 * own.max())


def test_taylor_scores_are_those_of_what_is_read_where_normalisations_follow_each_other():
    paddle.seed(0)
    network = nn.Sequential(
        nn.Conv2D(3, 8, 3, stride=2), nn.BatchNorm2D(8), nn.Hardswish(), nn.Conv2D(8, 8, 3, groups=8),
        nn.BatchNorm2D(8), nn.Hardswish(), nn.Conv2D(8, 8, 1), nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip
    random = np.random.default_rng(0)
    for layer in (network[1], network[4]):
        for tensor in (layer.weight, layer.bias):
            tensor.set_value(random.normal(size=8).astype(np.float32))
    [group] = [group for group in dependencies.find(network, SHAPE) if group.layers == ["0"]]
    assert group.readers == [("6.weight", 1)]
    gates, expected = paddle.ones([8]), np.zeros(8)
    network[5].register_forward_post_hook(lambda _layer, _inputs, maps: maps * gates.reshape([1, 8, 1, 1]))
    network.eval()
    with paddle.no_grad():
        for place, (images, labels) in itertools.product(range(8), batches()):
            losses = []
            for factor in (1.01, 0.99):
                gates[place] = factor
                losses.append(float(F.cross_entropy(network(images), labels)))
            gates[place] = 1.0
            expected[place] += ((losses[0] - losses[1]) / 0.02) ** 2 / 2
    own = importance.taylor(network, [group], batches(), F.cross_entropy)[0]
    np.testing.assert_allclose(own, expected, rtol=0.05, atol=1e-3 * own.max())


def test_taylor_leaves_modes_gradients_and_chance_alone():
    network = built(KINDS["resnet18"])
    # Finding what can be cut tries it, which lets gradients go.
    groups = one_group(network)
    F.cross_entropy(network(paddle.randn([2, *SHAPE])), paddle.zeros([2], "int64")).backward()
    network.train()
    network.layer2.eval()
    network.bn1.weight.stop_gradient = True

    def state():
        values = {name: value.numpy().tobytes() for name, value in network.state_dict().items()}
        gradients = {
            name: None if p.grad is None else p.grad.numpy().tobytes() for name, p in network.named_parameters()
        }
        frozen = [p.stop_gradient for p in network.parameters()]
        return values, gradients, frozen, [layer.training for layer in network.sublayers()], seeding.state()

    before = state()
    importance.taylor(network, groups, batches(), F.cross_entropy)
    assert state() == before


def test_a_network_without_normalisation_has_no_scales_to_go_by():
    with pytest.raises(ConfigError, match="no convolution of Sequential has BatchNorm after it"):
        pruned(nn.Sequential(nn.Conv2D(3, 8, 3), nn.ReLU(), nn.Conv2D(8, 8, 3), nn.AdaptiveAvgPool2D(1), nn.Flatten(),
                             nn.Linear(8, 10)), criterion="bn_scale")  # fmt: skip


def timed(network, base=1.0):
    """Evidence of a machine on which every million MACs takes a millisecond beside `base` ms, whatever the network."""
    return evidence(
        engine=lambda: cost.macs(network, SHAPE), medians=lambda all_of: [base + one / 1e6 for one in all_of]
    )


def test_latency_is_bounded_by_what_was_measured():
    network = built()
    whole = cost.macs(network, SHAPE) / 1e6
    plan = pruned(network, timed(network, base=whole / 4), ratio=0.4, budget=cfg.Budget.latency, channel_multiple=1)
    assert (whole / 4 + plan.macs[1] / 1e6) <= 0.6 * (whole * 5 / 4)
    assert [macs for macs, _ in plan.latency] == sorted((macs for macs, _ in plan.latency), reverse=True)


def test_channels_come_back_to_depthwise_convolutions_that_had_one_left():
    network = built()
    images = paddle.randn([2, *SHAPE])
    network.eval()
    before = network(images).numpy()
    groups = dependencies.find(network, SHAPE)
    least = dependencies.kept(network, groups, [np.arange(1, group.units) for group in groups])
    with dependencies.without(network, least):
        assert min(shapes.groups(network).values()) == max(shapes.groups(network).values()) == 1
    np.testing.assert_array_equal(network(images).numpy(), before)


def test_a_latency_that_no_pruning_reaches_is_refused():
    network = built()
    with pytest.raises(ConfigError, match="one image takes .* ms here, and with all filters"):
        pruned(network, timed(network, base=1000.0), ratio=0.4, budget=cfg.Budget.latency)


@pytest.mark.parametrize(("growth", "parts"), itertools.product(cfg.Growth, (1, 3)))
def test_cuts_grow_to_the_whole(growth, parts):
    shares = [grown(cfg.Pruning(growth=growth, parts=parts), cuts) for cuts in range(parts + 1)]
    assert shares[0] == 0
    assert shares[-1] == 1
    steps = np.diff(shares)
    assert (np.diff(steps) <= 1e-12).all()
    assert growth is cfg.Growth.cubic or np.allclose(steps, steps[0])


@pytest.mark.parametrize("budget", [cfg.Budget.filters, cfg.Budget.macs])
def test_several_cuts_end_where_one_does(budget):
    settings = cfg.Pruning(criterion="l2_norm", ratio=0.5, budget=budget, begin_epoch=1, parts=3)
    network, facts = built(), evidence()
    plan, seen = pruning.begin(network, settings, SHAPE, facts), []
    for _ in range(3):
        kept, plan = pruning.choose_cut(network, settings, SHAPE, facts, plan)
        shapes.cut(network, kept)
        seen.append(plan.macs[1])
    assert seen[0] > seen[1] > seen[2] == cost.macs(network, SHAPE)
    once = pruned(built(), criterion="l2_norm", ratio=0.5, budget=budget)
    assert plan.macs[1] == pytest.approx(once.macs[1], rel=0.02)
    assert {name: first for name, (first, _) in plan.channels.items()} == {
        name: first for name, (first, _) in once.channels.items()
    }


def test_the_least_that_may_be_left_is_one_multiple_of_channels():
    groups = dependencies.find(built(KINDS["resnet18"]), SHAPE)
    division = allocation.Division(groups, [group.units for group in groups], 8, lambda counts: False)
    assert set(division.least()) == {8}
    assert allocation.uniform(division) == division.least()
    assert allocation.ranking(division, [np.zeros(group.units) for group in groups]) == division.least()


@pytest.mark.parametrize("ratio", [0.82, 0.85])
def test_where_the_largest_measured_shares_leave_too_much_no_more_goes_than_is_wanted(ratio):
    widths = [64, 128, 256, 512]
    channels = [3, *widths]
    layers = [[nn.Conv2D(*pair, 3, padding=1), nn.BatchNorm2D(pair[1])] for pair in itertools.pairwise(channels)]
    network = nn.Sequential(*itertools.chain(*layers), nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(512, 10))
    groups = dependencies.find(network, SHAPE)
    assert [group.units for group in groups] == widths
    division = allocation.Division(groups, widths, 8, lambda counts: sum(counts) <= (1 - ratio) * sum(widths))
    curve = dict.fromkeys((0.2, 0.4, 0.6, 0.8), 0.0)
    left = sum(allocation.sensitivity(division, [curve] * 4))
    assert (1 - ratio) * sum(widths) - 4 * 8 < left <= (1 - ratio) * sum(widths)


def test_the_last_of_several_cuts_is_as_fast_as_is_wanted(monkeypatch):
    """On a machine where half as many MACs take more than half the time of what was measured before training."""
    scored, of_units = [], importance.of_units
    monkeypatch.setattr(importance, "of_units", lambda *given: scored.append(given) or of_units(*given))
    tried, measured = [], pruning._measured
    monkeypatch.setattr(pruning, "_measured", lambda *given: tried.append(given) or measured(*given))
    settings = cfg.Pruning(criterion="l2_norm", ratio=0.4, budget=cfg.Budget.latency, begin_epoch=1, parts=2,
                           channel_multiple=1)  # fmt: skip
    network = built()
    whole = cost.macs(network, SHAPE)
    plan = pruning.begin(network, settings, SHAPE, timed(network, base=0.0))
    slower = evidence(engine=lambda: cost.macs(network, SHAPE),
                      medians=lambda engines: [(one / whole) ** 0.9 for one in engines])  # fmt: skip
    for _ in range(2):
        kept, plan = pruning.choose_cut(network, settings, SHAPE, slower, plan)
        shapes.cut(network, kept)
    assert (plan.macs[1] / whole) ** 0.9 < 0.62
    assert (len(scored), len(tried)) == (2, 2), "once a cut, of which the last one is tried twice"

"""Pruning: what goes, what stays, and that a network is the same again elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn

from runner import config as cfg
from runner import models
from runner.compression import pruning, qat, shapes, slim, statistics
from runner.config.criteria import CRITERIA
from runner.errors import CheckpointError, ConfigError
from runner.models import cost
from runner.training import seeding
from tests.samples import evidence

SMALL = cfg.MobileNetV3(size=cfg.Size.small, scale=0.35)
KINDS = {
    "mobilenet": SMALL,
    "siamese": cfg.Siamese(size=cfg.Size.small, scale=0.35),
    "resnet18": cfg.Vision(architecture="resnet18"),
    "mobilenet_v1": cfg.Vision(architecture="mobilenet_v1", kwargs={"scale": 0.25}),
}
BY_MACS = {"budget": cfg.Budget.macs, "allocation": cfg.Allocation.sensitivity}


def built(model=SMALL, seed=0):
    paddle.seed(seed)
    return models.build(model, 10)


def pruned(network, facts=None, **settings):
    return pruning.prune(network, cfg.Pruning(**settings), (3, 32, 32), facts or evidence())


@pytest.mark.parametrize("kind", KINDS)
def test_filters_fall_in_every_kind_of_network_and_it_still_trains(kind):
    network = built(KINDS[kind])
    before = cost.macs(network, (3, 32, 32)), slim.parameters(network)
    plan = pruned(network, ratio=0.3)
    assert plan.macs == (before[0], cost.macs(network, (3, 32, 32)))
    assert plan.params == (before[1], slim.parameters(network))
    assert plan.macs[1] < 0.75 * plan.macs[0]
    F.cross_entropy(network(paddle.randn([4, 3, 32, 32])), paddle.zeros([4], "int64")).backward()
    assert all(p.grad is not None for p in network.parameters() if not p.stop_gradient)


def test_nothing_of_the_pruner_stays_in_the_state():
    network = built()
    names = set(network.state_dict())
    pruned(network)
    assert set(network.state_dict()) == names
    assert paddle.in_dynamic_mode()
    assert not any(layer._forward_pre_hooks or layer._forward_post_hooks for layer in network.sublayers())


def test_the_filters_nearest_to_the_others_go():
    class TwoConvolutions(nn.Layer):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2D(3, 8, 3, padding=1)
            self.second = nn.Conv2D(8, 4, 3, padding=1)
            self.out = nn.Linear(4, 10)

        def forward(self, images):
            features = F.relu(self.second(F.relu(self.first(images))))
            return self.out(F.adaptive_avg_pool2d(features, 1).flatten(1))

    paddle.seed(0)
    network = TwoConvolutions()
    weight = network.first.weight.numpy()
    flat = weight.reshape(8, -1)
    distances = np.linalg.norm(flat[:, None] - flat[None], axis=-1).sum(axis=1)
    kept = np.sort(np.argsort(distances)[2:])
    following = network.second.weight.numpy()
    plan = pruned(network, ratio=0.25, channel_multiple=1)
    assert plan.channels["first"] == (8, 6)
    np.testing.assert_array_equal(network.first.weight.numpy(), weight[kept])
    second = network.second.weight.numpy()
    np.testing.assert_array_equal(second, following[np.isin(np.arange(4), _rows(second, following))][:, kept])


def _rows(some, of):
    """Which rows of a weight are left, by what the filters of its own had in a channel that stayed."""
    return [place for place, row in enumerate(of) if any(np.isin(kept.ravel(), row.ravel()).all() for kept in some)]


def one_convolution(weight):
    """A network that begins with a convolution of this weight [O, 3, k, k] and can lose filters of it alone."""
    network = nn.Sequential(
        nn.Conv2D(3, len(weight), 3), nn.ReLU(), nn.Conv2D(len(weight), 4, 1), nn.AdaptiveAvgPool2D(1), nn.Flatten()
    )
    network[0].weight.set_value(weight)
    return network


def kept(weight, **settings):
    """Places of the filters that are left of a first convolution with this weight."""
    network = one_convolution(weight)
    pruned(network, skip=["2"], channel_multiple=1, **settings)
    left = network[0].weight.numpy()
    return [place for place, row in enumerate(weight) if any(np.array_equal(row, one) for one in left)]


def scaled_filters(scales):
    """Random filters of these L2 norms, float32 [O, 3, 3, 3]."""
    weight = np.random.default_rng(0).standard_normal((len(scales), 3, 3, 3))
    norms = np.linalg.norm(weight.reshape(len(scales), -1), axis=1)
    return (weight * (np.array(scales) / norms)[:, None, None, None]).astype(np.float32)


def sparse_and_even():
    """Filters of L2 norm 2 with one weight in the first half, where the L1 norm is 2, and 27 equal ones in the rest."""
    weight = np.zeros((8, 3, 3, 3), dtype=np.float32)
    weight[range(4), 0, 0, [0, 1, 2, 0]] = 2.0
    weight[4:] = 1.9 / np.sqrt(27)
    weight[range(4, 8), 1, 1, [0, 1, 2, 0]] *= [1.01, 1.02, 1.03, 1.04]
    return weight


@pytest.mark.parametrize("criterion", ["l1_norm", "l2_norm"])
def test_the_smallest_filters_go_by_their_norm(criterion):
    assert kept(scaled_filters([3, 0.1, 2, 0.2, 4, 5, 0.3, 6]), criterion=criterion, ratio=0.375) == [0, 2, 4, 5, 7]


def test_the_two_norms_differ_where_weights_are_sparse():
    assert kept(sparse_and_even(), criterion="l1_norm", ratio=0.5) == [4, 5, 6, 7]
    assert kept(sparse_and_even(), criterion="l2_norm", ratio=0.5) == [0, 1, 2, 3]


def test_fpgm_takes_what_lies_among_the_others_though_it_is_large():
    weight = scaled_filters([1.0] * 8)
    weight[3] = 0.9 * weight[5]
    weight[:] += 10.0
    assert 3 not in kept(weight, criterion="fpgm", ratio=0.25)
    assert 3 in kept(weight * np.where(np.arange(8) == 3, 1.1, 1.0).astype(np.float32)[:, None, None, None],
                     criterion="l1_norm", ratio=0.25)  # fmt: skip


def test_without_a_word_the_criterion_is_fpgm():
    weight = scaled_filters([3, 0.1, 2, 0.2, 4, 5, 0.3, 6])
    assert cfg.Pruning().criterion == "fpgm"
    assert kept(weight, ratio=0.375) == kept(weight, criterion="fpgm", ratio=0.375)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("kind", KINDS)
def test_every_criterion_prunes_every_kind_of_network(kind, criterion):
    network = built(KINDS[kind])
    plan = pruned(network, criterion=criterion, ratio=0.3)
    assert plan.macs[1] < 0.75 * plan.macs[0]
    assert network(paddle.randn([2, 3, 32, 32])).shape == [2, 10]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_scores_are_one_number_a_filter_and_leave_the_weight_alone(criterion):
    weight = scaled_filters([1, 2, 3])
    before = weight.copy()
    assert CRITERIA[criterion](weight).shape == (3,)
    np.testing.assert_array_equal(weight, before)


def test_a_criterion_of_the_user_decides():
    settings = {"criterion": "custom", "target": "tests.samples:by_first_weight", "ratio": 0.5}
    weight = scaled_filters([1.0] * 6)
    weight[:, 0, 0, 0] = [5, 1, 4, 2, 6, 3]
    assert kept(weight, **settings) == [0, 2, 4]
    assert kept(weight, **settings, kwargs={"sign": -1}) == [1, 3, 5]


def test_what_the_sensitivity_analysis_asks_for_goes_by_the_criterion():
    norms = [3, 0.1, 2, 0.2, 4, 5, 0.3, 6]
    left = kept(scaled_filters(norms), criterion="l2_norm", ratio=0.3, **BY_MACS)
    assert 1 < len(left) < 7
    assert left == sorted(np.argsort(norms)[-len(left) :])


@pytest.mark.parametrize(
    ("target", "kwargs", "reason"),
    [
        ("tests.samples:by_first_weight", {"nothing": 1}, "raised TypeError.*kwargs={'nothing': 1}"),
        ("tests.samples:one_score", {}, r"returned \[\] numbers for a weight \[6, 3, 3, 3\]: return 6 scores"),
        ("tests.samples:no_score", {}, "none of them NaN"),
        ("tests.samples:missing", {}, "has no 'missing'"),
    ],
)
def test_a_criterion_of_the_user_that_gives_no_scores_is_refused(target, kwargs, reason):
    with pytest.raises(ConfigError, match=reason):
        kept(scaled_filters([1.0] * 6), criterion="custom", target=target, kwargs=kwargs)


def test_skipped_layers_keep_all_filters_and_so_do_those_that_share_their_channels():
    network = built()
    before = shapes.channels(network)
    plan = pruned(network, skip=["*.linear_conv.*", "conv1.conv"])
    assert plan.channels
    after = shapes.channels(network)
    for name in before:
        if "linear_conv" in name or name == "conv1.conv":
            assert after[name] == before[name], name


def test_a_pattern_has_a_ratio_of_its_own_and_the_last_one_decides():
    network = built(KINDS["resnet18"])
    plan = pruned(network, ratio=0.0, ratios={"layer1.*": 0.2, "layer1.0.conv1": 0.5}, channel_multiple=1)
    assert plan.channels["layer1.0.conv1"] == (64, 32)
    assert plan.channels["layer1.1.conv1"] == (64, 51)
    assert "layer2.0.conv1" not in plan.channels


def test_channels_that_are_left_are_a_multiple():
    network = built(KINDS["resnet18"])
    plan = pruned(network, ratio=0.3, channel_multiple=8)
    assert plan.channels
    assert all(after % 8 == 0 for _, after in plan.channels.values())


@pytest.mark.slow
def test_the_least_sensitive_layers_lose_most_until_the_macs_fall_by_what_was_asked():
    network = built(KINDS["resnet18"])
    everything, first = slim.parameters(network), network.conv1.weight

    def accuracy():
        return slim.parameters(network) / everything * (1.0 if first.shape[0] == 64 else 0.1)

    plan = pruned(network, evidence(accuracy), ratio=0.3, **BY_MACS)
    saved = 1 - plan.macs[1] / plan.macs[0]
    assert 0.3 <= saved < 0.33
    kept = {name: after / before for name, (before, after) in plan.channels.items()}
    assert kept.get("conv1", 1.0) > min(kept.values())


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"skip": ["*"]}, "removes nothing from MobileNetV3"),
        ({"ratio": 0.0}, "Raise compression.prune.ratio"),
    ],
)
def test_settings_that_prune_nothing_are_refused(settings, reason):
    with pytest.raises(ConfigError, match=reason.replace("*", r"\*").replace(".", r"\.")):
        pruned(built(), **settings)


@pytest.mark.parametrize("allocation", cfg.Allocation)
@pytest.mark.parametrize("budget", cfg.Budget)
def test_what_the_last_cut_could_not_remove_is_refused_before_training(budget, allocation):
    settings = cfg.Pruning(ratio=0.0, budget=budget, allocation=allocation, begin_epoch=1)
    facts = replace(evidence(), engine=lambda: None, medians=lambda engines: [*range(len(engines), 0, -1)])
    with pytest.raises(ConfigError, match="removes nothing from MobileNetV3"):
        pruning.begin(built(), settings, (3, 32, 32), facts)


@pytest.mark.parametrize("allocation", cfg.Allocation)
def test_a_multiple_that_no_layer_has_twice_is_refused_with_the_key_to_lower(allocation):
    settings = cfg.Pruning(channel_multiple=100_000, allocation=allocation, begin_epoch=1)
    with pytest.raises(ConfigError, match=r"lower compression\.prune\.channel_multiple \(it is 100000\)"):
        pruning.begin(built(), settings, (3, 32, 32), evidence())


def test_a_network_without_convolutions_is_refused():
    with pytest.raises(ConfigError, match="removes nothing from Sequential"):
        pruned(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10)))


def test_a_network_whose_channels_are_bound_to_what_cannot_be_pruned_is_refused_with_that_reason():
    class Normalised(nn.Layer):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.out = nn.Conv2D(3, 8, 3), nn.LayerNorm(8), nn.Linear(8, 10)

        def forward(self, images):
            return self.out(self.norm(self.conv(images).flatten(2).transpose([0, 2, 1])).mean(1))

    with pytest.raises(ConfigError, match=r"none of its 1 convolutions loses a filter\. Their channels are bound"):
        pruned(Normalised())


def test_a_network_that_cannot_be_traced_is_refused_with_the_reason():
    class Untraceable(nn.Layer):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2D(3, 8, 3)
            self.out = nn.Linear(8, 10)

        def forward(self, images):
            return self.out(paddle.to_tensor(self.conv(images).numpy()).mean([2, 3]))

    with pytest.raises(ConfigError, match="cannot be traced for pruning"):
        pruned(Untraceable())


class Functional(nn.Layer):
    """Functions in place of layers and operators, as networks of others have them."""

    def __init__(self):
        super().__init__()
        self.conv, self.gate, self.last = nn.Conv2D(3, 16, 3), nn.Conv2D(16, 16, 1), nn.Conv2D(16, 16, 3)
        self.out = nn.Linear(16, 10)

    def forward(self, images):
        x = F.silu(self.conv(images))
        x = paddle.multiply(x=x, y=self.gate(x).sigmoid())
        x = self.last(x).mean([2, 3])
        return self.out(x) + paddle.matmul(paddle.sqrt(F.relu(x)), self.out.weight)


def test_functions_in_place_of_layers_and_means_are_followed():
    plan = pruned(Functional(), ratio=0.5, channel_multiple=1)
    assert plan.channels == {"conv": (16, 8), "gate": (16, 8), "last": (16, 8)}
    assert not plan.whole
    assert paddle.multiply(paddle.to_tensor([2.0]), paddle.to_tensor([3.0])).item() == 6


class Grouped(nn.Sequential):
    """A convolution in two groups between others."""

    def __init__(self, groups=2):
        super().__init__(
            nn.Conv2D(3, 16, 3), nn.ReLU(), nn.Conv2D(16, 16, 3, groups=groups), nn.ReLU(),
            nn.Conv2D(16, 16, 3), nn.ReLU(), nn.Conv2D(16, 16, 3), nn.AdaptiveAvgPool2D(1),
            nn.Flatten(), nn.Linear(16, 10),
        )  # fmt: skip


def test_every_group_of_a_convolution_loses_as_many_channels():
    network = Grouped()
    plan = pruned(network, ratio=0.5, channel_multiple=1)
    assert plan.channels == {name: (16, 8) for name in ("0", "2", "4", "6")}
    assert network[2].weight.shape == [8, 4, 3, 3]
    assert network[2]._groups == 2
    assert network(paddle.zeros([2, 3, 32, 32])).shape == [2, 10]


@pytest.mark.parametrize("ratios", [[0.75, 0.5], [0.5, 0.5, 0.5]])
def test_groups_with_one_channel_left_stay_and_the_network_can_be_built_again(ratios):
    network, again = Grouped(groups=4), Grouped(groups=4)
    for ratio in ratios:
        pruned(network, ratio=ratio, channel_multiple=1)
    assert network[2].weight.shape == [4, 1, 3, 3]
    assert network[2]._groups == 4
    state = network.state_dict()
    shapes.shrink(again, {name: value.shape for name, value in state.items()}, "here")
    again.set_state_dict(state)
    images = paddle.randn([2, 3, 32, 32])
    np.testing.assert_array_equal(again(images).numpy(), network(images).numpy())
    pruned(again, ratio=0.5, channel_multiple=1)
    assert again[2]._groups == 4


class Ordered(nn.Layer):
    """A network that computes over channels in a way that nobody can follow."""

    def __init__(self):
        super().__init__()
        self.first, self.last, self.out = nn.Conv2D(3, 16, 3), nn.Conv2D(16, 16, 3), nn.Linear(16, 10)

    def forward(self, images):
        x = F.relu(self.first(images)).cumsum(axis=1)
        return self.out(F.relu(self.last(x)).mean([2, 3]))


def test_channels_that_pass_what_is_not_understood_stay_whole_and_are_named():
    network = Ordered()
    plan = pruned(network, ratio=0.5, channel_multiple=1)
    assert plan.channels == {"last": (16, 8)}
    assert plan.whole == ["first"]
    assert "1 are not pruned, such as first" in str(plan)


class Numbered(nn.Layer):
    """A network with the number of its channels in its code."""

    def __init__(self):
        super().__init__()
        self.first, self.last, self.out = nn.Conv2D(3, 16, 3), nn.Conv2D(16, 16, 1), nn.Linear(16, 10)

    def forward(self, images):
        x = F.relu(self.first(images)).mean([2, 3], keepdim=True).reshape([-1, 16, 1, 1])
        return self.out(F.relu(self.last(x)).mean([2, 3]))


def test_a_group_without_which_the_network_would_not_compute_stays_whole():
    network = Numbered()
    weight = network.first.weight.clone()
    plan = pruned(network, ratio=0.5, channel_multiple=1)
    assert plan.channels == {"last": (16, 8)}
    assert (network.first.weight == weight).all()


def test_quantized_convolutions_cannot_be_pruned_in_silence():
    network = built()
    qat.quantize(network, cfg.TrainedQuantization())
    with pytest.raises(ConfigError, match="MobileNetV3 is quantized, and pruning comes first"):
        pruned(network)


def some_batches():
    """Batches of several sizes, each with another mean and deviation."""
    random = np.random.default_rng(0)
    for number, size in enumerate((6, 2, 4)):
        images = random.normal(number, 1 + number, (size, 3, 4, 4)).astype(np.float32)
        yield paddle.to_tensor(images)


def normalised():
    """One BatchNorm2D on the images, with statistics of something else, before what draws random numbers."""
    paddle.seed(0)
    network = nn.Sequential(nn.BatchNorm2D(3, momentum=0.7), nn.Flatten(), nn.Dropout(0.5), nn.Linear(48, 10))
    network[0]._mean.set_value(paddle.full([3], 100.0))
    network[0]._variance.set_value(paddle.full([3], 100.0))
    return network


def test_restored_statistics_are_the_mean_over_the_images_of_each_batches_own():
    network = normalised()
    statistics.restore(network, some_batches())
    images = [batch.numpy().astype(np.float64) for batch in some_batches()]
    means, variances = ([getattr(one, what)(axis=(0, 2, 3)) for one in images] for what in ("mean", "var"))
    np.testing.assert_allclose(network[0]._mean.numpy(), np.average(means, axis=0, weights=[6, 2, 4]), rtol=1e-5)
    np.testing.assert_allclose(
        network[0]._variance.numpy(), np.average(variances, axis=0, weights=[6, 2, 4]), rtol=1e-5
    )


def test_restoring_statistics_changes_nothing_else_and_draws_nothing():
    network = normalised()
    network.train()
    network[0].eval()

    def rest():
        kept = {name: value.numpy().tolist() for name, value in network.state_dict().items() if "._" not in name}
        modes = {name: layer.training for name, layer in network.named_sublayers(include_self=True)}
        return kept, modes, network[0]._momentum, seeding.state()

    before = rest()
    assert set(before[0]) == {"0.weight", "0.bias", "3.weight", "3.bias"}
    assert set(before[1].values()) == {False, True}
    statistics.restore(network, some_batches())
    assert rest() == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_pruned_network_is_restored_from_shapes_and_values_alone(kind):
    network = built(KINDS[kind])
    pruned(network, ratio=0.4)
    network.eval()
    again = built(KINDS[kind], seed=1)
    state = network.state_dict()
    shapes.shrink(again, {name: value.shape for name, value in state.items()}, "here")
    own = again.state_dict()
    for name, value in state.items():
        own[name].set_value(value)
    again.eval()
    images = paddle.randn([2, 3, 32, 32])
    np.testing.assert_array_equal(again(images).numpy(), network(images).numpy())
    assert pruned(again, ratio=0.3).params[1] < slim.parameters(network)


def test_shapes_of_another_network_are_refused():
    other = {name: value.shape for name, value in built(KINDS["resnet18"]).state_dict().items()}
    with pytest.raises(CheckpointError, match="was pruned from another network"):
        shapes.shrink(built(), other, "other")


def test_shapes_do_not_grow():
    wider = {name: value.shape for name, value in built(cfg.MobileNetV3(size=cfg.Size.small)).state_dict().items()}
    with pytest.raises(CheckpointError, match="do not fit"):
        shapes.shrink(built(), wider, "wider")


def test_layers_made_after_pruning_have_names_of_their_own():
    networks = [built(), built()]
    for network in networks:
        pruned(network)
        qat.quantize(network, cfg.TrainedQuantization())
    names = [parameter.name for network in networks for parameter in network.parameters()]
    assert len(names) == len(set(names))


def test_a_criterion_that_is_missing_is_found_before_the_first_cut():
    settings = cfg.Pruning(criterion="custom", target="tests.samples:missing", begin_epoch=20)
    with pytest.raises(ConfigError, match="has no 'missing'"):
        pruning.begin(built(), settings, (3, 32, 32), evidence())

import numpy as np
import paddle
import pytest

from runner import config as cfg
from runner import models
from runner.compression import pruning
from runner.kernels import layers, native
from runner.kernels.accelerate import accelerate
from runner.models.efficientnet_lite import DropConnect
from runner.parallel.layers import Shard, separate, share_dropout
from runner.parallel.ranks import Ranks
from runner.parallel.sockets import Sockets
from tests.samples import evidence

from .helpers import predict, save_in_old_ir, trainable_count, untrained


@pytest.fixture(scope="module")
def network():
    paddle.seed(0)
    return models.build(cfg.EfficientNetLite(drop_connect=0.0, dropout=0.0), 10)


# Table of the authors' release: 4.7, 5.4, 6.1, 8.2 and 13.0 million.
@pytest.mark.parametrize(("version", "count"), enumerate([4_652_008, 5_416_680, 6_092_072, 8_197_096, 13_006_568]))
def test_each_version_has_the_known_number_of_parameters(version, count):
    assert trainable_count(models.build(cfg.EfficientNetLite(version=version), 1000)) == count


@pytest.mark.parametrize("side", [224, 75, 32])
def test_the_last_map_is_a_32nd_of_the_image_rounded_up(network, side):
    network.eval()
    seen = []
    hook = network.head.register_forward_post_hook(lambda _layer, _inputs, maps: seen.append(maps.shape))
    network(paddle.zeros([1, 3, side, side]))
    hook.remove()
    assert seen == [[1, 1280, -(-side // 32), -(-side // 32)]]


def test_every_parameter_is_trained():
    assert untrained(models.build(cfg.EfficientNetLite(drop_connect=0.0), 4)) == []


@pytest.mark.skipif(bool(native.unavailable()), reason="no compiler")
@pytest.mark.parametrize("side", [pytest.param(64, marks=pytest.mark.slow), 75])
@pytest.mark.parametrize("training", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_kernels_compute_all_of_it_as_paddle_does(side, training):
    paddle.seed(0)
    network = models.build(cfg.EfficientNetLite(drop_connect=0.0, dropout=0.0), 10)
    images = paddle.to_tensor(np.random.default_rng(0).standard_normal((8, 3, side, side), dtype=np.float32))
    accelerate(network, (3, side, side))
    network.train() if training else network.eval()
    with layers.stock():
        expected = network(images).numpy()
    kinds = {type(layer) for layer in network.sublayers()}
    assert {layers.Conv2D, layers.FusedNorm, layers.MeanPool} <= kinds
    assert paddle.nn.Conv2D not in kinds
    entering = [layer for layer in network.sublayers() if getattr(layer, "enters", False)]
    assert len(entering) == 1
    np.testing.assert_allclose(network(images).numpy(), expected, atol=1e-4 * np.abs(expected).max())


def test_drop_connect_drops_whole_images_and_keeps_the_mean():
    paddle.seed(0)
    layer = DropConnect(0.25)
    maps = paddle.ones([4000, 2, 1, 1])
    layer.train()
    dropped = layer(maps).numpy()
    assert (dropped[:, 0] == dropped[:, 1]).all()
    assert set(np.unique(dropped)) == {0, np.float32(1 / 0.75)}
    assert abs(dropped.mean() - 1) < 0.03
    layer.eval()
    assert (layer(maps).numpy() == 1).all()


def test_it_rises_to_the_last_block_that_has_one():
    network = models.build(cfg.EfficientNetLite(drop_connect=0.32), 10)
    rates = {number: block.drop.p for number, block in enumerate(network.blocks) if block.drop}
    assert rates[2] == pytest.approx(0.04)
    assert rates == {number: pytest.approx(0.32 * number / 16) for number in rates}


@pytest.mark.skipif(bool(native.unavailable()), reason="no compiler")
def test_accelerated_it_drops_the_same_images():
    layer = DropConnect(0.5)
    layer.train()
    maps = paddle.randn([16, 3, 2, 2])
    paddle.seed(1)
    expected = layer(maps).numpy()
    layer.__class__ = layers.BatchLastDropConnect
    paddle.seed(1)
    np.testing.assert_array_equal(layer(maps.transpose([1, 2, 3, 0])).numpy(), expected.transpose([1, 2, 3, 0]))


def test_processes_drop_the_images_that_one_would():
    network = models.Networks({"student": paddle.nn.Sequential(DropConnect(0.5))})
    network.train()
    maps = paddle.ones([7, 1, 1, 1])
    paddle.seed(2)
    expected = network["student"](maps).numpy()
    for rank in range(2):
        share_dropout(network, Shard(Ranks(rank, 2, Sockets(rank, [])), range(7)))
        paddle.seed(2)
        own = network["student"](maps[rank::2]).numpy()
        separate(network)
        np.testing.assert_array_equal(own, expected[rank::2])


def test_it_is_pruned_by_groups_that_stay_whole():
    network = models.build(cfg.EfficientNetLite(), 10)
    plan = pruning.prune(network, cfg.Pruning(ratio=0.3), (3, 32, 32), evidence())
    assert plan.macs[1] < 0.8 * plan.macs[0]
    network.eval()
    assert network(paddle.zeros([2, 3, 32, 32])).shape == [2, 10]


def test_a_saved_network_pads_even_and_odd_maps_alike(network, tmp_path):
    network.eval()
    save_in_old_ir(network, tmp_path / "net")
    for side in (64, 75):
        images = paddle.randn([2, 3, side, side])
        np.testing.assert_allclose(predict(tmp_path / "net", images), network(images).numpy(), atol=1e-4)

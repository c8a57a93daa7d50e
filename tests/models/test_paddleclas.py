"""Networks of PaddleClas: logits alone, for images of any size, as many as one likes in a process."""

from __future__ import annotations

import importlib.util
import logging

import numpy as np
import paddle
import pytest
from paddle import nn

from runner import config as cfg
from runner import models
from runner.config import networks
from runner.deploy import to_onnx
from runner.errors import ConfigError
from runner.kernels import functions, native
from runner.kernels.accelerate import accelerate
from runner.kernels.layers import Accelerated, stock
from runner.models import paddleclas

from .helpers import untrained

INSTALLED = importlib.util.find_spec("paddleclas") is not None
needed = pytest.mark.skipif(not INSTALLED, reason="PaddleClas is not installed")


def built(name, size=64, **kwargs):
    return models.build(cfg.PaddleClas(architecture=name, image_size=size, kwargs=kwargs), 7)


@pytest.mark.skipif(INSTALLED, reason="PaddleClas is installed")
def test_without_paddleclas_the_error_says_how_to_install_it():
    with pytest.raises(ConfigError, match=r"pip install --no-deps paddleclas==2\.6\.0"):
        built("PPLCNet_x0_25")


@needed
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("PPLCNet_x0_25", 32),  # operators of its own
        ("GoogLeNet", 64),  # a list with two auxiliary classifiers
        ("DeiT_tiny_distilled_patch16_224", 32),  # two heads while training
        ("MobileNetV3_small_x0_35", 32),  # writes to a logger that its trainer makes
        ("MobileViTV2_x0_75", 64),  # looks for weights that there are not
        ("StarNet_S1", 32),  # takes weights unless it is told not to
    ],
)
def test_images_give_logits_in_both_modes_and_every_parameter_is_trained(name, size, capfd):
    network = built(name, size)
    images = paddle.zeros([2, 3, size, size])
    for training in (True, False):
        network.train() if training else network.eval()
        assert network(images).shape == [2, 7]
    assert untrained(built(name, size), size) == []
    assert capfd.readouterr().out == ""


@needed
@pytest.mark.parametrize("size", [32, (32, 64)])
def test_patches_that_are_reshaped_are_those_of_paddle(size):
    block = next(layer for layer in built("MobileViTV2_x0_5").sublayers() if "MobileViTV2Block" in type(layer).__name__)
    height, width = (size, size) if isinstance(size, int) else size
    maps = paddle.randn([2, 5, height, width])
    patches, whole = block.unfolding(maps)
    paddles, _ = type(block).__base__.unfolding(block, maps)
    np.testing.assert_array_equal(patches.numpy(), paddles.numpy())
    np.testing.assert_array_equal(block.folding(patches, whole).numpy(), maps.numpy())


@needed
@pytest.mark.skipif(bool(native.unavailable()), reason="no compiled kernels here")
@pytest.mark.parametrize(("name", "pools"), [("PPLCNet_x1_0", 3), ("ResNet18_vd", 1)])
def test_the_layout_of_maps_changes_at_the_ends_of_a_network_only(name, pools):
    network = built(name, 32)
    names, kinds = list(network.state_dict()), {type(layer) for layer in network.sublayers()}
    accelerate(network, (3, 32, 32))
    assert list(network.state_dict()) == names
    assert not any(issubclass(kind, nn.AdaptiveAvgPool2D) for kind in kinds - {nn.AdaptiveAvgPool2D})
    fast = [layer for layer in network.sublayers() if isinstance(layer, Accelerated)]
    assert sum(layer.enters + layer.leaves for layer in fast) == 2
    assert sum(isinstance(layer, nn.AdaptiveAvgPool2D) for layer in fast) == pools


@needed
@pytest.mark.skipif(bool(native.unavailable()), reason="no compiled kernels here")
@pytest.mark.parametrize(
    ("name", "activated", "joined", "gated"),
    [
        ("PPLCNet_x0_25", 27, 0, 2),
        ("PPLCNetV2_small", 21, 0, 4),
        ("MobileNetV1_x0_25", 27, 0, 0),
        ("MobileNetV3_small_x0_35", 24, 0, 9),
        ("ResNet18_vd", 11, 8, 0),
        ("ResNet50", 33, 16, 0),
    ],
)
def test_blocks_take_few_passes_and_give_paddles_gradients(name, activated, joined, gated, monkeypatch):
    paddle.seed(0)
    network, calls = built(name, 64), []

    def counting(function, entry):
        compute = function.compute

        def counted(ctx, *arguments):
            calls.append(entry(arguments))
            return compute(ctx, *arguments)

        monkeypatch.setattr(function, "compute", staticmethod(counted))

    def kind(arguments):
        _, _, _, shortcut, _, _, _, activation, _ = arguments
        return "plain" if not activation else "act" if shortcut is None else "sum"

    counting(functions.BatchNorm, kind)
    counting(functions.Gate, lambda arguments: "gate")
    names = list(network.state_dict())
    accelerate(network, (3, 64, 64))
    assert list(network.state_dict()) == names
    for layer in network.sublayers():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    pictures = paddle.to_tensor(np.random.default_rng(1).standard_normal((48, 3, 64, 64), dtype=np.float32))
    # As in tests/kernels/test_accelerate.py: a value within rounding of 0 may pass its gradient on in one of the two
    # only, which in most images none is.
    for training in (False, True):
        network.train() if training else network.eval()
        differences = []
        for images in pictures.split(3) if training else [one.tile([16, 1, 1, 1]) for one in pictures[:5].split(5)]:
            calls.clear()
            found = logits_and_gradients(network, images)
            assert [calls.count(one) for one in ("act", "sum", "gate")] == [activated, joined, gated]
            calls.clear()
            with stock():
                expected = logits_and_gradients(network, images)
            assert not calls
            each = [
                np.linalg.norm(one - other) / max(np.linalg.norm(other), 1e-3)
                for one, other in zip(found, expected, strict=True)
            ]
            assert each[0] < 1e-3
            differences.append(np.median(each))
        assert np.median(differences) < (0.05 if training else 1e-3)


def logits_and_gradients(network, images):
    logits = network(images)
    nn.functional.cross_entropy(logits, paddle.arange(16) % 7).backward()
    found = [one.grad.numpy() for one in network.parameters() if one.grad is not None]
    network.clear_gradients()
    return [logits.numpy(), *found]


@needed
@pytest.mark.skipif(bool(native.unavailable()), reason="no compiled kernels here")
@pytest.mark.parametrize("name", ["PPLCNet_x0_25", "ResNet18_vd"])
def test_a_hook_inside_a_block_sees_and_changes_what_the_block_computes(name):
    network = built(name, 32)
    accelerate(network, (3, 32, 32))
    network.eval()
    images, seen = paddle.ones([4, 3, 32, 32]), []
    before = network(images).numpy()
    norm = next(layer for layer in network.sublayers() if isinstance(layer, nn.BatchNorm2D))
    hook = norm.register_forward_post_hook(lambda layer, inputs, output: seen.append(output) or 0 * output)
    changed = network(images).numpy()
    assert len(seen) == 1
    assert np.abs(changed - before).max() > 0
    with stock():
        np.testing.assert_allclose(changed, network(images).numpy(), rtol=0, atol=1e-4)
    hook.remove()
    np.testing.assert_array_equal(network(images).numpy(), before)


@needed
def test_a_traced_network_takes_any_number_of_images(tmp_path):
    network = built("DeiT_tiny_distilled_patch16_224", 32, depth=1)
    network.eval()
    to_onnx.trace(network, (3, 32, 32), tmp_path / "traced")
    images = paddle.randn([3, 3, 32, 32])
    assert paddle.allclose(paddle.jit.load(str(tmp_path / "traced"))(images), network(images), atol=1e-5)


@needed
def test_networks_of_one_kind_have_parameters_of_different_names():
    names = [
        parameter.name
        for network in (built("GhostNet_x0_5"), built("GhostNet_x0_5"))
        for parameter in network.parameters()
    ]
    assert len(set(names)) == len(names)


@needed
@pytest.mark.parametrize(("name", "size"), [("ViT_base_patch16_384", (48, 48)), ("TNT_small", (32, 32))])
def test_a_network_with_an_embedding_of_places_is_built_for_the_images(name, size):
    network = built(name, list(size), depth=1)
    assert network(paddle.zeros([2, 3, *size])).shape == [2, 7]
    with pytest.raises(ConfigError, match=r"choose another data\.image_size"):
        models.check_input(network, (3, 64, 64), 7)


@needed
@pytest.mark.parametrize("kwargs", [{"pretrained": True}, {"class_num": 3}, {"img_size": 32}, {"nothing_has_this": 1}])
def test_arguments_that_make_no_sense_are_refused(kwargs):
    with pytest.raises(ConfigError, match=r"model\.kwargs"):
        built("ViT_small_patch16_224", **kwargs)


@needed
def test_a_name_that_the_installed_version_does_not_have_is_refused():
    with pytest.raises(ConfigError, match="has no network Nothing_x1_0"):
        built("Nothing_x1_0")


@needed
def test_what_it_logs_goes_to_this_packages_handlers():
    paddleclas.backbones()
    assert not logging.getLogger("ppcls").handlers


@needed
@pytest.mark.slow
def test_the_table_has_every_function_that_makes_a_classifier():
    from docs import networks as table

    names = [name for name in table.every_name() if name.startswith(networks.PADDLECLAS)]
    listed = [name for name in networks.by_name() if name.startswith(networks.PADDLECLAS)]
    assert [name for name in names if name in listed] == listed
    for name in set(names) - set(listed):
        with pytest.raises(ConfigError):
            table.measure(name)

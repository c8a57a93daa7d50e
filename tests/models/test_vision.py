import inspect

import paddle
import pytest
from paddle import nn
from paddle.vision import models

from runner import config as cfg
from runner.errors import ConfigError
from runner.models import vision

from .helpers import untrained


def test_resnet18_gives_one_logit_per_class():
    assert vision.build("resnet18", 7, {})(paddle.zeros([2, 3, 32, 32])).shape == [2, 7]


def test_the_architectures_of_the_schema_are_the_functions_of_paddle_that_make_a_network():
    functions = [name for name in models.__all__ if inspect.isfunction(getattr(models, name))]
    assert sorted(cfg.ARCHITECTURES) == sorted(functions)


def test_unknown_architecture_names_the_nearest_and_all_valid_ones(config_of):
    with pytest.raises(
        ConfigError, match=r"(?s)model\.architecture=resnet19.*Did you mean 'resnet\d+'.*alexnet.*vgg19"
    ):
        config_of("model=vision", "model.architecture=resnet19")


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg16", "wide_resnet50_2", "shufflenet_v2_x0_5"])
def test_the_name_of_a_network_of_paddle_is_a_choice(config_of, name):
    assert config_of(f"model={name}").model == cfg.Vision(architecture=name)
    assert config_of("mode=cls_distill", f"model@mode.peer={name}").mode.peer == cfg.Vision(architecture=name)
    assert config_of(f"model={name}", "+model.kwargs.a=1").model.kwargs == {"a": 1}


def test_a_mobilenet_v3_without_a_width_is_paddle_s(config_of):
    assert config_of("model=mobilenet_v3_large").model == cfg.Vision(architecture="mobilenet_v3_large")
    assert isinstance(config_of("model=mobilenet_v3_large_x1_0").model, cfg.MobileNetV3)


def test_arguments_reach_the_architecture():
    network = vision.build("mobilenet_v1", 10, {"scale": 0.25})
    assert network.conv1[0].weight.shape[0] == 8


def test_unknown_argument_is_a_config_error():
    with pytest.raises(ConfigError, match=r"model\.kwargs=.*'depht'"):
        vision.build("resnet18", 10, {"depht": 3})


def test_pretrained_weights_are_refused_in_favour_of_a_file():
    with pytest.raises(ConfigError, match=r"model\.weights=imagenet"):
        vision.build("resnet18", 10, {"pretrained": True})


def test_pretrained_false_is_fine():
    assert isinstance(vision.build("squeezenet1_0", 10, {"pretrained": False}), nn.Layer)


def test_number_of_classes_cannot_be_overridden():
    with pytest.raises(ConfigError, match=r"model\.kwargs\.num_classes"):
        vision.build("resnet18", 10, {"num_classes": 3})


def test_googlenet_gives_the_main_logits_alone():
    assert vision.build("googlenet", 7, {})(paddle.zeros([2, 3, 64, 64])).shape == [2, 7]


def test_googlenet_keeps_the_names_and_shapes_of_its_main_parameters():
    original = paddle.vision.models.googlenet(num_classes=7).state_dict()
    main = {
        name: v.shape for name, v in original.items() if not name.split(".")[0].endswith(("_o1", "_o2", "out1", "out2"))
    }
    assert {name: v.shape for name, v in vision.build("googlenet", 7, {}).state_dict().items()} == main


def test_googlenet_computes_what_the_original_computes():
    original = paddle.vision.models.googlenet(num_classes=7)
    network = vision.build("googlenet", 7, {})
    names = network.state_dict().keys()
    network.set_state_dict({name: value for name, value in original.state_dict().items() if name in names})
    original.eval()
    network.eval()
    images = paddle.randn([1, 3, 224, 224])
    assert network(images).numpy() == pytest.approx(original(images)[0].numpy(), abs=1e-6)


def test_googlenet_can_be_traced(tmp_path):
    network = vision.build("googlenet", 7, {})
    network.eval()
    spec = [paddle.static.InputSpec([None, 3, 64, 64])]
    paddle.jit.save(network, str(tmp_path / "model"), input_spec=spec)
    images = paddle.zeros([2, 3, 64, 64])
    loaded = paddle.jit.load(str(tmp_path / "model"))
    assert loaded(images).numpy() == pytest.approx(network(images).numpy(), abs=1e-5)


@pytest.mark.parametrize("architecture", ["resnet18", "googlenet", "shufflenet_v2_x0_25"])
def test_every_parameter_is_trained(architecture):
    assert untrained(vision.build(architecture, 4, {})) == []

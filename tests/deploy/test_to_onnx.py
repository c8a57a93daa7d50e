from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
import onnx as onnx_format
import onnxruntime
import paddle
import pytest
from onnx import ModelProto, helper, numpy_helper
from paddle import Tensor, nn
from paddle.nn.quant.quant_layers import QuantizedConv2D, QuantizedLinear
from paddle.quantization import ImperativeQuantAware

from runner.deploy import convertible, to_onnx
from runner.deploy.graph.folding import fold
from runner.deploy.graph.half import halved
from runner.deploy.graph.int8 import quantize
from runner.deploy.graph.quantized_weight import QuantizedWeight
from runner.errors import ExportError

SIZE = 8
#: In parts of what differs between images. A file that ignored a range would be ten times as far off or more; roundings
#: that fall the other way and outputs in 8 bits that no layer has learnt a range for cost less.
CLOSE = 0.05


class Clipped(nn.Layer):
    """x between -α and α."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = 0.8

    def forward(self, activation: Tensor) -> Tensor:
        return paddle.clip(activation, -self.alpha, self.alpha)


def conv(channels: int, filters: int, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution and a BatchNorm2D with statistics and weights of both signs."""
    norm = nn.BatchNorm2D(filters)
    signs = paddle.sign(paddle.uniform([filters], min=-1.0, max=1.0))
    norm.weight.set_value(signs * paddle.uniform([filters], min=0.5, max=1.5))
    for value in (norm.bias, norm._mean):
        value.set_value(paddle.uniform([filters], min=-0.3, max=0.3))
    norm._variance.set_value(paddle.uniform([filters], min=0.2, max=0.6))
    layer = nn.Conv2D(channels, filters, size, stride, size // 2, groups=groups, bias_attr=False)
    return nn.Sequential(layer, norm)


def loud(channels: int, filters: int, groups: int = 1) -> nn.Sequential:
    """The same, with values far beyond 6."""
    result = conv(channels, filters, groups=groups)
    result[1].weight.set_value(8 * result[1].weight)
    return result


class Residual(nn.Layer):
    """Two convolutions beside another one; all three read or make what is added."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.first, self.second, self.beside = conv(8, 8), conv(8, 8), conv(8, 8, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = nn.functional.relu(self.stem(images))
        return self.second(nn.functional.relu(self.first(x))) + self.beside(x)


class Gated(nn.Layer):
    """Squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.squeeze, self.excite = nn.Conv2D(8, 4, 1), nn.Conv2D(4, 8, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = nn.functional.hardswish(self.stem(images))
        gate = nn.functional.relu(self.squeeze(nn.functional.adaptive_avg_pool2d(x, 1)))
        return x * nn.functional.hardsigmoid(self.excite(gate))


class Twice(nn.Layer):
    """The same convolution two times."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(3, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(nn.functional.relu(self.conv(images)))


def head(channels: int) -> list[nn.Layer]:
    return [nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(channels, 5)]


class Scaled(nn.Layer):
    """Features [N, C] times a parameter of four dimensions, which makes [1, 1, N, C] of them in between."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = self.create_parameter([1, 1, 1, 1], default_initializer=nn.initializer.Constant(1.5))

    def forward(self, features: Tensor) -> Tensor:
        return (features * self.scale).squeeze([0, 1])


NETWORKS = {
    "plain": lambda: [conv(3, 8), nn.ReLU(), nn.MaxPool2D(2), conv(8, 8), nn.ReLU(), *head(8)],
    "residual": lambda: [Residual(), nn.ReLU(), *head(8)],
    "groups": lambda: [
        *(conv(3, 8), nn.Hardswish(), conv(8, 8, groups=8), nn.ReLU6(), conv(8, 12, groups=4), conv(12, 8, 1)),
        *head(8),
    ],
    "limited": lambda: [
        *(loud(3, 8), nn.ReLU6(), loud(8, 8, groups=8), nn.ReLU6(), conv(8, 8, 1), conv(8, 12), nn.ReLU6(), *head(12)),
    ],
    "limited, pooled": lambda: [loud(3, 8), nn.ReLU6(), nn.MaxPool2D(2), conv(8, 8), nn.ReLU(), *head(8)],
    "gated": lambda: [Gated(), *head(8)],
    "twice": lambda: [Twice(), *head(3)],
    "single pixels": lambda: [
        *(conv(3, 8, stride=4), nn.ReLU(), conv(8, 8, 3, 2), nn.ReLU(), conv(8, 8), nn.Hardswish(), conv(8, 8)),
        *(nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 5)),
    ],
}

#: What folding could easily change.
FOLDED = {
    "padding that the engine works out": lambda: [
        *(nn.Conv2D(3, 8, 3, 2, padding="SAME"), nn.BatchNorm2D(8), nn.ReLU(), nn.Conv2D(8, 8, 5, padding="SAME")),
        *(nn.ReLU(), *head(8)),
    ],
    "such padding on single pixels": lambda: [
        *(nn.Conv2D(3, 8, SIZE), nn.ReLU(), nn.Conv2D(8, 8, 3, padding="SAME"), nn.ReLU(), *head(8)),
    ],
    "kernels as large as the maps that are padded for them": lambda: [
        *(nn.Conv2D(3, 8, 4, 4), nn.ReLU(), nn.Conv2D(8, 8, 2, padding="SAME"), nn.ReLU()),
        *(nn.Conv2D(8, 8, 2, padding=1), nn.ReLU(), *head(8)),
    ],
    "padding on single pixels": lambda: [nn.Conv2D(3, 8, SIZE), nn.ReLU(), conv(8, 8), nn.ReLU(), *head(8)],
    "a parameter of four dimensions on features of two": lambda: [
        *(conv(3, 8), nn.ReLU(), nn.AdaptiveAvgPool2D(1), nn.Flatten(), Scaled(), nn.Linear(8, 5)),
    ],
}


def images(count: int = 64) -> np.ndarray:
    """Noise on another colour each."""
    random = np.random.default_rng(1)
    colours = random.uniform(-0.7, 0.7, (64, 3, 1, 1))
    return (colours + random.uniform(-0.5, 0.3, (64, 3, SIZE, SIZE))).astype(np.float32)[:count]


def fake_quantized(
    name: str, weight_bits: int = 8, bits: int = 8, scheme: str = "channel_wise_abs_max", clip: type | None = None
) -> tuple[nn.Layer, nn.Layer, list[QuantizedWeight]]:
    """A network with fake quantization, its plain twin with weights on their grid, and what its layers learnt."""
    paddle.seed(3)
    network = nn.Sequential(*NETWORKS[name]())
    # Names of parameters are the same whenever a network is built.
    with paddle.utils.unique_name.guard():
        twin = nn.Sequential(*NETWORKS[name]())
    twin.set_state_dict(network.state_dict())
    quantizer = ImperativeQuantAware(
        weight_bits=weight_bits, activation_bits=bits, weight_quantize_type=scheme,
        activation_quantize_type="moving_average_abs_max", act_preprocess_layer=clip,
    )  # fmt: skip
    network.eval()
    quantizer._quantize_inputs.apply(network)
    twins = dict(twin.named_sublayers())
    layers = {
        name: layer for name, layer in network.named_sublayers() if isinstance(layer, QuantizedConv2D | QuantizedLinear)
    }
    for layer in layers.values():
        layer._fake_quant_input.train()
    with paddle.no_grad():
        network(paddle.to_tensor(images(8)))
    network.eval()
    twin.eval()
    learnt = [describe(layer, twins[name].weight, scheme) for name, layer in layers.items()]
    return network, twin, learnt


def describe(layer: QuantizedConv2D | QuantizedLinear, weight: Tensor, scheme: str) -> QuantizedWeight:
    weight.set_value(layer._fake_quant_weight(layer.weight))
    magnitudes = np.abs(layer.weight.numpy())
    kept = {"abs_max": None, "channel_wise_abs_max": 0 if magnitudes.ndim == 4 else 1}[scheme]
    return QuantizedWeight(
        name=weight.name,
        weight_scale=magnitudes.max(axis=tuple(axis for axis in range(magnitudes.ndim) if axis != kept)).reshape(-1),
        weight_bits=layer._fake_quant_weight._quant_bits,
        activation_bits=layer._fake_quant_input._quant_bits,
        activation_scale=float(layer._fake_quant_input._scale),
        clip=None if layer._act_preprocess is None else layer._act_preprocess.alpha,
    )


@functools.cache
def architecture(name: str) -> ModelProto:
    """The ONNX model of a network; once, since a child that imports Paddle takes two seconds."""
    with tempfile.TemporaryDirectory() as folder:
        spec = [paddle.static.InputSpec([None, 3, SIZE, SIZE], "float32", "images")]
        paddle.jit.save(fake_quantized(name)[1], f"{folder}/net", input_spec=spec)
        to_onnx.convert(Path(folder, "net"), Path(folder, "net.onnx"))
        return onnx_format.load(Path(folder, "net.onnx"))


def exported(name: str, twin: nn.Layer) -> ModelProto:
    """The ONNX model of a network with the weights of one of its twins."""
    model = ModelProto()
    model.CopyFrom(architecture(name))
    weights = {tensor.name: tensor.numpy() for tensor in twin.state_dict().values()}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output[0] in weights:
            node.attribute[0].t.CopyFrom(numpy_helper.from_array(weights.pop(node.output[0])))
    assert not weights
    return model


def run(model: ModelProto, given: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": given})[0]


def fake(network: nn.Layer, given: np.ndarray) -> np.ndarray:
    with paddle.no_grad():
        return network(paddle.to_tensor(given)).numpy()


def distance(left: np.ndarray, right: np.ndarray) -> float:
    """Mean difference in parts of the mean deviation between images: one rounding turned over changes little of it."""
    return float(np.abs(left - right).mean() / np.abs(right - right.mean(axis=0)).mean())


def executed(model: ModelProto, folder: Path) -> list[str]:
    """The operations that onnxruntime really runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx_format.load(folder / "optimized.onnx").graph.node]


@pytest.fixture(scope="module", params=list(NETWORKS))
def converted(request):
    network, twin, learnt = fake_quantized(request.param)
    return network, twin, learnt, exported(request.param, twin)


def test_the_float_file_computes_what_paddle_does(converted):
    _, twin, _, model = converted
    assert distance(run(model, images()), fake(twin, images())) < 1e-4


def test_the_float_file_has_named_ends_and_batches_of_any_size(converted):
    model = converted[3]
    (given,), (result,) = model.graph.input, model.graph.output
    assert (given.name, result.name) == ("images", "logits")
    assert given.type.tensor_type.shape.dim[0].dim_param == result.type.tensor_type.shape.dim[0].dim_param == "N"
    assert [len(run(model, images(count))) for count in (1, 3)] == [1, 3]


def test_folding_changes_no_output(converted):
    model = converted[3]
    folded = fold(model)
    assert distance(run(folded, images()), run(model, images())) < 1e-4
    assert len(folded.graph.node) < len(model.graph.node)


@pytest.mark.parametrize("kind", FOLDED)
def test_a_converted_and_folded_file_computes_what_paddle_does(tmp_path, kind):
    paddle.seed(3)
    network = nn.Sequential(*FOLDED[kind]())
    network.eval()
    spec = [paddle.static.InputSpec([None, 3, SIZE, SIZE], "float32", "images")]
    paddle.jit.save(network, str(tmp_path / "net"), input_spec=spec)
    to_onnx.convert(tmp_path / "net", tmp_path / "net.onnx")
    to_onnx.fold_file(tmp_path / "net.onnx", tmp_path / "folded.onnx")
    folded = onnx_format.load(tmp_path / "folded.onnx")
    for count in (1, 5):
        np.testing.assert_allclose(run(folded, images(count)), fake(network, images(count)), atol=1e-5)


#: Operations with their limits, and the operations that remain of them.
CLIPS = {
    "a ReLU and a clip": ([("Relu",), ("Clip", -2, 1)], ["Clip"]),
    "a ReLU6 below its range": ([("Clip", 0, 6), ("Clip", -7, 7)], ["Clip"]),
    "a ReLU6 that its range cuts": ([("Clip", 0, 6), ("Clip", -1, 1)], ["Clip"]),
    "a bounded input": ([("HardSigmoid",), ("Clip", -1.5, 1.5), ("Tanh",)], ["HardSigmoid", "Tanh"]),
    "an input that is nearly not negative": ([("HardSwish",), ("Clip", -0.5, 0.5)], ["HardSwish", "Clip"]),
    "an input of both signs": ([("Tanh",), ("Clip", -0.5, 0.5)], ["Tanh", "Clip"]),
    "three, of which one is left": ([("Relu",), ("Clip", -1, 1), ("Clip", -2, 2)], ["Clip"]),
    "a ReLU between clips": ([("Clip", -1, 1), ("Relu",), ("Clip", -0.5, 0.5), ("Tanh",)], ["Clip", "Clip", "Tanh"]),
}


def chain(operations: list[tuple]) -> ModelProto:
    """A model of operations after each other, on images."""
    nodes, constants = [], []
    for place, (kind, *limits) in enumerate(operations):
        names = [f"{place}.{end}" for end in range(len(limits))]
        constants += [
            helper.make_tensor(name, onnx_format.TensorProto.FLOAT, [], [limit])
            for name, limit in zip(names, limits, strict=True)
        ]
        nodes.append(helper.make_node(kind, [f"x{place}", *names], [f"x{place + 1}"]))
    ends = [
        helper.make_tensor_value_info(name, onnx_format.TensorProto.FLOAT, ["N", 3, SIZE, SIZE])
        for name in ("x0", f"x{len(operations)}")
    ]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_network_that_cannot_be_traced_is_named_with_the_reason(tmp_path):
    class Counting(nn.Layer):
        def forward(self, given: Tensor) -> Tensor:
            if given.shape[0] < 0:
                raise ValueError("the number of images is below zero")
            return given.flatten(1)

    with pytest.raises(ExportError, match=r"cannot trace Counting .*number of images is below zero.*safetensors"):
        to_onnx.trace(Counting(), (3, SIZE, SIZE), tmp_path / "net")


#: Layers of maps [N, 8, H, W] with settings that are not their defaults.
LAYERS = [
    nn.AdaptiveAvgPool2D(SIZE), nn.AvgPool2D(3, 1, 1, exclusive=False), nn.BatchNorm2D(8, epsilon=0.2), nn.CELU(0.3),
    nn.ELU(0.3), nn.GELU(), nn.GELU(True), nn.GroupNorm(2, 8, epsilon=0.3), nn.GroupNorm(1, 8, epsilon=0.1),
    nn.Hardshrink(0.3), nn.Hardsigmoid(), nn.Hardswish(), nn.Hardtanh(-0.3, 0.4), nn.InstanceNorm2D(8, epsilon=0.5),
    nn.LayerNorm([SIZE], epsilon=1e-3), nn.LeakyReLU(0.3), nn.LeakyReLU(), nn.LocalResponseNorm(3, 0.3, 0.6, 1.3),
    nn.LogSigmoid(), nn.Mish(), nn.PReLU(8), nn.ReLU6(), nn.SELU(1.3, 1.2), nn.Silu(), nn.Softplus(2.0, 3.0),
    nn.Softshrink(0.3), nn.Softsign(), nn.Swish(), nn.Tanhshrink(), nn.ThresholdedReLU(0.3),
    nn.Sequential(nn.Pad2D([0, 1, 0, 1], value=0.7), nn.MaxPool2D(2, 1)),
    nn.Sequential(nn.ZeroPad2D(1), nn.AvgPool2D(3, 1)),
    nn.Sequential(nn.Upsample(scale_factor=2), nn.AvgPool2D(3, 2, 1)),
    nn.Sequential(nn.MaxPool2D(2, 2), nn.Upsample(scale_factor=2, mode="bilinear")),
]  # fmt: skip


class SideBySide(nn.Layer):
    """What layers make of the same maps, as logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.LayerList(LAYERS)

    def forward(self, given: Tensor) -> Tensor:
        maps = paddle.concat([given, 2 * given, -given], axis=1)[:, :8]
        return paddle.concat([layer(maps).flatten(1) for layer in self.layers], axis=1)


def test_layers_compute_in_files_what_they_do_in_paddle(tmp_path):
    network = SideBySide()
    network.eval()
    expected = fake(network, images())
    convertible.substitute(network)
    np.testing.assert_allclose(fake(network, images()), expected, atol=1e-5)
    to_onnx.trace(network, (3, SIZE, SIZE), tmp_path / "net")
    to_onnx.convert(tmp_path / "net", tmp_path / "net.onnx")
    found = run(onnx_format.load(tmp_path / "net.onnx"), images())
    parts = zip(LAYERS, np.split(found, len(LAYERS), 1), np.split(expected, len(LAYERS), 1), strict=True)
    wrong = {
        str(layer): np.abs(ours - theirs).max()
        for layer, ours, theirs in parts
        if not np.allclose(ours, theirs, atol=1e-4 if isinstance(layer, nn.LogSigmoid) else 1e-5)
    }
    assert wrong == {}


@pytest.mark.parametrize("kind", CLIPS)
def test_limits_of_clips_that_no_value_reaches_are_removed(kind):
    operations, remaining = CLIPS[kind]
    model, given = chain(operations), 3 * images()
    session = onnxruntime.InferenceSession(fold(model).SerializeToString(), providers=["CPUExecutionProvider"])
    [result] = session.run(None, {"x0": given})
    [expected] = onnx_format.reference.ReferenceEvaluator(model).run(None, {"x0": given})
    np.testing.assert_allclose(result, expected, atol=1e-6)
    assert [node.op_type for node in fold(model).graph.node] == remaining


def test_a_clip_of_what_others_read_too_leaves_it_to_them():
    model = chain([("Relu",), ("Clip", -1, 1)])
    model.graph.node.append(helper.make_node("Add", ["x1", "x2"], ["sum"]))
    model.graph.output[0].name = "sum"
    folded = fold(model)
    assert [node.op_type for node in folded.graph.node] == ["Relu", "Clip", "Add"]
    # It is not negative already.
    assert folded.graph.node[1].input[1] == ""


def test_integers_compute_what_fake_quantization_does(converted):
    network, _, learnt, model = converted
    integers = quantize(model, learnt, images())
    assert distance(run(integers, images()), fake(network, images())) < CLOSE


@pytest.mark.parametrize("bits", [5, 8])
def test_most_images_give_the_logits_of_fake_quantization_to_the_last_digits(bits):
    network, twin, learnt = fake_quantized("plain", bits=bits)
    integers = quantize(exported("plain", twin), learnt, images())
    same = np.isclose(run(integers, images()), fake(network, images()), atol=1e-5).all(axis=1)
    assert same.mean() > 0.5


def test_every_convolution_and_linear_layer_runs_in_integers(converted, tmp_path):
    _, _, learnt, model = converted
    operations = executed(quantize(model, learnt, images()), tmp_path)
    integer = [name for name in operations if name in ("QLinearConv", "QGemm", "MatMulIntegerToFloat")]
    assert len(integer) >= len(learnt)
    assert not {"Conv", "FusedConv", "Gemm", "MatMul"} & set(operations)


def test_integers_keep_to_the_limits_of_relu6_and_no_float_operation_parts_them():
    network, twin, learnt = fake_quantized("limited")
    integers = quantize(exported("limited", twin), learnt, images())
    made_by = {name: node for node in integers.graph.node for name in node.output}
    clips = [node for node in integers.graph.node if node.op_type == "Clip"]
    assert clips
    assert all(made_by[node.input[0]].op_type == "QuantizeLinear" for node in clips)
    assert distance(run(integers, images()), fake(network, images())) < CLOSE


@pytest.mark.parametrize("name", ["limited", "limited, pooled"])
@pytest.mark.parametrize("factor", [0.4, 1.0, 1.5, 3.0])
def test_the_limit_of_relu6_holds_whatever_range_the_next_layer_has_learnt(name, factor):
    network, twin, learnt = fake_quantized(name)
    narrow(factor, learnt, network)
    integers = quantize(exported(name, twin), learnt, images())
    assert distance(run(integers, images()), fake(network, images())) < CLOSE


def test_the_model_that_was_given_stays_as_it_is(converted):
    _, _, learnt, model = converted
    before = model.SerializeToString()
    quantize(model, learnt, images())
    assert model.SerializeToString() == before


def narrow(factor: float, learnt: list[QuantizedWeight], network: nn.Layer) -> None:
    """Give every layer a smaller range than its activations have."""
    for described, layer in zip(learnt, quantized_layers(network), strict=True):
        described.activation_scale *= factor
        layer._fake_quant_input._scale.set_value(paddle.full([1], described.activation_scale))


def quantized_layers(network: nn.Layer) -> list[nn.Layer]:
    return [layer for layer in network.sublayers() if isinstance(layer, QuantizedConv2D | QuantizedLinear)]


@pytest.mark.parametrize("name", ["plain", "residual"])
def test_values_beyond_a_learnt_range_are_cut_off_as_in_training(name):
    network, twin, learnt = fake_quantized(name)
    narrow(0.3, learnt, network)
    integers = quantize(exported(name, twin), learnt, images())
    assert distance(run(integers, images()), fake(network, images())) < CLOSE


@pytest.mark.parametrize("name", ["plain", "residual"])
def test_pact_cuts_off_below_the_learnt_range(name):
    network, twin, learnt = fake_quantized(name, clip=Clipped)
    narrow(2.0, learnt, network)
    assert all(layer.clip < layer.activation_scale for layer in learnt)
    integers = quantize(exported(name, twin), learnt, images())
    assert distance(run(integers, images()), fake(network, images())) < CLOSE


def test_each_layer_reads_a_shared_tensor_with_its_own_range(tmp_path):
    network, twin, learnt = fake_quantized("residual")
    beside = next(index for index, layer in enumerate(quantized_layers(network)) if layer is network[0].beside[0])
    learnt[beside].activation_scale *= 0.2
    network[0].beside[0]._fake_quant_input._scale.set_value(paddle.full([1], learnt[beside].activation_scale))
    integers = quantize(exported("residual", twin), learnt, images())
    assert distance(run(integers, images()), fake(network, images())) < CLOSE


@pytest.mark.parametrize(("weight_bits", "bits"), [(4, 8), (8, 5), (5, 6)])
def test_fewer_bits_have_their_coarser_grid(weight_bits, bits, tmp_path):
    network, twin, learnt = fake_quantized("plain", weight_bits, bits)
    integers = quantize(exported("plain", twin), learnt, images())
    assert distance(run(integers, images()), fake(network, images())) < CLOSE


def test_weights_may_have_one_range_for_all_channels(tmp_path):
    network, twin, learnt = fake_quantized("plain", scheme="abs_max")
    assert {len(layer.weight_scale) for layer in learnt} == {1}
    integers = quantize(exported("plain", twin), learnt, images())
    assert distance(run(integers, images()), fake(network, images())) < CLOSE


def test_weights_are_exactly_the_integers_of_training(tmp_path):
    network, twin, learnt = fake_quantized("plain")
    model = quantize(exported("plain", twin), learnt, images())
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    weight = network[0][0].weight.numpy()
    expected = np.round(weight * 127 / np.abs(weight).max(axis=(1, 2, 3), keepdims=True))
    # A negative factor of the BatchNorm2D turns the signs of a channel.
    signs = np.sign(network[0][1].weight.numpy()).reshape(-1, 1, 1, 1)
    made_by = {name: node for node in model.graph.node for name in node.output}
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    np.testing.assert_array_equal(stored[made_by[first.input[1]].input[0]], signs * expected)


def test_names_are_short_and_equal_constants_are_stored_once():
    _, twin, learnt = fake_quantized("plain")
    model = quantize(exported("plain", twin), learnt, images())
    graph = model.graph
    ends = {value.name for value in (*graph.input, *graph.output)}
    assert all(len(name) <= 4 for node in graph.node for name in (*node.input, *node.output) if name not in ends)
    stored = [(tensor.data_type, tuple(tensor.dims), tensor.raw_data) for tensor in graph.initializer]
    assert len(stored) == len(set(stored))


def test_a_dead_channel_with_a_bias_beyond_32_bits_keeps_its_value(tmp_path):
    network, twin, learnt = fake_quantized("plain")
    for part in (network, twin):
        part[0][1].weight.set_value(part[0][1].weight * paddle.to_tensor([1e-12, 0.0, *[1.0] * 6]))
    integers = quantize(exported("plain", twin), learnt, images())
    assert distance(run(integers, images()), fake(network, images())) < CLOSE


def test_layers_that_are_not_named_stay_float(tmp_path):
    _, twin, learnt = fake_quantized("plain")
    operations = executed(quantize(exported("plain", twin), learnt[1:], images()), tmp_path)
    assert operations.count("QLinearConv") == len(learnt) - 2
    assert {"Conv", "FusedConv"} & set(operations)


def test_a_file_of_integers_is_written_from_a_file(tmp_path):
    network, twin, learnt = fake_quantized("plain")
    onnx_format.save(exported("plain", twin), tmp_path / "net.onnx")
    to_onnx.quantize_file(tmp_path / "net.onnx", tmp_path / "net.int8.onnx", learnt, images())
    integers = onnx_format.load(tmp_path / "net.int8.onnx")
    assert distance(run(integers, images()), fake(network, images())) < CLOSE
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "nowhere"}, "no weight nowhere"),
        ({"weight_bits": 16}, "16 weight bits"),
        ({"activation_bits": 9}, "9 activation bits"),
        ({"activation_scale": 0.0}, "no range"),
        ({"weight_scale": np.float32([0.777])}, "not on the integer grid"),
    ],
)
def test_what_cannot_be_quantized_is_refused(change, message):
    weight = numpy_helper.from_array(np.float32(np.arange(-6, 6)).reshape(1, 3, 2, 2), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["images", "w"], ["logits"])], "net",
        [helper.make_tensor_value_info("images", 1, ["N", 3, 4, 4])],
        [helper.make_tensor_value_info("logits", 1, ["N", 1, 3, 3])], [weight],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    layer = QuantizedWeight("w", np.float32([127.0]), 8, 8, 1.0, None)
    quantize(model, [layer], np.zeros((1, 3, 4, 4), np.float32))
    with pytest.raises(ExportError, match=message):
        quantize(model, [QuantizedWeight(**(vars(layer) | change))], np.zeros((1, 3, 4, 4), np.float32))


def test_what_paddle2onnx_cannot_read_is_an_error_with_its_reason(tmp_path):
    (tmp_path / "net.json").write_text("{}")
    (tmp_path / "net.pdiparams").write_bytes(b"")
    with pytest.raises(ExportError, match="paddle2onnx cannot convert"):
        to_onnx.convert(tmp_path / "net", tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


def test_constants_within_operations_are_halved_as_well():
    shape = helper.make_tensor("shape", onnx_format.TensorProto.INT64, [1], [1])
    value = helper.make_tensor("value", onnx_format.TensorProto.FLOAT, [1], [1e6])
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["constant"], value=value),
        helper.make_node("Min", ["images", "constant"], ["logits"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, onnx_format.TensorProto.FLOAT, ["N", 3]) for name in ("images", "logits")
    ]
    graph = helper.make_graph(nodes, "constants", ends[:1], ends[1:], [shape])
    model = halved(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    onnx_format.checker.check_model(model, full_check=True)
    given = np.array([[1, 2, 3]], np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"images": given})[0], given)

"""A file that prepares pictures itself says what `predict` says, in every engine that reads it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from PIL import Image

from runner.config.rules import validate
from runner.deploy import manifest
from runner.deploy.graph.pictures import with_pictures
from runner.deploy.predict import Deployed
from runner.errors import ConfigError
from runner.images import prepare
from tests.conftest import composed
from tests.data.photos import photo

from . import helpers

CONFIGS = {
    "square": {},
    "crop_ratio": {"crop_ratio": 0.875, "image_size": [28, 28]},
    "wide": {"image_size": [18, 40]},
    "high": {"image_size": [40, 18], "crop_ratio": 0.6},
    "pad": {"resize": "pad", "background": [10, 200, 30], "image_size": [21, 16]},
    "stretch": {"resize": "stretch", "image_size": [17, 30]},
    "grey": {"channels": 1, "mean": [0.3], "std": [0.2]},
    "grey and padded": {"channels": 1, "mean": [0.3], "std": [0.2], "background": [1, 90, 7], "resize": "pad"},
}
#: Heights and widths.
SIZES = [(1, 1), (5, 3), (3, 50), (33, 32), (16, 16), (64, 64), (100, 75), (200, 17), (17, 200), (250, 375), (31, 97)]
#: Most levels of 256 by which a value may be off, and most values that may be. OpenVINO computes weights in float32
#: that the file has in float64: two passes round, and each may be off by one.
BOUNDS = {"onnxruntime": (0.01, 0.0), "openvino": (2.01, 0.035)}
ENGINES = ["onnxruntime", pytest.param("openvino", marks=helpers.needs_openvino)]


def in_engine(engine, model):
    """Pictures uint8 [N, h, w, 3] → output name → array."""
    content = model.SerializeToString()
    if engine == "onnxruntime":
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda pictures: dict(zip(names, session.run(None, {"pictures": pictures}), strict=True))
    import openvino

    compiled = openvino.Core().compile_model(
        openvino.Core().read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return lambda pictures: {output.any_name: value for output, value in compiled([pictures]).items()}


def showing_images(described):
    """A network whose logits are the images that it is given."""
    size = int(np.prod(described.input_shape))
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", *described.input_shape])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", size])
    graph = helper.make_graph([helper.make_node("Flatten", ["images"], ["logits"])], "shown", [images], [logits])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    result = with_pictures(model, replace(described, classes=[str(number) for number in range(size)]))
    result.graph.output.append(logits)
    return result


def some_pictures():
    """uint8 [height, width, 3]: noise, photos, and flat areas with hard edges, whose sums are often half a level."""
    for height, width in SIZES:
        yield helpers.picture(height, width)
        yield np.asarray(photo(width, height, noise=10))
    generator = np.random.default_rng(0)
    sides = [1, 2, 3, 4, 8, 12, 16, 24, 48, 64, 128]
    for _ in range(60):
        height, width = generator.choice([*sides, *np.exp(generator.uniform(0, 5.5, len(sides))).astype(int)], 2)
        colours = generator.choice([0, 1, 51, 102, 127, 128, 153, 204, 254, 255], (4, 3)).astype(np.uint8)
        coarse = generator.integers(0, len(colours), (-(-height // 5), -(-width // 3)))
        areas = coarse.repeat(5, 0).repeat(3, 1)[:height, :width]
        yield colours[areas if generator.random() < 0.5 else generator.integers(0, len(colours), (height, width))]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CONFIGS)
def test_pictures_are_prepared_as_training_prepared_them(tmp_path, name, engine):
    described = replace(manifest.read(helpers.export(tmp_path / "export")), **CONFIGS[name])
    run = in_engine(engine, showing_images(described))
    mean, std = np.array(described.mean), np.array(described.std)
    differences = []
    for pixels in some_pictures():
        shown = run(pixels[None])["logits"].reshape(described.input_shape).transpose(1, 2, 0)
        wanted = prepare(Image.fromarray(pixels), described.preparation)
        differences.append(np.abs((shown * std + mean) * 255 - wanted).ravel())
    levels, part = BOUNDS[engine]
    assert max(map(np.max, differences)) < levels
    assert (np.concatenate(differences) > 0.5).mean() <= part


@pytest.mark.parametrize("engine", ENGINES)
def test_probabilities_are_those_of_predict(tmp_path, engine):
    folder = helpers.export(tmp_path / "export")
    described = replace(manifest.read(folder), temperature=2.0)
    run = in_engine(engine, with_pictures(onnx.load(folder / helpers.ONNX), described))
    for size in SIZES:
        pictures = np.stack([helpers.picture(*size), helpers.picture(*size)[::-1]])
        # At a temperature of 2 the logits are halved.
        expected = np.sqrt(Deployed(folder)([Image.fromarray(one) for one in pictures]))
        np.testing.assert_allclose(run(pictures)["probabilities"], expected / expected.sum(1, keepdims=True), atol=2e-3)


@pytest.mark.parametrize("engine", ENGINES)
def test_labels_are_decided_by_their_thresholds(tmp_path, engine):
    folder = helpers.export(tmp_path / "export")
    thresholds = [0.0, 0.4, 0.5, 1.0]
    many = replace(manifest.read(folder), labels="many", activation="sigmoid", thresholds=thresholds)
    manifest.write(folder, many)
    result = in_engine(engine, with_pictures(onnx.load(folder / helpers.ONNX), many))(helpers.picture(40, 30)[None])
    np.testing.assert_allclose(
        result["probabilities"], Deployed(folder)([Image.fromarray(helpers.picture(40, 30))]), atol=1e-3
    )
    assert np.array_equal(result["labels"], result["probabilities"] >= np.array(thresholds, np.float32))


def test_the_file_names_its_classes_and_the_steps(tmp_path):
    folder = helpers.export(tmp_path / "export")
    described = replace(manifest.read(folder), classes=["é", "b", "c", "d"])
    model = with_pictures(onnx.load(folder / helpers.ONNX), described)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == described.classes
    assert "bilinear and antialiased" in metadata["preprocessing"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("deploy.formats=[paddle]", r"deploy\.formats=\[onnx\]"),
        ("data.channels=2 data.mean=[0,0] data.std=[1,1]", r"deploy\.preprocess=outside"),
    ],
)
def test_what_cannot_hold_its_preprocessing_is_refused(override, said):
    with pytest.raises(ConfigError, match=said):
        validate(composed("deploy.preprocess=inside", *override.split()))


def test_names_of_classes_that_are_not_text_are_in_the_file(tmp_path):
    folder = helpers.export(tmp_path / "export")
    described = replace(manifest.read(folder), classes=["caf\udce9", "b", "c", "d"])
    model = with_pictures(onnx.load(folder / "model.onnx"), described)
    stored = onnx.load_from_string(model.SerializeToString())
    values = {value.key: value.value for value in stored.metadata_props}
    assert json.loads(values["classes"]) == described.classes

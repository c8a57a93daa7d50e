"""A file that prepares pictures otherwise than `predict` is refused, however alike the probabilities are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from runner.deploy import inside, manifest, to_onnx
from runner.deploy.graph import pictures
from runner.errors import ExportError
from runner.files.digests import file_digest

from . import helpers

CLASSES = [f"class {number}" for number in range(500)]


def young_network(folder, are_integers):
    """An export folder whose network of many classes finds none of them probable; returns it and its manifest."""
    described = replace(manifest.read(helpers.export(folder)), classes=CLASSES)
    pixels = int(np.prod(described.input_shape))
    weights = np.random.default_rng(0).normal(0, 0.003, (pixels, len(CLASSES))).astype(np.float32)
    constants = {"weight": weights, "scale": np.float32(0.02), "zero": np.uint8(128)}
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "scale", "zero"], ["levels"]),
        helper.make_node("DequantizeLinear", ["levels", "scale", "zero"], ["values"]),
    ]
    flat = helper.make_node("Flatten", ["values" if are_integers else "images"], ["flat"])
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", *described.input_shape])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(CLASSES)])
    graph = helper.make_graph(
        [*(nodes if are_integers else []), flat, helper.make_node("MatMul", ["flat", "weight"], ["logits"])],
        "young", [images], [logits],
        [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / helpers.ONNX)
    described.files = [file for file in described.files if file.path == helpers.ONNX]
    described.files[0].digests = {helpers.ONNX: file_digest(folder / helpers.ONNX)}
    manifest.write(folder, described)
    return described


def in_bgr(source, target, described):
    """The file with its channels exchanged before anything else."""
    ADD(source, target, described)
    model = onnx.load(target)
    for node in model.graph.node:
        node.input[:] = ["exchanged" if name == "pictures" else name for name in node.input]
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0]), "order"))
    model.graph.node.insert(0, helper.make_node("Gather", ["pictures", "order"], ["exchanged"], axis=3))
    onnx.save(model, target)


ADD = to_onnx.add_pictures
WRONG = {
    "exchanged channels": in_bgr,
    "another mean": lambda source, target, own: ADD(source, target, replace(own, mean=[0.45, 0.5, 0.6])),
    "a part of the picture": lambda source, target, own: ADD(source, target, replace(own, crop_ratio=0.9)),
}


@pytest.mark.parametrize("are_integers", [False, True])
@pytest.mark.parametrize("name", WRONG)
def test_other_pixels_are_refused_where_no_class_is_probable(tmp_path, monkeypatch, name, are_integers):
    described = young_network(tmp_path / "export", are_integers)
    assert "off by at most" in inside.write(tmp_path / "export", described, helpers.ONNX)
    monkeypatch.setattr(to_onnx, "add_pictures", WRONG[name])
    with pytest.raises(
        ExportError, match=r"pictures are prepared otherwise than for model\.onnx: off by [\d.e+]+ of 256"
    ):
        inside.write(tmp_path / "export", described, helpers.ONNX)


@pytest.mark.parametrize("rounds_up", [False, True])
def test_ties_that_are_rounded_otherwise_are_in_the_note(tmp_path, monkeypatch, rounds_up):
    described = young_network(tmp_path / "export", are_integers=True)
    if rounds_up:
        rounded = pictures._rounded
        monkeypatch.setattr(
            pictures, "_rounded", lambda do, coarse, fine: rounded(do, coarse, do("Add", fine, np.float32(64)))
        )
    note = inside.write(tmp_path / "export", described, helpers.ONNX)
    assert f"off by at most {int(rounds_up)} of 256 levels" in note


@pytest.mark.parametrize("are_integers", [False, True])
def test_other_probabilities_are_refused_where_no_class_is_probable(tmp_path, monkeypatch, are_integers):
    described = young_network(tmp_path / "export", are_integers)
    monkeypatch.setattr(
        to_onnx, "add_pictures", lambda source, target, own: ADD(source, target, replace(own, temperature=1.5))
    )
    with pytest.raises(ExportError, match=r"its probabilities differ from those of model\.onnx by"):
        inside.write(tmp_path / "export", described, helpers.ONNX)

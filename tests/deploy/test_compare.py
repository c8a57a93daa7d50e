"""Which exported files are the trained network, and which of them is recommended. The files and engines are real."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import onnx
import paddle
import pytest
from onnx import helper, numpy_helper

from runner import config as cfg
from runner.data import Batch
from runner.deploy import engines, manifest, recommendation
from runner.deploy.compare import _check_float, compare
from runner.deploy.manifest import ExportedFile
from runner.deploy.subject import Subject
from runner.errors import CheckpointError
from tests.conftest import composed

from . import helpers

IMAGES = helpers.random_images(120)
#: Files that `helpers.export` writes.
ONNX, PADDLE = helpers.ONNX, helpers.PADDLE
#: An operation at the end, its second input and its attributes, that makes the file another network.
SWAPPED, TURNED = (("Gather", np.array(order), {"axis": 1}) for order in ([1, 0, 2, 3], [1, 2, 3, 0]))
NOT_A_NUMBER = ("Mul", np.float32("nan"), {})


@pytest.fixture
def folder(tmp_path):
    return helpers.export(tmp_path / "export")


def compared(folder, files, compression="none", images=IMAGES, labels=None, overrides=()):
    """The manifest of these files after they were compared with the network, and what was noted."""
    found = replace(manifest.read(folder), files=files, compression=compression, recommended=None)
    config = composed(f"compression={compression}", *overrides)
    labels = np.zeros(len(images), dtype=np.int64) if labels is None else labels
    subject = Subject(helpers.network(), "student", config, config.model, helpers.CLASSES)
    batches = [
        Batch(paddle.to_tensor(images[part]), paddle.to_tensor(labels[part]), part, len(part))
        for part in np.array_split(np.arange(len(images)), 3)
    ]
    return found, compare(folder, found, subject, batches)


def with_end(folder, path, operation, constant, attributes):
    """The ONNX file with one more operation at its end, under another name."""
    model = onnx.load(folder / ONNX)
    name = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["before" if output == name else output for output in node.output]
    model.graph.node.append(helper.make_node(operation, ["before", "extra"], [name], **attributes))
    model.graph.initializer.append(numpy_helper.from_array(constant, "extra"))
    onnx.save(model, folder / path)
    return described(folder, path)


def described(folder, path, precision="float32"):
    kind, engine = ("paddle", "paddle") if path == PADDLE else ("onnx", "onnxruntime")
    return ExportedFile(path, kind, precision, (folder / path).stat().st_size, engine)


def padded(folder, path):
    """The ONNX file with a weight that nothing reads, under another name."""
    model = onnx.load(folder / ONNX)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(250_000, dtype=np.float32), "unused"))
    onnx.save(model, folder / path)
    return described(folder, path)


def test_files_of_the_network_agree_with_it_in_every_engine(folder):
    found, notes = compared(folder, [described(folder, ONNX), described(folder, PADDLE)])
    assert notes == []
    assert [file.agreement for file in found.files] == [1.0, 1.0]
    assert all(0 <= file.max_difference < 1e-5 for file in found.files)


@pytest.mark.parametrize("end", [SWAPPED, NOT_A_NUMBER], ids=["swapped classes", "not a number"])
@pytest.mark.parametrize("compression", ["none", "fpgm"])
def test_a_file_that_is_not_the_float_network_is_refused(folder, end, compression):
    wrong = with_end(folder, "wrong.onnx", *end)
    with pytest.raises(CheckpointError, match=r"wrong\.onnx is not the trained network: on 120 test images") as error:
        compared(folder, [described(folder, ONNX), wrong], compression)
    assert "deploy.formats=[paddle]" in str(error.value)


def test_logits_that_are_no_numbers_are_refused_where_the_classes_agree(folder):
    first = IMAGES[helpers.logits(IMAGES).argmax(axis=1) == 0]
    assert len(first) > 2
    wrong = with_end(folder, "wrong.onnx", *NOT_A_NUMBER)
    with pytest.raises(CheckpointError, match=r"agrees in 0\.00% of the classes, and logits differ by up to nan"):
        compared(folder, [wrong], images=first)


@pytest.mark.parametrize("bench_s", [0.0, 0.02])
def test_integers_without_finite_logits_agree_with_nothing(folder, bench_s):
    integers = with_end(folder, "net.int8.onnx", *NOT_A_NUMBER)
    integers.precision, integers.bytes = "int8", 1
    # Of these all are of the class that the first of equal logits has.
    first = IMAGES[helpers.logits(IMAGES).argmax(axis=1) == 0]
    found, [note] = compared(folder, [integers, described(folder, ONNX)], "qat", images=first)
    assert (
        note
        == f"net.int8.onnx: the logits of {len(first)} of {len(first)} test images are not finite; use another file"
    )
    assert (integers.agreement, integers.top1) == (0, 0)
    recommendation.recommend(folder, found, cfg.Deploy(bench_s=bench_s))
    assert found.recommended == ONNX


@pytest.mark.parametrize("bench_s", [0.0, 0.02])
def test_integers_that_disagree_are_noted_with_the_figure_and_another_file_is_recommended(folder, bench_s):
    right = helpers.logits(IMAGES).argmax(axis=1)
    agreement = np.isin(right, (2, 3)).mean()
    assert 0 < agreement < 0.99
    integers = with_end(folder, "net.int8.onnx", *SWAPPED)
    integers.precision, integers.bytes = "int8", 1
    found, [note] = compared(folder, [integers, described(folder, ONNX)], "qat")
    others = np.sum(~np.isin(right, (2, 3)))
    assert note == (
        f"net.int8.onnx: agreement with the trained network is {agreement:.1%} of 120 test images, less than "
        f"deploy.agreement=0.99; {others} images get another class"
    )
    recommendation.recommend(folder, found, cfg.Deploy(bench_s=bench_s))
    assert found.recommended == ONNX


@pytest.mark.parametrize("bench_s", [0.0, 0.02])
def test_the_precision_that_is_asked_for_is_recommended_if_a_file_has_it(folder, bench_s):
    integers = with_end(folder, "net.int8.onnx", *SWAPPED)
    integers.precision, integers.bytes = "int8", 1
    found, _ = compared(folder, [integers, described(folder, ONNX)], "qat")
    recommendation.recommend(folder, found, cfg.Deploy(bench_s=bench_s, recommend=cfg.Precision.int8))
    assert found.recommended == integers.path
    recommendation.recommend(folder, found, cfg.Deploy(bench_s=bench_s, recommend=cfg.Precision.float16))
    assert found.recommended == ONNX


def test_files_that_agree_in_the_same_images_have_one_note(folder):
    files = [with_end(folder, f"{number}.onnx", *SWAPPED) for number in range(2)]
    _, [note] = compared(folder, files, "qat")
    assert note.startswith("0.onnx, 1.onnx: agreement")


@pytest.mark.parametrize("bench_s", [0.0, 0.02])
def test_where_no_file_agrees_enough_the_one_that_agrees_most_is_recommended(folder, bench_s):
    turned, swapped = (with_end(folder, f"{number}.onnx", *end) for number, end in enumerate((TURNED, SWAPPED)))
    turned.bytes = 1
    found, notes = compared(folder, [turned, swapped], "qat")
    assert len(notes) == 2
    assert turned.agreement < swapped.agreement < 0.99
    recommendation.recommend(folder, found, cfg.Deploy(bench_s=bench_s))
    assert found.recommended == swapped.path


@helpers.needs_openvino
def test_a_file_agrees_in_openvino_too_and_where_it_does_not_it_is_noted_there(folder):
    right = replace(described(folder, ONNX), engine="openvino")
    wrong = replace(with_end(folder, "wrong.onnx", *SWAPPED), engine="openvino")
    found, [note] = compared(folder, [right, wrong])
    assert found.files[0].agreement == 1.0
    assert found.files[0].max_difference < 1e-5
    assert found.files[1].agreement < 0.99
    assert note.startswith("wrong.onnx in OpenVINO is not the trained network: on 120 test images")


@helpers.needs_openvino
def test_what_openvino_cannot_open_is_left_out_with_a_note(folder):
    (folder / "broken.onnx").write_bytes(b"no network")
    broken = replace(described(folder, "broken.onnx"), engine="openvino")
    found, [note] = compared(folder, [described(folder, ONNX), broken])
    assert [file.path for file in found.files] == [ONNX]
    assert "broken.onnx cannot be opened" in note
    (folder / "broken.onnx").unlink()
    manifest.write(folder, found)
    again = manifest.read(folder)
    assert [(file.path, file.engine) for file in again.runnable] == [(ONNX, "onnxruntime"), (ONNX, "openvino")]


@helpers.needs_openvino
def test_what_openvino_cannot_compute_is_left_out_with_one_note(folder, monkeypatch):
    def fails(_engine, _images):
        raise RuntimeError("Check 'false' failed")

    monkeypatch.setattr(engines.OpenVino, "__call__", fails)
    files = [described(folder, ONNX), replace(described(folder, ONNX), engine="openvino")]
    found, [note] = compared(folder, files)
    assert note == f"{ONNX} in OpenVINO computes nothing: Check 'false' failed. OpenVINO is omitted."
    assert found.runnable == found.files == files[:1]
    assert found.files[0].agreement == 1.0


@pytest.mark.parametrize(("agreement", "difference", "is_refused"), [
    (1.0, 1e-4, False), (0.9999, 1e-4, True), (1.0, 1e-2, True), (0.5, 1e-6, True), (1.0, np.nan, True),
])  # fmt: skip
def test_a_float_file_has_every_class_and_its_logits_within_the_tolerance(agreement, difference, is_refused):
    file = ExportedFile("net.onnx", "onnx", "float32", 1, "onnxruntime", agreement=agreement, max_difference=difference)
    with pytest.raises(CheckpointError) if is_refused else contextlib.nullcontext():
        assert _check_float(file, 10_000, 1e-3) == []


@helpers.needs_openvino
def test_a_file_is_recommended_in_the_engine_that_computes_it_fastest(folder):
    slow = slowed(folder, "slow.onnx")
    found, _ = compared(folder, [slow, replace(described(folder, ONNX), engine="openvino")])
    recommendation.recommend(folder, found, cfg.Deploy(bench_s=0.1))
    assert (found.recommended, found.recommended_engine) == (ONNX, "openvino")


def test_a_files_own_top1_is_beside_its_agreement(folder):
    classes = helpers.logits(IMAGES).argmax(axis=1)
    labels = np.where(np.arange(len(IMAGES)) % 3, classes, (classes + 1) % 4)
    swapped = with_end(folder, "net.int8.onnx", *SWAPPED)
    found, _ = compared(folder, [described(folder, ONNX), swapped], "qat", labels=labels)
    exact, wrong = found.files
    assert exact.top1 == (labels == classes).mean()
    assert wrong.top1 == (labels == np.array([1, 0, 2, 3])[classes]).mean()


def test_the_least_agreement_is_a_key(folder):
    integers = with_end(folder, "net.int8.onnx", *SWAPPED)
    integers.precision, integers.bytes = "int8", 1
    found, notes = compared(folder, [integers, described(folder, ONNX)], "qat", overrides=["deploy.agreement=0.1"])
    assert notes == []
    assert 0.1 < integers.agreement < 0.99
    recommendation.recommend(folder, found, cfg.Deploy(bench_s=0, agreement=0.1))
    assert found.recommended == "net.int8.onnx"
    recommendation.recommend(folder, found, cfg.Deploy(bench_s=0))
    assert found.recommended == ONNX


def test_weights_alone_are_not_recommended(folder):
    found, notes = compared(folder, [ExportedFile(ONNX, "safetensors", "float32", 1)])
    assert notes == []
    assert recommendation.recommend(folder, found, cfg.Deploy(bench_s=0.02)) == []
    assert found.recommended is None


def measured(folder, found):
    """Path → milliseconds of a call, measured for the recommendation."""
    timings = recommendation.recommend(folder, found, cfg.Deploy(bench_s=0.1))
    return {timing.entry.file.path: timing.p50_ms for timing in timings}


def test_of_two_files_that_are_equally_fast_the_smaller_one_is_recommended(folder):
    found, _ = compared(folder, [padded(folder, "padded.onnx"), described(folder, ONNX)])
    for _attempt in range(20):
        took = measured(folder, found)
        if max(took.values()) <= recommendation.FASTER * min(took.values()):
            break
    else:
        pytest.fail(f"the same computation takes different times: {took}")
    assert found.recommended == ONNX


def test_a_larger_file_that_is_clearly_faster_is_recommended(folder):
    slow = slowed(folder, "slow.onnx")
    found, _ = compared(folder, [slow, padded(folder, "padded.onnx")])
    took = measured(folder, found)
    assert slow.bytes < found.files[1].bytes
    assert took["slow.onnx"] > recommendation.FASTER * took["padded.onnx"]
    assert found.recommended == "padded.onnx"


def slowed(folder, path):
    """The ONNX file with four thousand more operations whose result is multiplied with zero, under another name."""
    model = onnx.load(folder / ONNX)
    graph, name = model.graph, model.graph.output[0].name
    for node in graph.node:
        node.output[:] = ["waves0" if output == name else output for output in node.output]
    for number in range(4000):
        wave = "Sin" if number % 2 else "Cos"
        graph.node.append(helper.make_node(wave, [f"waves{number}"], [f"waves{number + 1}"]))
    graph.initializer.append(numpy_helper.from_array(np.float32(0), "nothing"))
    graph.node.append(helper.make_node("Mul", ["waves4000", "nothing"], ["no waves"]))
    graph.node.append(helper.make_node("Add", ["waves0", "no waves"], [name]))
    onnx.save(model, folder / path)
    return described(folder, path)


def test_without_seconds_to_measure_the_smallest_file_that_agrees_is_recommended(folder):
    integers = with_end(folder, "net.int8.onnx", *SWAPPED)
    integers.precision, integers.bytes = "int8", 1
    found, _ = compared(folder, [padded(folder, "padded.onnx"), described(folder, ONNX), integers], "qat")
    assert recommendation.recommend(folder, found, cfg.Deploy(bench_s=0)) == []
    assert found.recommended == ONNX
    assert recommendation.recommend(folder, found, cfg.Deploy(bench_s=0, agreement=0.1)) == []
    assert found.recommended == integers.path

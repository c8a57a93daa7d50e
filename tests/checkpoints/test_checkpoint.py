"""Weights on disk: atomic, refused when they do not fit, foreign files without running what is in them."""

from __future__ import annotations

import hashlib
import json
import os
import pickle

import numpy as np
import onnx
import paddle
import pytest
from onnx import helper, numpy_helper
from paddle import nn
from safetensors.numpy import load_file, save_file

from runner import config as cfg
from runner import runs
from runner.checkpoints import checkpoint, fitting, preprocessing, reading, restore, weights
from runner.checkpoints import state as state_file
from runner.checkpoints.state import EMA, MODEL, OPTIMIZER, STATE, About
from runner.errors import CheckpointError, DataError, Diverged
from runner.models import Networks
from runner.training.loop import train_step
from runner.worker import experiment
from runner.worker.training_run import check_data

from . import torch_pickles

#: What the worker says about a run in its checkpoints.
ABOUT = About(data="d", classes=["a"], config="c")


def networks(*names):
    return Networks({name: nn.Linear(3, 2) for name in names})


def linear(fill):
    return {"weight": np.full((3, 2), fill, np.float32), "bias": np.full(2, fill, np.float32)}


def prefixed(name, arrays):
    return {f"{name}.{key}": value for key, value in arrays.items()}


def initialized(target, arrays, strict=True):
    return fitting.initialize(target, target.trained, weights.Weights("test", arrays), strict)


def test_weights_of_a_single_network_initialise_both_networks_of_a_pair():
    pair = networks("student", "student1")
    initialized(pair, linear(1.0))
    assert all(float(p.mean()) == 1.0 for p in pair.parameters())


def test_weights_of_a_run_with_one_student_initialise_both_networks_of_a_pair():
    pair = networks("student", "student1")
    initialized(pair, prefixed("student", linear(2.0)))
    assert all(float(p.mean()) == 2.0 for p in pair.parameters())


def test_weights_of_a_pair_keep_their_networks_apart():
    pair = networks("student", "student1")
    initialized(pair, prefixed("student", linear(1.0)) | prefixed("student1", linear(2.0)))
    assert float(pair["student"].bias.mean()) == 1.0
    assert float(pair["student1"].bias.mean()) == 2.0


def test_a_single_network_takes_the_student_of_a_pair():
    single = networks("student")
    initialized(single, prefixed("student", linear(1.0)) | prefixed("student1", linear(2.0)))
    assert float(single["student"].bias.mean()) == 1.0


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"weight": np.zeros((3, 2), np.float32)}, "1 missing: student.bias"),
        (linear(0) | {"extra": np.zeros(1, np.float32)}, "1 not used: student.extra"),
        (linear(0) | {"bias": np.zeros(4, np.float32)}, "1 of another shape: student.bias [4]≠[2]"),
    ],
)
def test_weights_that_do_not_fit_are_refused_unless_told_otherwise(arrays, said):
    single = networks("student")
    with pytest.raises(CheckpointError) as refused:
        initialized(single, arrays)
    assert said in str(refused.value)
    assert "checkpoint.strict=false" in str(refused.value)
    assert "of 2 tensors" in initialized(single, arrays, strict=False).line


def test_nothing_that_fits_is_refused_even_when_not_strict():
    with pytest.raises(CheckpointError, match="0 of 2"):
        initialized(networks("student"), {"other": np.zeros(1, np.float32)}, strict=False)


def test_less_than_half_of_the_numbers_is_another_network_also_when_not_strict():
    with pytest.raises(CheckpointError, match=r"(?s)1 of 2 tensors match.*less than half of its values"):
        initialized(networks("student"), {"bias": np.zeros(2, np.float32)}, strict=False)


def test_paddles_own_weight_files_are_read(tmp_path):
    layer = nn.Linear(3, 2)
    paddle.save(layer.state_dict(), str(tmp_path / "w.pdparams"))
    read = weights.read(str(tmp_path / "w.pdparams")).arrays
    np.testing.assert_array_equal(read["weight"], layer.weight.numpy())


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_code_in_a_weight_file_does_not_run(tmp_path):
    (tmp_path / "w.pdparams").write_bytes(pickle.dumps({"weight": Hostile(str(tmp_path / "ran"))}))
    with pytest.raises(CheckpointError, match="mkdir"):
        weights.read(str(tmp_path / "w.pdparams"))
    assert not (tmp_path / "ran").exists()


def written(path, arrays):
    match path.suffix.lower():
        case ".onnx":
            tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
            onnx.save(helper.make_model(helper.make_graph([], "weights", [], [], tensors)), path)
        case ".safetensors":
            save_file(arrays, path)
        case ".pdparams":
            path.write_bytes(pickle.dumps(arrays))
        case _:
            torch_pickles.save(path, arrays)
    return path


@pytest.mark.parametrize(
    ("model", "size", "said"),
    [
        (cfg.EfficientNetLite(), [32, 32], "efficientnet_lite0 are of data.image_size=224; these images are of 32×32"),
        (cfg.EfficientNetLite(), [224, 224], ""),
        (cfg.EfficientNetLite(version=4), [224, 224], "efficientnet_lite4 are of data.image_size=300"),
        (cfg.CustomModel(target="a:resnet18"), [32, 32], ""),
        (
            cfg.Vision(architecture="resnet18", stem=cfg.Stem.small),
            [32, 32],
            "weights of resnet18 are of data.image_size=224",
        ),
        (
            cfg.PaddleClas(architecture="PPLCNet_x1_0"),
            [64, 32],
            "weights of paddleclas/PPLCNet_x1_0 are of data.image_size=224; these images are of 64×32",
        ),
        (cfg.PaddleClas(architecture="PPLCNet_x1_0", stem=cfg.Stem.small), [224, 224], ""),
    ],
)
def test_the_image_size_of_published_weights_is_said_where_it_is_another(model, size, said):
    notes = preprocessing.size_notes("w.pth", model, {"image_size": size})
    assert bool(notes) == bool(said)
    assert all(said in note for note in notes)


@pytest.mark.parametrize("suffix", runs.WEIGHT_SUFFIXES)
def test_a_suffix_may_be_in_capitals(tmp_path, suffix):
    arrays = {"head.bias": np.arange(2, dtype=np.float32), "head.weight": np.ones((3, 2), np.float32)}
    read = weights.read(written(tmp_path / f"w{suffix.upper()}", arrays))
    assert {name: array.tolist() for name, array in read.arrays.items()} == {
        name: array.tolist() for name, array in arrays.items()
    }


@pytest.mark.parametrize("name", ["conv2d_54.w_0", "onnx::Conv_12", "p2o.pd_op.conv2d.0.0"])
def test_an_onnx_file_without_names_of_layers_says_what_to_give(tmp_path, name):
    path = written(tmp_path / "w.onnx", {name: np.ones((3, 2), np.float32)})
    with pytest.raises(CheckpointError, match=r"no names of layers.*Give what it was exported from: the run"):
        weights.read(path)


@pytest.mark.parametrize(
    ("products", "by_torch"), [(["Gemm"], True), (["MatMul"], False), (["Gemm", "MatMul"], None), ([], None)]
)
def test_the_products_of_an_onnx_file_tell_how_its_linear_layers_are_stored(tmp_path, products, by_torch):
    tensors = [numpy_helper.from_array(np.ones((3, 3), np.float32), f"{kind}.weight") for kind in products or ["fc"]]
    nodes = [
        helper.make_node(kind, ["x", f"{kind}.weight"], [kind], **({"transB": 1} if kind == "Gemm" else {}))
        for kind in products
    ]
    onnx.save(helper.make_model(helper.make_graph(nodes, "weights", [], [], tensors)), tmp_path / "w.onnx")
    assert weights.read(tmp_path / "w.onnx").by_torch is by_torch


def test_that_a_square_layer_may_be_the_other_way_round_is_said(tmp_path):
    network, model = nn.LayerDict({"head": nn.Linear(3, 3)}), cfg.CustomModel(target="a:b")
    save_file({"head.weight": np.ones((3, 3), np.float32), "head.bias": np.ones(3, np.float32)}, tmp_path / "w")
    (tmp_path / "w").rename(tmp_path / "w.safetensors")
    networks = Networks({"student": network})
    read, _ = fitting.translate(weights.read(tmp_path / "w.safetensors"), networks, {"student": model})
    loaded = fitting.initialize(networks, ("student",), read, strict=True)
    assert "does not tell whether student.head.weight are [outputs, inputs], as in PyTorch" in loaded.line


def test_an_onnx_file_whose_weights_are_elsewhere_or_that_is_damaged_is_refused(tmp_path):
    tensor = numpy_helper.from_array(np.ones((3, 2), np.float32), "head.weight")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    onnx.save_model(helper.make_model(helper.make_graph([], "weights", [], [], [tensor])), tmp_path / "w.onnx")
    with pytest.raises(CheckpointError, match=r"head\.weight is in another file"):
        weights.read(tmp_path / "w.onnx")
    (tmp_path / "w.onnx").write_bytes(b"\xff\xff damaged")
    with pytest.raises(CheckpointError, match="damaged or not a file of ONNX"):
        weights.read(tmp_path / "w.onnx")


@pytest.mark.parametrize("suffix", runs.WEIGHT_SUFFIXES)
@pytest.mark.parametrize(
    "number", [np.float32("nan"), np.float32("-inf"), np.float16("inf"), np.float64(1e300), np.float64("nan")]
)
def test_a_number_that_is_not_finite_is_refused_by_its_tensors_name(tmp_path, suffix, number):
    network = Networks({"student": nn.LayerDict({"head": nn.Linear(3, 2)})})
    array, unused = np.zeros((3, 2), number.dtype), np.full(4, number)
    path, arrays = tmp_path / f"w{suffix}", {"head.bias": np.ones(2, np.float32), "head.weight": array, "mask": unused}
    read = weights.read(written(path, arrays))
    # What no layer takes may be anything.
    fitting.initialize(network, ("student",), read, strict=False)
    array[1, 1] = number
    read = weights.read(written(path, arrays))
    message = rf"{path}.*: 1 of the 6 values of its tensor student\.head\.weight are NaN"
    with pytest.raises(CheckpointError, match=message):
        fitting.initialize(network, ("student",), read, strict=False)
    assert all(np.isfinite(value.numpy()).all() for value in network.state_dict().values())


@pytest.mark.parametrize("name", ["w.safetensors", "w.pdparams"])
def test_a_truncated_file_is_named(tmp_path, name):
    save_file(linear(1.0), tmp_path / "whole")
    (tmp_path / name).write_bytes((tmp_path / "whole").read_bytes()[:20])
    with pytest.raises(CheckpointError, match=name):
        weights.read(str(tmp_path / name))


def test_a_place_without_weights_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="no weights were found"):
        weights.read(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("metadata", "plan", "classes"),
    [
        (weights.metadata(True, ["cat", "dog"], {}), {"student": {}}, ["cat", "dog"]),
        (weights.metadata(False, ["cat", "dog"], {}), {}, ["cat", "dog"]),
        ({weights.ABOUT: '{"pruned": true, "classes": ["cat", "dog"]}'}, {"student": {}}, ["cat", "dog"]),
        ({weights.PRUNED: "True"}, {"student": {}}, None), (None, {}, None),
    ],
)  # fmt: skip
def test_exported_weights_know_their_classes(tmp_path, metadata, plan, classes):
    save_file(linear(1.0), tmp_path / "x.safetensors", metadata)
    read = weights.read(tmp_path / "x.safetensors")
    assert (read.plan, read.classes) == (plan, classes)


def test_exported_weights_know_how_images_were_preprocessed(tmp_path, config_of):
    own = preprocessing.of(config_of("data.image_size=[24,40]", "data.resize=pad").data)
    save_file(linear(1.0), tmp_path / "x.safetensors", weights.metadata(False, ["cat"], own))
    assert weights.read(tmp_path / "x.safetensors").preprocessing == own


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_half_precision_is_read(tmp_path, kind):
    # 1, -2, 0.15625 in both.
    bits = {"bfloat16": [0x3F80, 0xC000, 0x3E20], "float16": [0x3C00, 0xC000, 0x3100]}[kind]
    header = {
        "half": {"dtype": {"bfloat16": "BF16", "float16": "F16"}[kind], "shape": [3, 1], "data_offsets": [4, 10]},
        "whole": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
    }
    content = np.array([7], "<f4").tobytes() + np.array(bits, "<u2").tobytes()
    text = json.dumps(header).encode()
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + content)
    arrays = weights.read(tmp_path / "x.safetensors").arrays
    np.testing.assert_array_equal(arrays["half"], [[1], [-2], [0.15625]])
    np.testing.assert_array_equal(arrays["whole"], [7])


@pytest.mark.parametrize(
    "written",
    [
        "[]", "{", '{"pruned": true, "classes": [1]}', "[" * 10_000,
        '{"pruned": true, "classes": [], "preprocessing": {"mean": 1}}',
    ],
)  # fmt: skip
def test_what_no_export_wrote_about_weights_is_one_message(tmp_path, written):
    save_file(linear(1.0), tmp_path / "x.safetensors", {weights.ABOUT: written})
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        weights.read(tmp_path / "x.safetensors")


@pytest.fixture
def run(config_of):
    return experiment.build(
        config_of(
            "data=synthetic", "data.train_images=40", "model=custom", "model.target=tests.samples:linear_network",
            "mode=cls_distill_multiopt", "optimizer=momentum", "schedule.warmup_epochs=0", "train.ema=0.9",
        )
    )  # fmt: skip


def saved(tmp_path, run, better=True, keep=1):
    batch = next(run.training.loaders.train.epoch(0))
    train_step(run.training, batch)
    run.training.progress.step += 1
    run.training.checkpoints.keep = keep
    return checkpoint.save(tmp_path, run.training, better, ABOUT, 0.0)


def test_a_checkpoint_has_weights_averages_and_optimizer_state_under_structured_names(tmp_path, run):
    folder = saved(tmp_path, run)
    names = set(run.training.networks.state_dict())
    assert set(load_file(folder / MODEL)) == names
    assert set(load_file(folder / EMA)) == names
    optimizer = load_file(folder / OPTIMIZER)
    assert "0.student.1.weight/velocity_0" in optimizer
    assert "1.student1.1.weight/velocity_0" in optimizer


def test_the_best_checkpoint_and_the_newest_ones_stay(tmp_path, run):
    folders = [saved(tmp_path, run, better=number == 1, keep=1).name for number in range(5)]
    here = tmp_path / "checkpoints"
    assert reading.pointed(here, "last") == folders[4]
    assert reading.pointed(here, "best") == folders[1]
    assert sorted(path.name for path in here.glob("step-*")) == [folders[1], folders[3], folders[4]]
    assert not list(here.glob(".*"))


def test_weights_that_are_not_finite_are_never_saved(tmp_path, run):
    first = saved(tmp_path, run)
    parameter = run.training.networks.parameters()[0]
    parameter.set_value(paddle.full_like(parameter, float("nan")))
    with pytest.raises(Diverged, match="not finite after step 1"):
        checkpoint.save(tmp_path, run.training, True, ABOUT, 0.0)
    assert reading.pointed(tmp_path / "checkpoints", "best") == first.name


def forged(folder, change, **content):
    """Give a checkpoint another state or other files, with digests that are right."""
    for name, data in content.items():
        (folder / f"{name}.safetensors").write_bytes(data)
    state = json.loads((folder / STATE).read_text())
    del state["digest"]
    for name in state["digests"]:
        state["digests"][name] = hashlib.blake2b((folder / name).read_bytes(), digest_size=16).hexdigest()
    change(state)
    (folder / STATE).write_text(json.dumps(state | {"digest": state_file.digest(state)}))


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["random"].clear(),
        lambda state: state["random"].update(numpy=["MT19937", [1], 0, 0, 0.0]),
        lambda state: state["random"].update(paddle=[["a", "b", "c", 4]]),
        lambda state: state["random"].update(python=[3, ["a"], None]),
        lambda state: state.update(schedules=[1, 2, 3]),
        lambda state: state.update(plan=[]),
        lambda state: state["progress"].update(unread={"values": "no"}),
    ],
)
def test_a_state_that_no_run_wrote_is_one_message_though_its_digests_are_right(tmp_path, run, change):
    folder = saved(tmp_path, run)
    forged(folder, change)
    with pytest.raises(CheckpointError, match="is damaged"):
        restore.training_state(reading.verify(folder), run.training)


def test_what_a_state_says_besides_is_left_out(tmp_path, run):
    folder = saved(tmp_path, run)
    forged(folder, lambda state: state["progress"].update(further=1))
    restored = reading.verify(folder)
    restore.training_state(restored, run.training)
    assert restored.progress.step == 1


@pytest.mark.parametrize("part", ["model", "optimizer", "ema"])
def test_a_file_of_a_checkpoint_that_holds_no_tensors_is_one_message_though_its_digest_is_right(tmp_path, run, part):
    folder = saved(tmp_path, run)
    forged(folder, lambda state: None, **{part: b"\xff" * 40})
    with pytest.raises(CheckpointError, match="is damaged"):
        weights.read(folder) if part == "model" else restore.training_state(reading.verify(folder), run.training)


def test_the_files_of_a_checkpoint_have_its_classes_where_its_state_can_be_read(tmp_path, run):
    folder = saved(tmp_path, run)
    assert weights.read(folder / MODEL).classes == weights.read(folder).classes == ["a"]
    (folder / STATE).write_text("{}")
    assert weights.read(folder / MODEL).classes is None


def test_a_state_of_an_earlier_version_is_read_and_its_images_are_not_compared(tmp_path, run):
    folder = saved(tmp_path, run)
    forged(folder, lambda state: state.pop("splits"))
    restored, _ = reading.newest(tmp_path)
    assert restored.state.splits == {}
    [note] = check_data(restored, {"name": "pets", "source": "pets", "digests": {"train": "1-a-b-c"}})
    assert "of an earlier version: whether the images are still the same is unknown" in note


def test_images_that_are_not_those_of_the_run_are_told_by_split_and_number(tmp_path, run):
    restored = reading.verify(saved(tmp_path, run))
    restored.state.splits.update(train="4-a-b-c-d", val="2-a-b-c-d", test="1-a-b-c-d")
    now = {"train": "3-a-b-c-e", "val": "2-a-b-f-d", "test": "1-a-b-c-d"}
    said = "train has 3 images instead of 4; val has other names of images; all splits together have 6 .* instead of 7"
    with pytest.raises(DataError, match=said):
        check_data(restored, {"name": "pets", "source": "pets", "digests": now})


def test_a_checkpoint_that_does_not_know_its_images_stays_one_when_it_is_quantized(tmp_path, run):
    saved(tmp_path, run)
    final = checkpoint.save_final(tmp_path, run.training.networks)
    assert weights.read(final).trained_on is reading.verify(final).trained_on() is None

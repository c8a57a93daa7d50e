"""Exported files in their engines give what the network gives."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import onnx
import paddle.nn.functional as F
import pytest
from onnx import TensorProto, helper
from PIL import Image

from runner import config as cfg
from runner.cli.verbs import serve
from runner.data import Normalize, Preparation
from runner.deploy import engines, manifest, to_onnx
from runner.deploy.predict import Deployed
from runner.errors import CheckpointError, ConfigError, Damaged, ForeignPath
from runner.images import prepare

from . import helpers

ONNX, PADDLE, CLASSES = helpers.ONNX, helpers.PADDLE, helpers.CLASSES


@pytest.fixture
def folder(tmp_path):
    return helpers.export(tmp_path / "run" / "export")


def picture(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        ("onnxruntime", "onnxruntime "),
        pytest.param("openvino", "OpenVINO ", marks=helpers.needs_openvino),
        ("paddle", "Paddle Inference "),
    ],
)
def test_an_engine_gives_the_networks_logits_for_any_batch_size(folder, engine, name):
    engine = helpers.opened(folder, manifest.read(folder).of_engine(engine), threads=2)
    images = helpers.random_images()
    for size in (1, 5, 2, 5, 1, 3, 3, 4, 4, 2, 5):
        np.testing.assert_allclose(engine(images[:size]), helpers.logits(images[:size]), atol=1e-5)
    assert engine.name.startswith(name)
    assert engine.threads == 2


#: Two engines that end in the order of their making, and then a signal.
SIGNALLED = """
import faulthandler, os, signal, sys
from pathlib import Path
from runner.deploy.engines import OpenVino
faulthandler.enable()
first = OpenVino(Path(sys.argv[1]), 1)
second = OpenVino(Path(sys.argv[1]), 1)
del first
del second
signal.signal(signal.SIGTERM, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGTERM)
"""


@helpers.needs_openvino
def test_a_signal_is_heard_after_engines_of_openvino_have_ended(folder):
    path = folder / manifest.read(folder).of_engine("openvino").path
    done = subprocess.run([sys.executable, "-c", SIGNALLED, path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr


@helpers.needs_openvino
def test_openvino_compiles_a_network_that_resizes_once(tmp_path):
    """HRNet_W18_C at 32×32 ended the process (SIGSEGV) when it was compiled for a batch size as well."""
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3, side, side])
        for name, side in (("images", 2), ("logits", 4))
    ]
    scales = helper.make_tensor("scales", TensorProto.FLOAT, [4], [1, 1, 2, 2])
    node = helper.make_node("Resize", ["images", "", "scales"], ["logits"])
    graph = helper.make_graph([node], "resizing", ends[:1], ends[1:], [scales])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "net.onnx"
    )
    engine = engines.OpenVino(tmp_path / "net.onnx", 1)
    images = np.random.default_rng(0).random((3, 3, 2, 2), np.float32)
    for _ in range(3):
        np.testing.assert_allclose(engine(images), images.repeat(2, 2).repeat(2, 3))
    assert engine.requests == {}


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="Paddle has oneDNN for x86 only")
def test_paddle_computes_with_onednn(folder):
    assert helpers.opened(folder, manifest.read(folder).file(PADDLE)).name.endswith(" oneDNN")


def test_a_deployed_network_sees_images_as_training_did(folder, tmp_path):
    picture(0).save(tmp_path / "0.png")
    picture(1).save(tmp_path / "1.png")
    given = [tmp_path / "0.png", (tmp_path / "1.png").read_bytes(), picture(2)]
    squares = np.stack([prepare(picture(seed), Preparation(helpers.SIZE, helpers.SIZE)) for seed in range(3)])
    images = Normalize(cfg.Digits(image_size=helpers.SIZE, mean=helpers.MEAN, std=helpers.STD))(squares, np.arange(3))
    expected = F.softmax(helpers.network()(images)).numpy()
    np.testing.assert_allclose(Deployed(folder)(given, batch_size=2), expected, atol=1e-6)


def test_an_onnx_file_is_deployed_without_paddle_hydra_and_mlflow(folder):
    script = """
import sys
from pathlib import Path
from PIL import Image
from runner.deploy.predict import Deployed
print(Deployed(Path(sys.argv[1]))([Image.new("L", (9, 9))]).shape)
print([name for name in ("paddle", "hydra", "mlflow") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["(1, 4)", "[]"], done.stderr


@pytest.mark.parametrize("name", [ONNX, PADDLE, "paddle/model.pdiparams"])
def test_a_damaged_file_of_an_earlier_export_is_named(folder, name):
    described = manifest.read(folder)
    manifest.write(folder, replace(described, files=[replace(file, digests={}) for file in described.files]))
    (folder / name).write_bytes((folder / name).read_bytes()[:100])
    with pytest.raises(CheckpointError, match=rf"{name.partition('.')[0]}\.\w+ cannot be opened: .*runner export"):
        helpers.opened(folder, manifest.read(folder).file(ONNX if name == ONNX else PADDLE))


@pytest.mark.parametrize("name", [ONNX, PADDLE, "paddle/model.pdiparams"])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "paddle"])
def test_a_file_with_one_wrong_bit_is_not_opened(folder, name, engine):
    if not engines.is_installed(engine):
        pytest.skip(f"needs {engine}")
    content = bytearray((folder / name).read_bytes())
    content[-len(content) // 3] ^= 1
    (folder / name).write_bytes(content)
    file = manifest.read(folder).of_engine(engine)
    if name in file.paths:
        with pytest.raises(Damaged, match=rf"{name} is damaged: .*runner export"):
            Deployed(folder, engine=engine)
    else:
        assert engine in Deployed(folder, engine=engine).file.engine


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "paddle"])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"classes": ["ant", "bee", "cat"]}, "it has 4 classes and not 3"),
        ({"classes": [*CLASSES, "eel"]}, "it has 4 classes and not 5"),
        ({"image_size": [16, 32]}, r"images \[C, H, W\] of \[3, 16, 16\] and not of \[3, 16, 32\]"),
        ({"channels": 1, "mean": [0.5], "std": [0.5]}, r"of \[3, 16, 16\] and not of \[1, 16, 16\]"),
    ],
)
def test_a_file_of_another_network_than_the_manifest_describes_is_refused(folder, engine, values, message):
    if not engines.is_installed(engine):
        pytest.skip(f"needs {engine}")
    helpers.changed(folder, **values)
    with pytest.raises(Damaged, match=rf"is not the network of the model\.json.*{message}.*runner export"):
        Deployed(folder, engine=engine)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_class_names_in_the_file_are_those_of_the_manifest(folder, engine):
    if not engines.is_installed(engine):
        pytest.skip(f"needs {engine}")
    described = manifest.read(folder)
    to_onnx.describe(folder / ONNX, {"classes": CLASSES})
    manifest.write(folder, replace(described, files=[replace(file, digests={}) for file in described.files]))
    assert Deployed(folder, engine=engine).classes == CLASSES
    helpers.changed(folder, classes=CLASSES[::-1])
    with pytest.raises(Damaged, match=r"its classes have other names"):
        Deployed(folder, engine=engine)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"classes": []}, "classes"),
        ({"classes": ["a", "b", "a", "c"]}, "classes"),
        ({"classes": ["a", "b", " ", "c"]}, "classes"),
        ({"mean": ["NaN", 0.5, 0.5]}, "preprocessing"),
        ({"mean": ["Infinity", 0.5, 0.5]}, "preprocessing"),
        ({"std": [-0.5, 0.5, 0.5]}, "preprocessing"),
        ({"std": ["Infinity", 0.5, 0.5]}, "preprocessing"),
        ({"std": [1e-320, 0.5, 0.5]}, "preprocessing"),
        ({"background": [300, -1, 5]}, "preprocessing"),
        ({"max_pixels": 0}, "preprocessing"),
        ({"channels": 0, "mean": [], "std": []}, "preprocessing"),
        ({"crop_ratio": "NaN"}, "preprocessing"),
        ({"temperature": 1e-300}, "temperature"),
        ({"temperature": 1e300}, "temperature"),
        ({"temperature": "NaN"}, "temperature"),
        ({"files": [{"path": "", "format": "paddle", "precision": "float32", "bytes": 1}]}, "no export has a file ''"),
        (
            {"files": [{"path": ONNX, "format": "onnx", "precision": "float32", "bytes": 1, "digests": {"x": ""}}]},
            "dig",
        ),
    ],
)
def test_a_manifest_that_no_export_writes_is_refused(folder, values, message):
    helpers.changed(folder, **values)
    with pytest.raises(Damaged, match=rf"model\.json is damaged: .*{message}.*runner export"):
        manifest.read(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_have_no_probabilities(folder, monkeypatch, value):
    deployed = Deployed(folder)
    compute = deployed.engine
    monkeypatch.setattr(deployed, "engine", lambda images: compute(images) * np.float32([1, 1, value, 1]))
    deployed.engine.name = "onnxruntime 1"
    with pytest.raises(CheckpointError, match=r"model\.onnx in onnxruntime 1 gives logits that are not finite"):
        deployed([picture(0)])


def test_a_folder_with_a_link_in_it_is_not_served(folder, tmp_path):
    (folder / "elsewhere").symlink_to(tmp_path)
    with pytest.raises(ForeignPath, match="elsewhere is a symbolic link"):
        serve.main([str(folder)])


def test_lost_parameters_are_named(folder):
    (folder / "paddle" / "model.pdiparams").unlink()
    with pytest.raises(CheckpointError, match=r"model\.pdiparams is missing.*runner export"):
        helpers.opened(folder, manifest.read(folder).file(PADDLE))


@helpers.needs_openvino
def test_threads_may_call_openvino_at_once_and_keep_their_results(folder):
    engine = helpers.opened(folder, manifest.read(folder).of_engine("openvino"))
    batches = [helpers.random_images()[[place] * size] for place in range(5) for size in (1, 3)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(engine, 5 * batches))
    for batch, result in zip(5 * batches, results, strict=True):
        np.testing.assert_allclose(result, helpers.logits(batch), atol=1e-5)


def test_a_file_that_was_not_compared_in_openvino_can_be_computed_in_it(folder):
    file = manifest.read(folder).of_engine("openvino")
    assert (file.path, file.engine, file.agreement) == (ONNX, "openvino", None)


def test_the_recommended_engine_goes_with_the_recommended_file(folder):
    described = manifest.read(folder)
    described.files.append(replace(described.file(), engine="openvino", agreement=0.5))
    assert described.file().engine == "onnxruntime"
    described.recommended_engine = "openvino"
    assert described.file().agreement == described.of_engine("openvino").agreement == 0.5
    assert [described.is_recommended(file) for file in described.files] == [False, False, True]


def test_an_engine_that_is_named_computes_the_recommended_file_if_it_reads_it(folder):
    described = manifest.read(folder)
    integers = replace(described.file(), path="model.int8.onnx", precision="int8")
    described.files.append(integers)
    described.recommended, described.recommended_engine = integers.path, "openvino"
    paths = [described.of_engine(engine).path for engine in ("onnxruntime", "openvino", "paddle")]
    assert paths == [integers.path, integers.path, PADDLE]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "paddle"])
def test_a_missing_engine_is_named_with_its_installation(folder, monkeypatch, engine):
    monkeypatch.setitem(sys.modules, engine, None)
    with pytest.raises(ConfigError, match=rf"pip install '{engine}"):
        helpers.opened(folder, manifest.read(folder).of_engine(engine))


def test_weights_alone_have_no_engine(folder):
    weights = manifest.ExportedFile(ONNX, "safetensors", "float32", 1)
    with pytest.raises(ConfigError, match=r"no engine runs safetensors.*deploy\.formats="):
        helpers.opened(folder, weights)


def test_a_manifest_is_read_as_it_was_written(tmp_path, folder):
    described = replace(manifest.read(folder), classes=["é", "b"], recommended=None)
    manifest.write(tmp_path, described)
    assert manifest.read(tmp_path) == described


def test_an_export_of_an_earlier_version_is_read_and_prepares_pictures_as_it_did(folder):
    before = Deployed(folder)([picture(0)])
    described = json.loads((folder / "model.json").read_text())
    for name in ("channels", "crop_ratio", "background", "max_pixels", "preprocessing"):
        del described[name]
    for file in described["files"]:
        del file["top1"]
    described |= {"image_size": 16, "resize": "shorter side scaled to image_size (bilinear), centre cut out"}
    (folder / "model.json").write_text(json.dumps(described))
    assert manifest.read(folder).image_size == [16, 16]
    assert np.array_equal(Deployed(folder)([picture(0)]), before)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"files": [{"name": 1}]}'])
def test_a_missing_or_damaged_manifest_is_named_with_its_remedy(folder, content):
    (folder / "model.json").unlink() if content is None else (folder / "model.json").write_text(content)
    place = re.escape(str(folder.parent))
    with pytest.raises(CheckpointError, match=rf"{folder}.*python -m runner export {place}"):
        manifest.read(folder)


def test_an_export_without_a_recommendation_says_what_could_be_deployed(folder):
    manifest.write(folder, replace(manifest.read(folder), recommended=None))
    with pytest.raises(CheckpointError, match=r"recommends no file.*model\.onnx, paddle/model\.json"):
        Deployed(folder)

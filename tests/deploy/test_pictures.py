"""A file that prepares pictures itself says what `predict` says, in every engine that reads it."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from PIL import Image

from runner import images
from runner.config.rules import validate
from runner.deploy import manifest
from runner.deploy.graph.pictures import with_pictures
from runner.deploy.predict import Deployed
from runner.errors import ConfigError
from runner.images import Preparation, prepare
from tests.conftest import composed
from tests.odd_pictures import odd_pictures

from . import helpers

CLIENT = Path(__file__).parents[2] / "examples" / "client.py"
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
ENGINES = ["onnxruntime", pytest.param("openvino", marks=helpers.needs_openvino)]


def picture(height, width):
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


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


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CONFIGS)
def test_pictures_are_prepared_within_a_level_as_training_prepared_them(tmp_path, name, engine):
    described = replace(manifest.read(helpers.export(tmp_path / "export")), **CONFIGS[name])
    run = in_engine(engine, showing_images(described))
    mean, std = np.array(described.mean), np.array(described.std)
    for size in SIZES:
        images = run(picture(*size)[None])["logits"].reshape(described.input_shape).transpose(1, 2, 0)
        levels = (images * std + mean) * 255
        assert np.abs(levels - prepare(Image.fromarray(picture(*size)), described.preparation)).max() < 1.01, size


@pytest.mark.parametrize("engine", ENGINES)
def test_probabilities_are_those_of_predict(tmp_path, engine):
    folder = helpers.export(tmp_path / "export")
    described = replace(manifest.read(folder), temperature=2.0)
    run = in_engine(engine, with_pictures(onnx.load(folder / helpers.ONNX), described))
    for size in SIZES:
        pictures = np.stack([picture(*size), picture(*size)[::-1]])
        # At a temperature of 2 the logits are halved.
        expected = np.sqrt(Deployed(folder)([Image.fromarray(one) for one in pictures]))
        np.testing.assert_allclose(run(pictures)["probabilities"], expected / expected.sum(1, keepdims=True), atol=2e-3)


@pytest.mark.parametrize("engine", ENGINES)
def test_labels_are_decided_by_their_thresholds(tmp_path, engine):
    folder = helpers.export(tmp_path / "export")
    thresholds = [0.0, 0.4, 0.5, 1.0]
    many = replace(manifest.read(folder), labels="many", activation="sigmoid", thresholds=thresholds)
    manifest.write(folder, many)
    result = in_engine(engine, with_pictures(onnx.load(folder / helpers.ONNX), many))(picture(40, 30)[None])
    np.testing.assert_allclose(result["probabilities"], Deployed(folder)([Image.fromarray(picture(40, 30))]), atol=1e-3)
    assert np.array_equal(result["labels"], result["probabilities"] >= np.array(thresholds, np.float32))


def test_a_client_that_knows_nothing_of_the_project_says_what_predict_says(tmp_path):
    check_client(tmp_path, sys.executable)


@pytest.mark.slow
def test_a_client_needs_no_more_than_onnxruntime_numpy_and_pillow(tmp_path):
    python = tmp_path / "empty" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "empty"], check=True, timeout=120)
    install = [python, "-m", "pip", "install", "-q", "onnxruntime", "numpy", "pillow"]
    if (done := subprocess.run(install, capture_output=True, text=True, timeout=600)).returncode:
        pytest.skip(f"pip cannot install onnxruntime here: {done.stderr[-200:]}")
    check_client(tmp_path, str(python))


def check_client(tmp_path, python):
    """That the example client, in an interpreter, says of photos what `predict` says."""
    folder = helpers.export(tmp_path / "export")
    model = with_pictures(onnx.load(folder / helpers.ONNX), manifest.read(folder))
    onnx.save(model, tmp_path / "model.pictures.onnx")
    photos = [tmp_path / f"{number}.jpg" for number in range(4)]
    for number, photo in enumerate(photos):
        turn = Image.Exif()
        turn[0x112] = 1 + number
        Image.fromarray(picture(40 + number, 60)).save(photo, exif=turn)
    command = [python, "-I", str(CLIENT), "model.pictures.onnx", *(photo.name for photo in photos)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    expected = Deployed(folder)(photos)
    assert [row[:2] for row in rows] == [
        [photo.name, helpers.CLASSES[place]] for photo, place in zip(photos, expected.argmax(1), strict=True)
    ], done.stderr
    np.testing.assert_allclose([float(row[2]) for row in rows], expected.max(1), atol=2e-3)


def client(folder, *arguments):
    command = [sys.executable, "-I", str(CLIENT), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    return done, [line.split("\t") for line in done.stdout.splitlines()]


def test_a_client_says_what_predict_says_of_any_kind_of_picture(tmp_path):
    folder = helpers.export(tmp_path / "export")
    described = replace(manifest.read(folder), background=[10, 200, 30])
    manifest.write(folder, described)
    onnx.save(with_pictures(onnx.load(folder / helpers.ONNX), described), tmp_path / "model.pictures.onnx")
    for name, content in odd_pictures():
        # predict has libjpeg scale large ones down.
        if not name.endswith(("jpg", "jpeg", "mpo")) or min(Image.open(io.BytesIO(content)).size) < 64:
            (tmp_path / name).write_bytes(content)
    photos = sorted(path for path in tmp_path.iterdir() if path.name[:3].isdigit())
    assert len(photos) > 150
    done, rows = client(tmp_path, "model.pictures.onnx", *(photo.name for photo in photos))
    assert (done.returncode, done.stderr) == (0, "")
    expected = Deployed(folder)(photos)
    for photo, probabilities, (name, label, probability) in zip(photos, expected, rows, strict=True):
        assert name == photo.name
        assert float(probability) == pytest.approx(probabilities[helpers.CLASSES.index(label)], abs=4e-3), name
        assert float(probability) == pytest.approx(probabilities.max(), abs=4e-3), name


def test_a_client_reads_the_pixels_that_training_reads(tmp_path):
    spec = importlib.util.spec_from_file_location("client", CLIENT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, content in odd_pictures():
        (tmp_path / name).write_bytes(content)
        pixels = module.read(tmp_path / name, (10, 200, 30))
        whole = Preparation(*pixels.shape[:2], background=(10, 200, 30))
        assert np.array_equal(pixels, images.decode(content, whole)), name


def test_a_client_names_what_it_cannot_read_and_answers_the_rest(tmp_path):
    folder = helpers.export(tmp_path / "export")
    onnx.save(with_pictures(onnx.load(folder / helpers.ONNX), manifest.read(folder)), tmp_path / "model.onnx")
    Image.fromarray(picture(40, 60)).save(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    (tmp_path / "text.png").write_text("no picture")
    done, rows = client(tmp_path, "model.onnx", "gone.png", "cut.png", "a.png", "text.png")
    assert [row[0] for row in rows] == ["a.png"]
    assert done.returncode == 1
    assert [line.partition(" cannot be read: ")[0] for line in done.stderr.splitlines()] == [
        "gone.png", "cut.png", "text.png",
    ]  # fmt: skip
    for model, words in (
        ("gone.onnx", "gone.onnx cannot be read as a network"), ("text.png", "text.png cannot be read as a network"),
        ("export/model.onnx", "Export it with deploy.preprocess=inside"),
    ):  # fmt: skip
        done, rows = client(tmp_path, model, "a.png")
        assert (done.returncode, rows) == (1, [])
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
    done, _ = client(tmp_path, "model.onnx")
    assert (done.returncode, done.stderr) == (1, "usage: python client.py model.pictures.onnx photo.jpg …\n")


def test_a_client_prints_the_labels_that_a_network_of_several_predicts(tmp_path):
    folder = helpers.export(tmp_path / "export")
    Image.fromarray(picture(40, 60)).save(tmp_path / "a.png")
    for thresholds in ([0.0, 1.0, 0.0, 1.0], [1.0] * 4):
        many = replace(manifest.read(folder), labels="many", activation="sigmoid", thresholds=thresholds)
        manifest.write(folder, many)
        onnx.save(with_pictures(onnx.load(folder / helpers.ONNX), many), tmp_path / "model.onnx")
        _, [[_, *labels]] = client(tmp_path, "model.onnx", "a.png")
        assert sorted(labels[::2]) == ([one for one, at in zip(helpers.CLASSES, thresholds, strict=True) if at == 0]
                                       or ["no label"])  # fmt: skip


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


def onnxruntime_headers(folder):
    """The headers of onnxruntime's C++ interface, of Debian's package, and the library of the installed wheel.

    Debian 12 has no such package: it is taken from the mirror that this machine uses, out of Debian 13.
    """
    of_machine = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Identifier: Packages", "Origin: Debian"]
    library = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"), None)
    try:
        sources = subprocess.run(of_machine, capture_output=True, text=True, check=True, timeout=60).stdout.split("\n")
        place = next(line for line in sources if line and "security" not in line)
        (folder / "lists" / "partial").mkdir(parents=True)
        (folder / "cache" / "archives" / "partial").mkdir(parents=True)
        (folder / "status").touch()
        (folder / "list").write_text(
            f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {place} trixie main\n"
        )
        options = [
            f"-oDir::Etc::sourcelist={folder / 'list'}", "-oDir::Etc::sourceparts=-",
            f"-oDir::Cache={folder / 'cache'}", f"-oDir::State::lists={folder / 'lists'}",
            f"-oDir::State::status={folder / 'status'}",
        ]  # fmt: skip
        for command in (
            ["apt-get", "-qq", *options, "update"],
            ["apt-get", "-qq", *options, "download", "libonnxruntime-dev"],
        ):
            subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=300)
        [package] = folder.glob("libonnxruntime-dev_*.deb")
        subprocess.run(["dpkg-deb", "-x", package, "files"], cwd=folder, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError, StopIteration) as error:
        pytest.skip(f"the headers of onnxruntime cannot be had: {error}")
    if library is None:
        pytest.skip("the wheel of onnxruntime has its library elsewhere")
    interface = re.search(r"#define ORT_API_VERSION (\d+)", next(folder.rglob("onnxruntime_c_api.h")).read_text())
    if int(onnxruntime.__version__.split(".")[1]) < int(interface[1]):
        pytest.skip(f"the library, {onnxruntime.__version__}, is older than the headers")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(library)
    return folder / "files/usr/include/onnxruntime"


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
def test_a_client_in_cpp_says_what_predict_says(tmp_path):
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    headers = onnxruntime_headers(libraries)
    build = ["g++", "-std=c++17", CLIENT.with_suffix(".cc"), f"-I{headers}", f"-L{libraries}", "-lonnxruntime"]
    subprocess.run([*map(str, build), f"-Wl,-rpath,{libraries}", "-o", "client"], cwd=tmp_path, check=True, timeout=300)
    folder = helpers.export(tmp_path / "export")
    described = replace(manifest.read(folder), classes=["caf\u00e9", 'a "b" \\', "c", "d"])
    onnx.save(with_pictures(onnx.load(folder / helpers.ONNX), described), tmp_path / "model.onnx")
    photos = [tmp_path / f"{number}.ppm" for number in range(3)]
    for number, photo in enumerate(photos):
        Image.fromarray(picture(40 + number, 60)).save(photo)
    # As GIMP has it.
    photos[1].write_bytes(photos[1].read_bytes().replace(b"P6", b"P6\n# a comment\n#another", 1))
    command = ["./client", "model.onnx", *(photo.name for photo in photos), "absent.ppm"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    expected = Deployed(folder)(photos)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [(row[0], json.loads(row[1])) for row in rows] == [
        (photo.name, described.classes[one.argmax()]) for photo, one in zip(photos, expected, strict=True)
    ]
    np.testing.assert_allclose([float(row[2]) for row in rows], expected.max(1), atol=2e-3)
    assert (done.returncode, done.stderr) == (1, "absent.ppm cannot be opened: No such file or directory\n")
    for name, content, problem in (
        ("grey.ppm", b"P5 1 1 255 0", "is not a binary PPM of 8 bits"),
        ("huge.ppm", b"P6 99999999 99999999 255\n", "is not a binary PPM of 8 bits"),
        ("none.ppm", b"P6 0 0 255\n", "is not a binary PPM of 8 bits"),
        ("short.ppm", b"P6 9 9 255\nabc", "ends too early"),
        ("claimed.ppm", b"P6 65536 65536 255\nabc", "ends too early"),
    ):
        (tmp_path / name).write_bytes(content)
        done = subprocess.run([*command[:2], name], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (1, f"{name} {problem}\n")
    onnx.save(
        with_pictures(onnx.load(folder / helpers.ONNX), replace(described, unknown_below=0.9999)),
        tmp_path / "model.onnx",
    )
    done = subprocess.run([*command[:2], photos[0].name], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\t")[1] == '"unknown"'


def test_names_of_classes_that_are_not_text_are_in_the_file(tmp_path):
    folder = helpers.export(tmp_path / "export")
    described = replace(manifest.read(folder), classes=["caf\udce9", "b", "c", "d"])
    model = with_pictures(onnx.load(folder / "model.onnx"), described)
    stored = onnx.load_from_string(model.SerializeToString())
    values = {value.key: value.value for value in stored.metadata_props}
    assert json.loads(values["classes"]) == described.classes

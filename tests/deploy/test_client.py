"""The example clients, which know nothing of the project, say of photos what `predict` says."""

from __future__ import annotations

import importlib.util
import itertools
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
from PIL import Image

from runner import images
from runner.deploy import manifest
from runner.deploy.graph.pictures import with_pictures
from runner.deploy.predict import Deployed
from runner.images import Preparation
from tests.data import photos
from tests.data.pictures import encoded
from tests.odd_pictures import odd_pictures

from . import helpers
from .test_pictures import CONFIGS, showing_images

CLIENT = Path(__file__).parents[2] / "examples" / "client.py"
#: (width, height) and orientation of photos: phones', and some at and beside the size from which libjpeg scales down.
PHOTOS = [((4000, 3000), 1), ((4000, 3000), 6), ((3000, 4000), 1), ((4001, 3003), 3), ((63, 63), 1), ((64, 64), 1),
          ((65, 70), 1), ((65, 70), 8), ((102, 110), 1), ((103, 110), 3), ((204, 300), 6), ((205, 300), 1)]  # fmt: skip


def jpeg(size, turn):
    """A photo of a stored size with an orientation."""
    note = Image.Exif()
    note[0x112] = turn
    width, height = size
    part = np.asarray(photos.photo(min(width, 500), min(height, 500), noise=10))
    whole = np.tile(part, (-(-height // 500), -(-width // 500), 1))[:height, :width]
    return encoded(Image.fromarray(whole), "JPEG", quality=90, exif=note)


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
    paths = [tmp_path / f"{number}.jpg" for number in range(4)]
    for number, photo in enumerate(paths):
        turn = Image.Exif()
        turn[0x112] = 1 + number
        Image.fromarray(helpers.picture(40 + number, 60)).save(photo, exif=turn)
    command = [python, "-I", str(CLIENT), "model.pictures.onnx", *(photo.name for photo in paths)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    expected = Deployed(folder)(paths)
    assert [row[:2] for row in rows] == [
        [photo.name, helpers.CLASSES[place]] for photo, place in zip(paths, expected.argmax(1), strict=True)
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
        (tmp_path / name).write_bytes(content)
    for number, (size, turn) in enumerate(PHOTOS):
        (tmp_path / f"000{number}.jpg").write_bytes(jpeg(size, turn))
    paths = sorted(path for path in tmp_path.iterdir() if path.name[:3].isdigit())
    assert len(paths) > 200
    done, rows = client(tmp_path, "model.pictures.onnx", *(photo.name for photo in paths))
    assert (done.returncode, done.stderr) == (0, "")
    expected = Deployed(folder)(paths)
    for photo, probabilities, (name, label, probability) in zip(paths, expected, rows, strict=True):
        assert name == photo.name
        assert float(probability) == pytest.approx(probabilities[helpers.CLASSES.index(label)], abs=4e-3), name
        assert float(probability) == pytest.approx(probabilities.max(), abs=4e-3), name


@pytest.fixture(scope="module")
def module():
    return imported()


def imported():
    """The client as a module."""
    spec = importlib.util.spec_from_file_location("client", CLIENT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_client_prints_no_class_that_a_terminal_obeys():
    described = {"classes": json.dumps(["\x1b[31mred\n", "b"])}
    assert imported().decided(np.array([0.75, 0.25]), described) == ["�[31mred�", "0.7500"]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_client_has_large_photos_scaled_down_while_they_are_decoded_as_training_has(tmp_path, module, name):
    described = replace(manifest.read(helpers.export(tmp_path / "export")), **CONFIGS[name])
    session = onnxruntime.InferenceSession(showing_images(described).SerializeToString())
    wanted, metadata = described.preparation, session.get_modelmeta().custom_metadata_map
    mean, std = np.array(described.mean), np.array(described.std)
    factors = set()
    for times, more, turn in itertools.product((3, 4, 6.4, 12.8), (-1, 0, 1, 5), (1, 3, 6)):
        width, height = (round(side * times / wanted.crop_ratio) + more for side in (wanted.width, wanted.height))
        upright = width, height + height // 7
        content = jpeg(upright[::-1] if turn == 6 else upright, turn)
        (tmp_path / "photo.jpg").write_bytes(content)
        inputs = module.read(tmp_path / "photo.jpg", metadata)
        factors.add(round(upright[0] / inputs["whole"][2]))
        [seen] = session.run(["logits"], inputs)[0].reshape(1, *described.input_shape)
        levels = (seen.transpose(1, 2, 0) * std + mean) * 255
        difference = np.abs(levels - images.decode(content, wanted))
        assert difference.max() < 1e-3, (upright, turn)
        assert difference.mean() < 0.3, (upright, turn)
    assert factors == {1, 2, 4, 8}


def test_a_client_reads_the_pixels_that_training_reads(tmp_path, module):
    for name, content in odd_pictures():
        (tmp_path / name).write_bytes(content)
        [pixels] = module.read(tmp_path / name, {"background": "[10, 200, 30]"})["pictures"]
        whole = Preparation(*pixels.shape[:2], background=(10, 200, 30))
        assert np.array_equal(pixels, images.decode(content, whole)), name


def test_a_client_names_what_it_cannot_read_and_answers_the_rest(tmp_path):
    folder = helpers.export(tmp_path / "export")
    onnx.save(with_pictures(onnx.load(folder / helpers.ONNX), manifest.read(folder)), tmp_path / "model.onnx")
    Image.fromarray(helpers.picture(40, 60)).save(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(helpers.picture(40, 60)).save(tmp_path / "icon.png", format="ICO")
    done, rows = client(tmp_path, "model.onnx", "gone.png", "cut.png", "a.png", "text.png", "icon.png")
    assert [row[0] for row in rows] == ["a.png"]
    assert done.returncode == 3
    assert [line.partition(" cannot be read: ")[0] for line in done.stderr.splitlines()] == [
        "gone.png", "cut.png", "text.png", "icon.png",
    ]  # fmt: skip
    for model, words in (
        ("gone.onnx", "gone.onnx cannot be read as a network"), ("text.png", "text.png cannot be read as a network"),
        ("export/model.onnx", "Export it with deploy.preprocess=inside"),
    ):  # fmt: skip
        done, rows = client(tmp_path, model, "a.png")
        assert (done.returncode, rows) == (3, [])
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
    done, _ = client(tmp_path, "model.onnx")
    assert (done.returncode, done.stderr) == (2, "usage: python client.py model.pictures.onnx photo.jpg …\n")


def test_without_pillow_a_client_says_so_and_what_needs_none():
    code = f"import runpy, sys; sys.modules['PIL'] = None; runpy.run_path({str(CLIENT)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert done.stderr.startswith("Pillow decodes the photos: pip install Pillow. Pictures that are arrays already,")


def test_a_client_prints_the_labels_that_a_network_of_several_predicts(tmp_path):
    folder = helpers.export(tmp_path / "export")
    Image.fromarray(helpers.picture(40, 60)).save(tmp_path / "a.png")
    for thresholds in ([0.0, 1.0, 0.0, 1.0], [1.0] * 4):
        many = replace(manifest.read(folder), labels="many", activation="sigmoid", thresholds=thresholds)
        manifest.write(folder, many)
        onnx.save(with_pictures(onnx.load(folder / helpers.ONNX), many), tmp_path / "model.onnx")
        _, [[_, *labels]] = client(tmp_path, "model.onnx", "a.png")
        assert sorted(labels[::2]) == ([one for one, at in zip(helpers.CLASSES, thresholds, strict=True) if at == 0]
                                       or ["no label"])  # fmt: skip


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
    paths = [tmp_path / f"{number}.ppm" for number in range(3)]
    for number, photo in enumerate(paths):
        Image.fromarray(helpers.picture(40 + number, 60)).save(photo)
    # As GIMP has it.
    paths[1].write_bytes(paths[1].read_bytes().replace(b"P6", b"P6\n# a comment\n#another", 1))
    command = ["./client", "model.onnx", *(photo.name for photo in paths), "absent.ppm"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    expected = Deployed(folder)(paths)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [(row[0], json.loads(row[1])) for row in rows] == [
        (photo.name, described.classes[one.argmax()]) for photo, one in zip(paths, expected, strict=True)
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
    done = subprocess.run([*command[:2], paths[0].name], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\t")[1] == '"unknown"'
    for thresholds in ([0.0, 1.0, 0.3, 0.25], [1.0] * 4):
        many = replace(described, labels="many", activation="sigmoid", thresholds=thresholds)
        onnx.save(with_pictures(onnx.load(folder / helpers.ONNX), many), tmp_path / "model.onnx")
        done = subprocess.run(command[:-1], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        names = [path.with_suffix(".png").name for path in paths]
        for path, name in zip(paths, names, strict=True):
            Image.open(path).save(tmp_path / name)
        _, expected = client(tmp_path, "model.onnx", *names)
        for line, (_, *wanted) in zip(done.stdout.splitlines(), expected, strict=True):
            _, *own = line.split("\t")
            assert [json.loads(label) for label in own[::2]] == wanted[::2]
            np.testing.assert_allclose(
                [float(value) for value in own[1::2]], [float(value) for value in wanted[1::2]], atol=1e-4
            )

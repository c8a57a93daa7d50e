"""Classes are names wherever weights and images meet."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image

from runner import data
from runner.checkpoints import state
from runner.config import store
from runner.models import Output
from runner.runs.journal import CHECKPOINTS, CONFIG
from runner.training import losses
from runner.worker import experiment, teacher
from tests.conftest import TINY, run_inline

NAMES = ("cat", "dog", "eel")
#: Of a folder of pictures.
FOLDER = (
    *TINY, "data=image_folder", "data.root=pets", "data.image_size=16", "data.workers=0", "data.limit=null",
    "data.val_fraction=0.25",
)  # fmt: skip


def write(root: Path, names=NAMES, mean=0) -> Path:
    """A set of pictures whose class is their colour."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        for name in names:
            place = root / split / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 90, (20, 24, 3), dtype=np.uint8)
                pixels[..., NAMES.index(name) if name in NAMES else 0] += 120
                Image.fromarray(pixels).save(place / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with pictures in `pets` and a run on them in `run`."""
    folder = tmp_path_factory.mktemp("classes")
    write(folder / "pets")
    done = run_inline(*FOLDER, "hydra.run.dir=run", "tracking=none", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def renamed(place, tmp_path):
    """The same run beside a set whose `cat` is called `zebra`."""
    shutil.copytree(place / "run", tmp_path / "run")
    write(tmp_path / "pets")
    for split in ("train", "test"):
        (tmp_path / "pets" / split / "cat").rename(tmp_path / "pets" / split / "zebra")
    return tmp_path


TEACHER = ("mode=cls_teacher", "mode.teacher_from=run", "hydra.run.dir=other")


@pytest.mark.parametrize(
    "command",
    [
        ("eval", "run"), ("export", "run", "--format", "onnx"),
        (*FOLDER, "hydra.run.dir=run", "checkpoint.resume=auto", "train.max_steps=3"),
        (*FOLDER, "checkpoint.init_from=run", "hydra.run.dir=other"), (*FOLDER, *TEACHER),
    ],
    ids=["eval", "export", "resume", "init_from", "teacher"],
)  # fmt: skip
def test_weights_and_images_of_other_classes_are_refused_with_both_lists(renamed, command):
    done = run_inline(*command, *(["tracking=none"] if "=" in command[0] else []), cwd=renamed)
    assert done.returncode == 3, done.stdout
    assert "cat, dog, eel" in done.stderr
    assert "dog, eel, zebra" in done.stderr


def test_what_fits_is_taken_without_the_layer_of_the_logits(renamed):
    done = run_inline(
        *FOLDER, "checkpoint.init_from=run", "checkpoint.strict=false", "hydra.run.dir=other",
        "tracking=none", cwd=renamed,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "out.bias, out.weight are re-initialised: the weights were trained on other classes" in done.stdout


def test_fewer_classes_are_evaluated_and_said(place, tmp_path):
    write(tmp_path / "few", ("dog", "eel"))
    done = run_inline("eval", "run", f"data.root={tmp_path / 'few'}", "--json", cwd=place)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["images"] == 8
    assert "no image is of cat: the numbers are of the other classes" in answer["notes"]


def test_a_class_that_weights_do_not_know_is_refused_in_an_evaluation(place, tmp_path):
    write(tmp_path / "more", (*NAMES, "yak"))
    done = run_inline("eval", "run", f"data.root={tmp_path / 'more'}", cwd=place)
    assert done.returncode == 3
    assert "they lack yak" in done.stderr


def backwards(reverse=False):
    """The pictures of `pets` as arrays, their classes in an order of the caller's."""
    from runner.data import Images, Source, decode
    from runner.images import Preparation

    names = list(NAMES)[:: -1 if reverse else 1]
    parts = []
    for split in ("train", "test"):
        paths = [path for name in names for path in sorted(Path("pets", split, name).iterdir())]
        labels = [names.index(path.parent.name) for path in paths]
        parts.append(Images(np.stack([decode(path, Preparation(16, 16)) for path in paths]), np.array(labels)))
    return Source("backwards", names, *parts)


def test_classes_in_another_order_are_the_same_classes(place):
    target = ("data=custom", "data.target=tests.worker.test_classes:backwards", "data.image_size=16")
    done = run_inline(*TINY, *target, "data.limit=null", "hydra.run.dir=arrays", "tracking=none", cwd=place)
    assert done.returncode == 0, done.stderr
    # The config of the run itself is changed: keys that it lacks cannot be added.
    config = place / "arrays" / "config.yaml"
    before = json.loads(run_inline("eval", "arrays", "trust=true", "--json", cwd=place).stdout)
    config.write_text(config.read_text().replace("kwargs: {}", "kwargs: {reverse: true}", 1))
    assert "reverse" in config.read_text()
    after = json.loads(run_inline("eval", "arrays", "trust=true", "--json", cwd=place).stdout)
    assert after.pop("student/loss") == pytest.approx(before.pop("student/loss"), rel=1e-6)
    assert after == before


def test_class_weights_follow_the_images_where_weights_have_another_order(place, config_of, monkeypatch):
    monkeypatch.chdir(place)
    target = ("data=custom", "data.target=tests.worker.test_classes:backwards", "data.image_size=16")
    words = ("+data.kwargs.reverse=true", "data.limit=null", "tracking=none", "loss.class_weights=[5,1,2]")
    seen = []
    monkeypatch.setattr(losses, "cross_entropy", lambda logits, labels, weights: seen.append(weights.tolist()))
    for begin in ([], ["checkpoint.init_from=run"]):
        run = experiment.build(config_of(*TINY, *target, *words, "loss=cross_entropy", *begin))
        logits = paddle.zeros([1, 3])
        run.training.mode.losses({"student": Output(logits, {})}, paddle.to_tensor([0]), 0)
        by_name = dict(zip(run.training.loaders.classes, seen.pop(), strict=True))
        assert by_name == {"eel": 5, "dog": 1, "cat": 2}, begin
        assert run.training.loaders.classes == (list(NAMES) if begin else list(NAMES)[::-1])


def test_a_teacher_is_given_images_as_it_knows_them_and_its_accuracy_is_said(place):
    other = ("data.mean=[0.1,0.2,0.3]", "data.std=[0.9,0.8,0.7]")
    lines = []
    for number, extra in enumerate([(), other]):
        done = run_inline(
            *FOLDER, "mode=cls_teacher", "mode.teacher_from=run", f"hydra.run.dir=taught{number}",
            "tracking=none", *extra, cwd=place,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        lines.append(next(line for line in done.stdout.splitlines() if line.startswith("teacher: top-1")))
    assert lines[0] == lines[1]
    assert "it sees the images in its own normalisation and in 16×16 pixels" in done.stdout


@pytest.mark.parametrize("key", ["checkpoint.init_from", "model.weights"])
@pytest.mark.parametrize("source", ["run", "run/checkpoints/best"])
def test_weights_are_not_measured_on_images_that_they_never_saw_so(place, key, source):
    begin = (*FOLDER, f"{key}={source}", "data.mean=[0.1,0.2,0.3]", "tracking=none")
    refused = run_inline(*begin, "train.epochs=0", "train.max_steps=null", f"hydra.run.dir={key}/{source}0", cwd=place)
    assert refused.returncode == 2
    assert "Use its settings: data.mean=[0.485,0.456,0.406]" in refused.stderr
    done = run_inline(*begin, f"hydra.run.dir={key}/{source}1", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "different preprocessing; to use the same: data.mean=[0.485,0.456,0.406]" in done.stdout


@pytest.fixture(scope="module")
def undivided(tmp_path_factory):
    """A folder with 36 pictures in `pets`, without splits, a run on them in `run`, and one picture more in `grown`."""
    folder = tmp_path_factory.mktemp("undivided")
    write(folder / "both")
    for name in NAMES:
        for split in ("train", "test"):
            (folder / "pets" / name).mkdir(parents=True, exist_ok=True)
            for path in sorted((folder / "both" / split / name).iterdir()):
                path.rename(folder / "pets" / name / f"{split}{path.name}")
    shutil.copytree(folder / "pets", folder / "grown")
    Image.effect_noise((20, 24), 90).convert("RGB").save(folder / "grown" / "cat" / "a.png")
    done = run_inline(*FOLDER, "hydra.run.dir=run", "tracking=none", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def counted(text):
    """Split → (images that were trained on, all) that a text tells of."""
    found = re.findall(r"was trained on (\d+) of the (\d+) (\w* ?)images: numbers measured", text)
    return {split.strip(): (int(count), int(images)) for count, images, split in found}


OTHER = ("data.split_seed=5",)


@pytest.mark.parametrize(
    "words",
    [
        ("checkpoint.init_from=run", *OTHER), ("model.weights=run", *OTHER),
        ("checkpoint.init_from=run", "data.folds=3"),
        ("checkpoint.init_from=run", "train.epochs=0", "train.max_steps=null", *OTHER),
        ("mode=cls_teacher", "mode.teacher_from=run", *OTHER),
    ],
    ids=["init_from", "weights", "folds", "nothing trained", "teacher"],
)  # fmt: skip
def test_images_that_weights_were_trained_on_are_counted_where_they_are_measured(
    undivided, tmp_path, monkeypatch, words
):
    monkeypatch.chdir(undivided)
    done = run_inline(*FOLDER, *words, "tracking=none", f"hydra.run.dir={tmp_path / 'new'}", cwd=undivided)
    assert done.returncode == 0, done.stderr
    one = data.load(store.read(undivided / "run" / "config.yaml").data)
    config = store.read(tmp_path / "new" / "config.yaml").data
    trained = set(one.train.names())
    other = data.load(config)
    expected = {
        name: (len(trained & set(split.names())), len(split)) for name, split in other.splits.items() if name != "train"
    }
    assert counted(done.stdout) == {name: pair for name, pair in expected.items() if pair[0]} != {}


def test_an_evaluation_counts_the_images_that_the_run_was_trained_on(undivided):
    for words, expected in [
        ((), set()), (OTHER, {"test"}), (("--split", "val"), set()), (("--split", "all"), {""}),
        (("--split", "train"), set()), (("data.root=grown",), set()), (("data.root=grown", *OTHER), {""}),
    ]:  # fmt: skip
        done = run_inline("eval", "run", *words, cwd=undivided)
        assert done.returncode == 0, done.stderr
        assert counted(done.stdout).keys() == expected, words


def test_weights_that_were_trained_on_weights_know_the_images_of_both(undivided, tmp_path):
    begin = (*FOLDER, "checkpoint.init_from=run", "tracking=none", *OTHER)
    assert run_inline(*begin, f"hydra.run.dir={tmp_path / 'second'}", cwd=undivided).returncode == 0
    done = run_inline("eval", str(tmp_path / "second"), cwd=undivided)
    assert counted(done.stdout)["test"][0] > 0


def test_checkpoints_that_do_not_know_their_images_are_said_to_be_of_another_split(undivided, tmp_path):
    shutil.copytree(undivided / "run", tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").glob("*/state.json"):
        kept = state.read(path.parent)
        del kept.digests["images.safetensors"]
        state.write(path, kept)
    for words, is_other in [((), False), (OTHER, True)]:
        done = run_inline("eval", str(tmp_path / "run"), *words, cwd=undivided)
        assert done.returncode == 0, done.stderr
        assert ("was trained on another split of" in done.stdout) == is_other
    done = run_inline("eval", str(tmp_path / "run"), "--split", "all", cwd=undivided)
    assert "the images that the run was trained on are among them" in done.stdout


def test_a_run_goes_on_with_other_test_images_and_says_so_but_not_with_others_to_train_on(place, tmp_path):
    shutil.copytree(place / "run", tmp_path / "run")
    write(tmp_path / "pets")
    (tmp_path / "pets/test/cat/0.png").unlink()
    again = (*FOLDER, "hydra.run.dir=run", "checkpoint.resume=auto", "tracking=none")
    done = run_inline(*again, "train.max_steps=3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the test images changed since the run began: test has 11 images instead of 12" in done.stdout
    Image.new("RGB", (9, 9)).save(tmp_path / "pets/train/cat/0.png")
    refused = run_inline(*again, "train.max_steps=4", cwd=tmp_path)
    assert refused.returncode == 3
    assert "train has other sizes of files. Bring those back" in refused.stderr


def test_a_teacher_that_is_a_checkpoint_of_a_run_is_the_teacher_that_the_run_is(place, config_of):
    [folder, *_] = (place / "run" / CHECKPOINTS).glob("step-*")

    def read(teacher_from):
        words = [*FOLDER, "mode=cls_teacher", f"mode.teacher_from={teacher_from}"]
        config = config_of(*words, "data.mean=[0.1,0.1,0.1]")
        return teacher.read(config.mode, config)

    (own, run), (whole, its_run) = read(folder), read(place / "run")
    assert run == its_run == store.read(place / "run" / CONFIG)
    assert own.preprocessing["mean"] == whole.preprocessing["mean"] == run.data.mean != [0.1] * 3

"""A resumed student is taught by what taught it so far, wherever that is now, and by nothing else."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from runner.checkpoints import checkpoint, reading, state
from runner.checkpoints.state import MODEL, About
from runner.config import store
from runner.errors import CheckpointError
from runner.runs import compatible
from runner.runs.journal import CHECKPOINTS, CONFIG
from runner.worker import experiment, same_teachers
from tests.conftest import run_inline

RUN = [
    "data=synthetic", "data.train_images=24", "data.val_fraction=0.3", "data.test_images=8", "data.batch_size=8",
    "train.epochs=1", "schedule.warmup_epochs=0", "train.threads=1", "tracking=none",
    "model=mobilenet_v3_small_x0_35",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory, config_of):
    """A folder with runs that may teach: compression → its directory; `other` has another seed."""
    folder = tmp_path_factory.mktemp("teachers")
    for name, words in {
        "none": [], "other": ["train.seed=5"], "qat": ["compression=qat"], "lsq": ["compression=lsq"],
        "fpgm": ["compression=fpgm"], "averaged": ["train.ema=0.9"],
    }.items():  # fmt: skip
        config = config_of(*RUN, *words)
        write(folder / name, experiment.build(config), config)
    return folder


def write(directory, run, config):
    directory.mkdir()
    store.write(config, directory / CONFIG)
    about = About(data="", classes=run.training.loaders.classes, plan=run.plan, teachers=run.teachers)
    return checkpoint.save(directory, run.training, True, about, seconds=0.0)


@pytest.fixture
def taught(config_of):
    """(what names a teacher, further words) → a student's run with it, and its config."""

    def make(teacher, *words):
        config = config_of(*RUN, "mode=cls_teacher", "mimic=kd", f"mode.teacher_from={teacher}", *words)
        return experiment.build(config), config

    return make


def check(place, run, config):
    """What a student that `run` resumes is told, or refused."""
    saved, _ = reading.newest(place)
    return same_teachers.check(saved, run.teachers, config.mode)


@pytest.mark.parametrize("compression", ["none", "qat", "lsq", "fpgm", "averaged"])
def test_a_teacher_is_the_same_wherever_it_is(place, taught, tmp_path, compression):
    first = taught(place / compression)
    write(tmp_path / "student", *first)
    shutil.copytree(place / compression, tmp_path / "moved")
    [folder, *_] = (place / compression / CHECKPOINTS).glob("step-*")
    for now in (place / compression, tmp_path / "moved", folder):
        again = taught(now)
        assert again[0].teachers == first[0].teachers
        assert check(tmp_path / "student", *again) == []


def test_its_weights_in_a_file_are_the_same_too(place, taught, tmp_path):
    arrays = load_file(next((place / "none" / CHECKPOINTS).glob(f"step-*/{MODEL}")))
    save_file({name.removeprefix("student."): value for name, value in arrays.items()}, tmp_path / "own.safetensors")
    write(tmp_path / "student", *taught(place / "none"))
    assert check(tmp_path / "student", *taught(tmp_path / "own.safetensors")) == []


def test_another_run_and_one_that_was_trained_further_are_refused(place, taught, tmp_path):
    shutil.copytree(place / "none", tmp_path / "teacher")
    write(tmp_path / "student", *taught(tmp_path / "teacher"))
    [folder] = (tmp_path / "teacher" / CHECKPOINTS).glob("step-*")
    longer = load_file(folder / MODEL)
    longer[sorted(longer)[0]] += np.float32(1e-6)
    save_file(longer, tmp_path / "longer.safetensors")
    for other in (place / "other", tmp_path / "longer.safetensors"):
        with pytest.raises(CheckpointError) as refusal:
            check(tmp_path / "student", *taught(other))
        assert str(refusal.value).startswith(f"mode.teacher_from={other} is not the teacher that ")
        assert str(refusal.value).endswith("or start a new run from these weights: checkpoint.init_from=RUN")


def test_the_further_teacher_that_changed_is_named(place, taught, tmp_path):
    both = f"+mode.more_teachers={{big:{{teacher_from:{place / 'other'}}}}}"
    write(tmp_path / "student", *taught(place / "none", both))
    assert check(tmp_path / "student", *taught(place / "none", both)) == []
    changed = both.replace(str(place / "other"), str(place / "averaged"))
    with pytest.raises(
        CheckpointError, match=re.escape(f"mode.more_teachers.big.teacher_from={place / 'averaged'} is")
    ):
        check(tmp_path / "student", *taught(place / "none", changed))


def test_the_same_weights_for_images_of_another_normalisation_are_another_teacher(place, taught, config_of, tmp_path):
    shutil.copytree(place / "none", tmp_path / "teacher")
    write(tmp_path / "student", *taught(place / "none"))
    store.write(config_of(*RUN, "data.mean=[0.1,0.2,0.3]"), tmp_path / "teacher" / CONFIG)
    with pytest.raises(CheckpointError, match="how its images are preprocessed are others"):
        check(tmp_path / "student", *taught(tmp_path / "teacher"))


def test_a_checkpoint_that_does_not_know_its_teachers_is_said_to_be_of_an_earlier_version(place, taught, tmp_path):
    first = taught(place / "none")
    folder = write(tmp_path / "student", *first)
    kept = state.read(folder)
    kept.teachers.clear()
    state.write(folder / state.STATE, kept)
    [note] = check(tmp_path / "student", *first)
    assert "is of an earlier version: whether its teachers are still the same is unknown" in note


def test_what_has_no_teachers_is_resumed_without_a_word(place, config_of):
    config = config_of(*RUN)
    assert check(place / "none", experiment.build(config), config) == []


TEACHER = ["mode=cls_teacher", "mimic=kd", "model@mode.teacher=resnet18"]
MORE = "+mode.more_teachers={big:{}}"
BIG = "+model@mode.more_teachers.big.teacher=resnet18"


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ([], "mode.teacher_from"),
        (TEACHER[2:], "mode.teacher.weights"),
        (["mode.teacher_from=x", MORE], "mode.more_teachers.big.teacher_from"),
        (["mode.teacher_from=x", MORE, BIG], "mode.more_teachers.big.teacher.weights"),
    ],
)
def test_the_place_of_a_teacher_may_change(config_of, words, key):
    before, after = (config_of(*TEACHER[:2], *words, f"++{key}={name}") for name in ("here.pth", "there.pth"))
    assert compatible.check(before, after, "RUN", []) == {key: "there.pth"}


def test_a_command_that_names_another_teacher_is_refused_and_the_first_one_goes_on(place, tmp_path):
    words = [*RUN, "mode=cls_teacher", "deploy.formats=[]", "train.plots=false", "hydra.run.dir=student"]
    resumed = [*words, "checkpoint.resume=auto"]
    first, other = (f"mode.teacher_from={place / name}" for name in ("none", "other"))
    assert run_inline(*words, first, "train.max_steps=2", cwd=tmp_path).returncode == 0
    refused = run_inline(*resumed, other, "train.max_steps=3", cwd=tmp_path)
    assert refused.returncode == 3
    at = tmp_path / "student" / CHECKPOINTS / "step-00000002"
    assert f"{other} is not the teacher that {at} was trained with" in refused.stderr
    shutil.copytree(place / "none", tmp_path / "moved")
    done = run_inline(*resumed, "mode.teacher_from=moved", "train.max_steps=3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "resumed from step-00000002" in done.stdout

"""Every mode with every loss, optimizer and schedule, pairwise; the original's own matrix in full."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest
import yaml

from runner.__main__ import command as run_here
from tests.conftest import TINY

MATRIX = yaml.safe_load((Path(__file__).parent / "matrix.yaml").read_text())
INLINE = [*TINY, "tracking=none", "launch.inline=true"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    directory = tmp_path_factory.mktemp("teacher") / "run"
    assert run_here([*INLINE, f"hydra.run.dir={directory}"]) == 0
    return directory


def trained(directory, *overrides):
    assert run_here([*INLINE, f"hydra.run.dir={directory}", *overrides]) == 0
    result = json.loads((directory / "result.json").read_text())
    assert result["progress"]["step"] == 2
    return result


@pytest.mark.parametrize("row", MATRIX["pairwise"], ids="-".join)
def test_a_pairwise_combination_trains(tmp_path, teacher, row):
    mode, loss, optimizer, schedule = row
    extra = [f"mode.teacher_from={teacher}"] if mode == "cls_teacher" else []
    result = trained(tmp_path, f"mode={mode}", f"loss={loss}", f"optimizer={optimizer}", f"schedule={schedule}", *extra)
    networks = {"student", "student1"} if "distill" in mode else {"student"}
    assert {name.partition("/")[0] for name in result["test"] if name.count("/")} == networks


@pytest.mark.parametrize(
    "row", list(itertools.product(*MATRIX["original"].values())), ids=lambda row: "-".join(row).replace(" ", "-")
)
def test_the_originals_matrix_trains(tmp_path, row):
    mode, model, custom_relu, amp = row
    if custom_relu == "true" and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        pytest.skip("the custom operator needs a C++ compiler")
    smaller = ["model.size=small", "model.scale=0.35"]
    trained(tmp_path, f"mode={mode}", f"model={model}", *smaller, f"model.custom_relu={custom_relu}", *amp.split())


@pytest.mark.smoke
def test_every_pair_of_choices_is_in_the_matrix():
    axes = list(MATRIX["axes"].values())
    for (i, first), (j, second) in itertools.combinations(enumerate(axes), 2):
        missing = set(itertools.product(first, second)) - {(row[i], row[j]) for row in MATRIX["pairwise"]}
        assert not missing


@pytest.mark.smoke
@pytest.mark.parametrize(("overrides", "reason"), MATRIX["refused"], ids=[" ".join(o) for o, _ in MATRIX["refused"]])
def test_a_combination_that_makes_no_sense_is_refused_with_the_reason(tmp_path, command, overrides, reason):
    done = command(*TINY, "tracking=none", "hydra.run.dir=run", *overrides, cwd=tmp_path)
    assert done.returncode in (2, 3)
    assert reason in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_a_run_inside_the_commands_process_shows_one_message_too(tmp_path, command):
    # Refused once the classes are known.
    words = ["tracking=none", "hydra.run.dir=run", "launch.inline=true", "loss.class_weights=[1,2]"]
    done = command(*TINY, *words, cwd=tmp_path)
    assert done.returncode == 2
    assert "loss.class_weights" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert "Traceback" in (tmp_path / "run" / "train.log").read_text()


def as_teacher(command, tmp_path, directory, *overrides):
    return command(
        *TINY, "tracking=none", "hydra.run.dir=run", "mode=cls_teacher", f"mode.teacher_from={directory}", *overrides,
        cwd=tmp_path,
    )  # fmt: skip


def test_a_teacher_network_that_the_run_does_not_have_is_named(tmp_path, command, teacher):
    done = as_teacher(command, tmp_path, teacher, "mode.teacher_network=studnet")
    assert done.returncode == 3
    assert "mode.teacher_network=studnet" in done.stderr
    assert "It has: student" in done.stderr


def test_a_peer_of_another_kind_can_be_the_teacher(tmp_path, command):
    pair = tmp_path / "pair"
    trained(pair, "mode=cls_distill", "model@mode.peer=mobilenet_v3_small_x0_5")
    done = as_teacher(command, tmp_path, pair, "mode.teacher_network=student1")
    assert done.returncode == 0, done.stderr


def test_the_code_of_a_teachers_custom_model_runs_only_when_trusted(tmp_path, command):
    own = tmp_path / "own"
    trained(own, "model=custom", "model.target=tests.samples:linear_network")
    refused = as_teacher(command, tmp_path, own)
    assert refused.returncode == 2
    assert "mode.trust=true" in refused.stderr
    (tmp_path / "run" / "config.yaml").unlink()
    assert as_teacher(command, tmp_path, own, "mode.trust=true").returncode == 0

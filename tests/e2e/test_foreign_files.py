"""What a user has in a folder stays there, whatever a command is told to do with that folder."""

from __future__ import annotations

import os
import signal

import pytest

from tests.conftest import TINY
from tests.e2e.processes import has_logged, run, start, wait_until
from tests.e2e.test_sweeps import SYNTHETIC


def tree(folder):
    """Path → content of all that is below a folder."""
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@pytest.fixture
def theirs(tmp_path):
    """A working folder with files of a user's."""
    for name in ("results/notes.txt", "results/0_photos/cat.jpg", "outputs/plan.txt", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.smoke
@pytest.mark.parametrize(
    "words",
    [
        ["hydra.sweep.dir=results", "optimizer.momentum=0.8,0.9"],
        ["hydra.sweep.dir=outputs", "mode=nonsense,cls"],
        ["hydra.sweep.dir=.", "optimizer.momentum=0.8,0.9"],
        ["hydra.sweep.dir=new/deep", "optimizer.momentum=0.8,0.9"],
        ["mode=nonsense,cls"],
    ],
)
def test_a_sweep_with_a_typo_leaves_everything_as_it_was(theirs, words):
    before = tree(theirs)
    done = run("-m", *words, cwd=theirs)
    assert done.returncode == 2, done.stderr
    assert tree(theirs) == before


@pytest.mark.parametrize(
    "words",
    [
        ["hydra.run.dir=mine", "train.epochs=-1"],
        ["hydra.run.dir=mine/x", "train.epochs=-1"],
        ["-m", "hydra.sweep.dir=mine", "optimizer.momentum=0.8,0.9"],
        ["-m", "hydra.sweep.dir=locked", "optimizer.momentum=0.8,0.9"],
    ],
)
def test_a_folder_that_was_there_stays_even_if_it_is_empty(tmp_path, words):
    (tmp_path / "mine").mkdir()
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked" / ".command.lock").write_text("theirs")
    before = tree(tmp_path)
    assert run(*words, cwd=tmp_path).returncode == 2
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["report.html", "multirun.yaml", "accuracy_latency.png", "report.md"])
def test_a_sweep_overwrites_no_file_that_is_there_already(theirs, name):
    (theirs / "results" / name).write_text("theirs")
    before = tree(theirs)
    done = run("-m", "hydra.sweep.dir=results", "train.seed=0,1", cwd=theirs)
    assert done.returncode == 2
    assert name in done.stderr
    assert "hydra.sweep.dir=DIR" in done.stderr
    assert tree(theirs) == before


def test_a_sweep_among_other_files_adds_its_own(theirs):
    before = tree(theirs)
    done = run(*TINY, "-m", "tracking=none", "hydra.sweep.dir=results", "train.seed=0,1", cwd=theirs)
    assert done.returncode == 0, done.stderr
    after = tree(theirs)
    assert {name: after[name] for name in before} == before
    assert "0_photos" not in done.stdout


@pytest.mark.parametrize("words", [[], ["checkpoint.resume=auto"]])
@pytest.mark.parametrize("name", ["notes.txt", "config.yaml", "export/model.onnx", "ranks/list.csv", "journal.jsonl/x"])
def test_a_run_is_not_written_among_other_files(tmp_path, name, words):
    path = tmp_path / "proj" / name
    path.parent.mkdir(parents=True)
    path.write_text("theirs")
    before = tree(tmp_path)
    done = run(*TINY, "hydra.run.dir=proj", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert "and holds no run" in done.stderr
    assert "hydra.run.dir=DIR" in done.stderr
    assert tree(tmp_path) == before


def test_an_export_replaces_an_export_and_nothing_else(finished, tmp_path):
    mine = tmp_path / "out" / "export"
    mine.mkdir(parents=True)
    (mine / "thesis.onnx").write_text("theirs")
    words = ["export", finished / "run", "--format", "onnx", "deploy.bench_s=0"]
    refused = run(*words, "--output", tmp_path / "out", cwd=finished)
    assert refused.returncode == 3
    assert "model.json" in refused.stderr
    assert tree(tmp_path / "out") == {"export": False, "export/thesis.onnx": b"theirs"}
    for _ in range(2):
        done = run(*words, "--output", tmp_path / "new", cwd=finished)
        assert done.returncode == 0, done.stderr
        (tmp_path / "new" / "export" / "notes.txt").write_text("theirs")
    assert {"model.json", "model.onnx", "notes.txt"} <= set(os.listdir(tmp_path / "new" / "export"))
    assert os.listdir(tmp_path / "new") == ["export"]


def test_an_export_into_a_file_names_its_own_option(finished, tmp_path):
    (tmp_path / "notes.txt").write_text("theirs")
    refused = run("export", finished / "run", "--format", "onnx", "--output", tmp_path / "notes.txt", cwd=finished)
    assert refused.returncode == 3
    assert "--output DIR" in refused.stderr
    assert (tmp_path / "notes.txt").read_text() == "theirs"


def test_a_report_does_not_overwrite_another_page(finished, tmp_path):
    for name in ("page.html", "page.md"):
        (tmp_path / name).write_text("theirs")
        done = run("report", finished / "run", "--output", tmp_path / "page.html", cwd=finished)
        assert done.returncode == 3
        assert name in done.stderr
        assert (tmp_path / name).read_text() == "theirs"
        (tmp_path / name).unlink()
    for _ in range(2):
        assert run("report", finished / "run", "--output", tmp_path / "page.html", cwd=finished).returncode == 0


def test_files_of_a_user_in_a_run_directory_outlive_its_resumption(tmp_path):
    assert run(*TINY[:-1], "deploy.bench_s=0", "tracking=none", "hydra.run.dir=run", cwd=tmp_path).returncode == 0
    kept = ["run/notes.txt", "run/export/notes.txt", "run/checkpoints/step-9/photo.jpg", "run/student/export/mine.onnx"]
    for name in kept:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    words = [*TINY[1:-1], "deploy.bench_s=0", "tracking=none", "hydra.run.dir=run", "+debug=fast_dev_run"]
    again = run(*words, "train.max_steps=4", "checkpoint.resume=auto", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert all((tmp_path / name).read_text() == name for name in kept)


@pytest.mark.parametrize("what", ["run", "sweep"])
def test_a_folder_that_is_moved_while_it_is_written_is_named(tmp_path, what):
    place = ["hydra.run.dir=work"] if what == "run" else ["-m", "hydra.sweep.dir=work", "train.seed=0,1"]
    going = start(*SYNTHETIC, "tracking=none", *place, cwd=tmp_path, env={"STEP_S": "0.2"})
    directory = tmp_path / "work" if what == "run" else tmp_path / "work" / "0_train.seed-0"
    wait_until(lambda: directory.is_dir() and has_logged(directory, 1), process=going)
    (tmp_path / "work").rename(tmp_path / "elsewhere")
    try:
        _, errors = going.communicate(timeout=60)
    finally:
        if going.poll() is None:
            going.send_signal(signal.SIGKILL)
    assert going.returncode == 3, errors
    assert "was moved or removed" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("place", ["notes.txt", "notes.txt/x", "/proc/x"])
@pytest.mark.parametrize("words", [["hydra.run.dir={}"], ["-m", "hydra.sweep.dir={}", "train.seed=0,1"]])
def test_a_folder_that_cannot_be_made_is_named(theirs, words, place):
    before = tree(theirs)
    done = run(*(word.format(place) for word in words), "tracking=none", cwd=theirs)
    assert done.returncode == 3
    assert f"{place} cannot be made" in done.stderr
    assert "hydra.run.dir=DIR" in done.stderr
    assert "Traceback" not in done.stderr
    assert tree(theirs) == before

"""The start of a run: what is known of its images is said and kept, and broken ones end it before it begins."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from runner import models
from runner.runs.journal import events
from tests.conftest import INLINE, run_command
from tests.data import layouts
from tests.data.pictures import BROKEN, write_set

RUN = [
    *INLINE, "model=mobilenet_v3_small_x0_35", "deploy.formats=[]", "data=image_folder", "data.root=set",
    "data.image_size=32", "data.batch_size=8", "data.workers=0", "data.val_fraction=0", "hydra.run.dir=run",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def broken(tmp_path):
    """A set with a broken picture in each split."""
    root = write_set(tmp_path / "set", each=8)
    for split, kind in (("train", "empty"), ("val", "half JPEG"), ("test", "flipped bit")):
        (root / split / "dog" / f"bad{BROKEN[kind][0]}").write_bytes(BROKEN[kind][1])
    return root


def event(folder, name):
    return next(event for event, _ in events(folder) if event["event"] == name)


def test_broken_pictures_end_a_run_with_3_before_there_is_a_network(here, tmp_path, broken, monkeypatch):
    monkeypatch.setattr(models, "build", lambda *_: pytest.fail("a network was built"))
    done = here(*RUN, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "3 images of set cannot be read:" in done.stderr
    assert all(f"{split}/dog/bad" in done.stderr for split in ("train", "val", "test"))
    assert "All of them: run/unreadable.txt" in done.stderr
    assert "data.on_error=skip" in done.stderr
    assert len((tmp_path / "run" / "unreadable.txt").read_text().splitlines()) == 4


def test_skipped_ones_are_counted_said_and_listed(here, tmp_path, broken):
    done = here(*RUN, "data.on_error=skip", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "set: 16 train, 16 val, 16 test images of 2 classes, 8 each" in done.stdout
    assert "left out: 3 that cannot be read (unreadable.txt)" in done.stdout
    assert len((tmp_path / "run" / "unreadable.txt").read_text().splitlines()) == 4
    about = event(tmp_path / "run", "dataset")["about"]
    assert (about["unreadable"], about["splits"]) == (3, {"train": 16, "val": 16, "test": 16})
    assert event(tmp_path / "run", "artifact")["path"] == "unreadable.txt"
    evaluated = here("eval", "run", "data.workers=0", cwd=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    assert "set: 16 train, 16 val, 16 test images of 2 classes" in evaluated.stdout
    assert "Measured 16 images of set, split test" in evaluated.stdout


def test_what_is_known_of_the_images_is_said_and_in_the_journal(here, tmp_path):
    root = write_set(tmp_path / "set", each=8)
    (root / "test" / "cat" / "again.png").write_bytes((root / "train" / "cat" / "1.png").read_bytes())
    done = here(*RUN, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("set: 16 train, 16 val, 17 test images of 2 classes")
    assert lines[1] == "all 47×33; RGB"
    assert lines[2] == "duplicates: 1 test image is in train too (`python -m runner data …` shows them)"
    about = event(tmp_path / "run", "dataset")["about"]
    assert about["classes"] == {"cat": [8, 8, 9], "dog": [8, 8, 8]}
    assert about["width"] == [47, 47, 47]
    [overlap] = about["overlaps"]
    assert (overlap["equal"], overlap["alike"]) == (1, 0)
    assert "1 test image is in train too" in event(tmp_path / "run", "note")["text"]
    report = here("report", "run", "--output", "page.html", cwd=tmp_path)
    assert report.returncode == 0, report.stderr
    assert "1 test image is in train too" in (tmp_path / "page.html").read_text()


def test_mistakes_have_the_names_of_their_files(here, tmp_path):
    root = write_set(tmp_path / "set", each=8)
    assert here(*RUN, cwd=tmp_path).returncode == 0
    worst = json.loads((tmp_path / "run" / "mistakes.json").read_text())["worst"]
    assert worst
    assert all((root / "test").joinpath(*Path(one["name"]).parts[-2:]).is_file() for one in worst)
    assert here("report", "run", "--output", "page.html", cwd=tmp_path).returncode == 0
    assert Path(worst[0]["name"]).name in (tmp_path / "page.html").read_text()


@pytest.mark.slow
def test_all_processes_of_a_run_leave_the_same_pictures_out(tmp_path, broken):
    words = [word for word in RUN if word != "launch.inline=true" and not word.startswith("+debug")]
    words += ["data.on_error=skip", "train.epochs=1", "schedule=constant"]
    digests = []
    for processes in (1, 2):
        where = [f"launch.nproc_per_node={processes}", f"hydra.run.dir=run{processes}"]
        done = run_command(*words, *where, cwd=tmp_path, timeout=300)
        # Processes that do not have the same images refuse to train.
        assert done.returncode == 0, done.stderr
        assert len(re.findall("left out: 3 that cannot be read", done.stdout)) == 1
        dataset = event(tmp_path / f"run{processes}", "dataset")
        assert dataset["about"]["unreadable"] == 3
        digests.append(dataset["digests"])
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_broken_pictures_end_several_processes_with_one_message(tmp_path, broken):
    words = [word for word in RUN if word != "launch.inline=true"]
    done = run_command(*words, "launch.nproc_per_node=2", cwd=tmp_path, timeout=300)
    assert done.returncode == 3
    assert done.stderr.count("3 images of set cannot be read:") == 1


def write_elsewhere(root, layout):
    """A set with its own lists or shards, and the names of its classes."""
    pictures = layouts.drawn([f"{name}/{number:02}.png" for name in ("cat", "dog") for number in range(12)])
    parts = {"train": dict(list(pictures.items())[::2]), "val": dict(list(pictures.items())[1::2])}
    root.mkdir()
    (root / "names.txt").write_text("cat\ndog\n")
    for split, part in parts.items():
        if layout == "tars":
            layouts.write_tars(root / split, part, 2)
        else:
            layouts.write_folder(root, part)
            (root / f"{split}.txt").write_text("".join(f"{name} {layouts.label(name)}\n" for name in part))


def elsewhere(root, layout):
    """The overrides for it."""
    kind, places = ("shards", "{}/*.tar") if layout == "tars" else ("files", "{}.txt")
    splits = [f"data.{split}={root}/{places.format(split)}" for split in ("train", "val")]
    return [f"data={kind}", *splits, f"data.label_file={root}/names.txt"]


WHEREVER = [word for word in RUN if not word.startswith(("data=", "data.root", "hydra.run.dir"))]


@pytest.mark.parametrize("layout", ["lists", "tars"])
def test_a_run_goes_on_bit_for_bit_where_its_lists_or_shards_were_moved(here, tmp_path, layout):
    write_elsewhere(tmp_path / "old", layout)
    for folder, place, epochs in (("whole", "old", 2), ("run", "old", 1), ("run", "new", 2)):
        if not (tmp_path / place).exists():
            (tmp_path / "old").rename(tmp_path / place)
        done = here(
            *WHEREVER, *elsewhere(tmp_path / place, layout), f"train.epochs={epochs}", "schedule=constant",
            "checkpoint.resume=auto", f"hydra.run.dir={folder}", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert "resumed from" in done.stdout
    ours, theirs = (max((tmp_path / name / "checkpoints").glob("step-*")) for name in ("run", "whole"))
    assert ours.name == theirs.name
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (ours, theirs))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_a_list_elsewhere_that_is_of_other_images_is_refused(here, tmp_path):
    words = [*WHEREVER, "hydra.run.dir=run", "checkpoint.resume=auto"]
    for place in ("old", "new"):
        write_elsewhere(tmp_path / place, "lists")
    assert here(*words, *elsewhere(tmp_path / "old", "lists"), cwd=tmp_path).returncode == 0
    with (tmp_path / "new" / "train.txt").open("a") as stream:
        stream.write("cat/01.png cat\n")
    done = here(*words, *elsewhere(tmp_path / "new", "lists"), "train.epochs=2", cwd=tmp_path)
    assert done.returncode == 3
    assert "are not those that" in done.stderr
    assert "train has 13 images instead of 12" in done.stderr

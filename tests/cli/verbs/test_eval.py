"""`runner eval` on other images than the run's own: which of them are measured, and what is said about it."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.conftest import TINY
from tests.conftest import run_inline as run
from tests.data.pictures import photo

CLASSES = ("cat", "dog", "eel")
SET = ["data=image_folder", "data.root=set", "data.image_size=32", "data.batch_size=8", "data.workers=0"]


def write(root, classes=CLASSES, each=10):
    for place, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(each):
            photo(100 * place + number).save(root / name / f"{number:02}.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a run in `run` on the undivided `set`, of which 6 of 30 images are the test."""
    folder = tmp_path_factory.mktemp("evaluated")
    write(folder / "set")
    done = run(*TINY, *SET, "tracking=none", "hydra.run.dir=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def measured(folder, *words):
    """(images, what they are called) as `eval` has measured them."""
    done = run("eval", "run", *words, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return answer["images"], answer["measured"]


def test_the_runs_own_set_is_measured_on_its_test_split(folder):
    assert measured(folder) == (6, "6 images of set, split test")
    shutil.copytree(folder / "set", folder / "moved")
    assert measured(folder, "data.root=moved") == (6, "6 images of moved, split test")


def test_another_set_that_is_not_divided_is_measured_whole(folder):
    write(folder / "other", each=1)
    assert measured(folder, "data.root=other") == (3, "all 3 images of other")
    done = run("eval", "run", "data.root=other", cwd=folder)
    assert done.stdout.splitlines()[-1] == "Measured all 3 images of other, with the best weights of run"


def test_splits_and_all_of_them_can_be_asked_for(folder):
    assert measured(folder, "--split", "train")[0] == 21
    assert measured(folder, "--split", "all", "data.limit=null") == (30, "all 30 images of set")
    write(folder / "divided" / "train", each=2)
    write(folder / "divided" / "test", each=1)
    assert measured(folder, "data.root=divided") == (3, "3 images of divided, split test")
    assert measured(folder, "data.root=divided", "--split", "all") == (9, "all 9 images of divided")


def test_a_test_folder_alone_is_enough(folder):
    write(folder / "tested" / "test", each=2)
    assert measured(folder, "data.root=tested") == (6, "6 images of tested, split test")
    done = run("eval", "run", "data.root=tested", "--split", "train", cwd=folder)
    assert done.returncode == 2
    assert "tested has no train split. Use --split test or all" in done.stderr


def test_pictures_per_class_metric_are_matched_by_its_name(folder):
    write(folder / "dogs", classes=("dog",), each=4)
    done = run("eval", "run", "data.root=dogs", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "no image is of cat, eel" in done.stdout
    assert "Measured all 4 images of dogs" in done.stdout


@pytest.mark.parametrize("verb", [["eval", "run"], ["export", "run"], ["predict", "run", "set/cat/00.png"]])
def test_a_wrong_root_is_refused_before_paddle_is_loaded(folder, monkeypatch, verb):
    monkeypatch.setattr("runner.device.load_paddle", lambda threads: pytest.fail("Paddle is loaded"))
    (folder / "empty").mkdir(exist_ok=True)
    for root, said in {"nowhere": "nowhere cannot be listed", "empty": "empty has no class folders"}.items():
        done = run(*verb, f"data.root={root}", cwd=folder)
        assert done.returncode == 3
        assert said in done.stderr
        assert "\n" not in done.stderr.strip()


@pytest.mark.parametrize("sweep", [[], ["-m", "train.seed=1,2"]])
def test_a_wrong_root_is_refused_before_a_folder_is_made(here, tmp_path, sweep):
    done = here(*TINY, *SET, *sweep, cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr.strip().startswith("set cannot be listed: No such file or directory.")
    assert not (tmp_path / "outputs").exists()


def test_of_swept_roots_the_wrong_one_alone_fails(here, tmp_path):
    write(tmp_path / "set")
    done = here(*TINY, *SET[:1], *SET[2:], "-m", "data.root=nowhere,set", "tracking=none", cwd=tmp_path)
    assert "nowhere cannot be listed" in done.stdout + done.stderr
    assert "FINISHED" in done.stdout


def test_a_complete_run_needs_no_images(here, folder, tmp_path):
    shutil.copytree(folder / "run", tmp_path / "run")
    words = [*TINY, *SET, "tracking=none", "hydra.run.dir=run", "checkpoint.resume=auto"]
    done = here(*words, cwd=tmp_path)
    assert (done.returncode, "is complete" in done.stdout) == (0, True)
    more = here(*words, "train.max_steps=99", "train.epochs=99", cwd=tmp_path)
    assert (more.returncode, "set cannot be listed" in more.stderr) == (3, True)


def test_an_export_needs_training_images_and_leaves_no_folder_where_it_is_refused(folder):
    write(folder / "only" / "test", each=2)
    done = run("export", "run", "data.root=only", "--output", "out", "--format", "onnx", cwd=folder)
    assert (done.returncode, "only has no training images" in done.stderr) == (3, True)
    assert not (folder / "out").exists()


def test_only_true_is_trust(folder):
    done = run("eval", "run", "trust=True", cwd=folder)
    assert (done.returncode, "trust takes only true, trust=true" in done.stderr) == (2, True)


def test_keys_that_only_training_has_are_said_to_change_nothing(folder):
    done = run("eval", "run", "train.epochs=3", "optimizer.lr=1", "data.eval_batch_size=2", cwd=folder)
    assert done.returncode == 0
    assert "train.epochs=3, optimizer.lr=1: of training only, so nothing changes here." in done.stderr


def test_the_weights_of_a_run_that_was_stopped_are_not_called_final(folder, tmp_path):
    shutil.copytree(folder / "run", tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    done = run("eval", str(tmp_path / "run"), cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith(f"with the best weights of {tmp_path / 'run'}")

"""What `eval`, `predict` and `runs` say about real runs."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.conftest import TINY
from tests.conftest import run_inline as run
from tests.e2e.processes import has_logged, start, wait_until

CASES = {
    "cls with averages": ["train.ema=0.5"],
    "cls_distill": ["mode=cls_distill", "model@mode.peer=mobilenet_v3_small_x0_5"],
    "cls_distill_multiopt": ["mode=cls_distill_multiopt"],
    "cls_teacher": ["mode=cls_teacher", "mode.teacher_from=teacher"],
}
#: More epochs than the best ones: the last weights are not the best.
LENGTH = ["model=mobilenet_v3_small_x0_35", "data.limit=60", "data.batch_size=12", "train.epochs=3", "tracking=none",
          "schedule.warmup_epochs=1", "train.patience=2", "deploy.formats=[]"]  # fmt: skip


#: The slow tests have the others.
QUICK = ("cls with averages", "cls_teacher")


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in CASES]
)
def trained(request, tmp_path_factory):
    """(folder, result) of a run of each mode in `run`."""
    folder = tmp_path_factory.mktemp("trained")
    if "teacher" in request.param:
        assert run(*LENGTH, "hydra.run.dir=teacher", cwd=folder).returncode == 0
    assert run(*LENGTH, *CASES[request.param], "hydra.run.dir=run", cwd=folder).returncode == 0
    shutil.rmtree(folder / "teacher", ignore_errors=True)
    return folder, json.loads((folder / "run" / "result.json").read_text())


def test_eval_gives_exactly_the_runs_own_test_metrics(trained):
    folder, result = trained
    done = run("eval", "run", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    own = {name: value for name, value in result["test"].items() if "/" in name}
    assert {name: values[name] for name in own} == own
    assert values["images"] == result["test_images"]
    assert done.stderr == ""


def test_eval_gives_exactly_the_best_validation_metric(trained):
    folder, result = trained
    done = run("eval", "run", "--split", "val", "--json", cwd=folder)
    assert json.loads(done.stdout)[result["monitor"].removeprefix("val/")] == result["best"]


def test_eval_takes_overrides_and_shows_a_table(trained):
    folder, result = trained
    done = run("eval", "run", "data.eval_batch_size=7", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"{result['test']['student/top1']:.4f}" in done.stdout
    wrong = run("eval", "run", "data.eval_batch_sizes=7", cwd=folder)
    assert wrong.returncode == 2
    assert "Did you mean data.eval_batch_size=7?" in wrong.stderr


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder with the test images of the digits as files, named `<class>_<number>.png`, and one run on digits."""
    from runner import data
    from tests.conftest import composed

    folder = tmp_path_factory.mktemp("pictures")
    done = run(
        "model=mobilenet_v3_small_x0_35", "train.epochs=6", "data.batch_size=32", "schedule.warmup_epochs=1",
        "augment.crop_padding=0", "tracking=none", "hydra.run.dir=run", "mode=cls_distill", "train.threads=1",
        "deploy.formats=[]",
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder / "images" / "deeper").mkdir(parents=True)
    test = data.load(composed().data).test
    for number, (image, label) in enumerate(zip(test.images, test.labels, strict=True)):
        place = folder / "images" / ("deeper" if number % 2 else "")
        Image.fromarray(image.squeeze()).save(place / f"{label}_{number}.png")
    return folder, json.loads((folder / "run" / "result.json").read_text())


def predicted(folder, *arguments):
    done = run("predict", "run", *arguments, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("network", ["student", "student1"])
def test_predictions_of_the_test_images_as_files_have_the_runs_own_accuracy(pictures, network):
    folder, result = pictures
    rows = predicted(folder, "images", "--network", network)
    hits = [row["classes"][0]["class"] == row["image"].rpartition("/")[2][0] for row in rows]
    assert len(rows) == result["test_images"] == 360
    assert np.mean(hits) == pytest.approx(result["test"][f"{network}/top1"], abs=1e-9)
    assert np.mean(hits) > 0.5, "the run has learnt something, so that an error in the images would be seen"


def test_predict_takes_files_folders_and_globs_each_image_once(pictures):
    folder, _ = pictures
    one = next((folder / "images").glob("3_*.png")).relative_to(folder)
    rows = predicted(folder, str(one), "images/3_*.png", "images/deeper", "--top", "10")
    names = [row["image"] for row in rows]
    assert names[0] == str(one)
    assert len(set(names)) == len(names)
    assert any("deeper" in name for name in names)
    assert all(sum(entry["probability"] for entry in row["classes"]) == pytest.approx(1, abs=1e-5) for row in rows)


def test_predict_shows_a_table(pictures):
    folder, _ = pictures
    done = run("predict", "run", "images/3_*.png", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "probability" in done.stdout
    assert "images/3_" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nothing/*.png"], 3, "nothing/*.png: no image was found"),
        (["run/config.yaml"], 3, "cannot be read as an image"),
        (["images", "--network", "student7"], 2, "It has: student, student1"),
    ],
)
def test_predict_names_what_it_cannot_use(pictures, arguments, code, said):
    folder, _ = pictures
    done = run("predict", "run", *arguments, cwd=folder)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_runs_lists_every_run_with_its_status_mode_and_accuracy(tmp_path):
    assert run(*TINY, "tracking=none", "mode=cls_distill", cwd=tmp_path).returncode == 0
    assert run(*TINY, "tracking=none", "checkpoint.init_from=.", cwd=tmp_path).returncode == 3
    slow = ["data=synthetic", "model=custom", "model.target=tests.samples:slow", "tracking=none", "train.log_every=1"]
    running = start(*slow, "hydra.run.dir=outputs/slow", cwd=tmp_path)
    wait_until(lambda: has_logged(tmp_path / "outputs" / "slow"), process=running)
    rows = listed(tmp_path)
    running.kill()
    running.communicate()
    wait_until(lambda: listed(tmp_path)[2]["status"] == "LOST")
    assert [row["status"] for row in rows] == ["FINISHED", "FAILED", "RUNNING"]
    assert [row["mode"] for row in rows] == ["cls_distill", "cls", "cls"]
    finished = json.loads((tmp_path / rows[0]["run"] / "result.json").read_text())
    assert rows[0]["top1"] == finished["final"]["top1"]
    assert ".: no weights were found" in rows[1]["reason"]
    table = run("runs", cwd=tmp_path).stdout
    assert f"{rows[0]['top1']:.4f}" in table
    assert all(row["run"] in table for row in rows)


def listed(folder):
    done = run("runs", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_verbs_that_need_neither_import_neither(tmp_path):
    import subprocess
    import sys

    assert run(*TINY, "tracking=none", cwd=tmp_path).returncode == 0
    code = (
        "import sys; from runner.__main__ import command; code = command(['runs']); "
        "sys.exit(code or len({'paddle', 'mlflow', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True).returncode == 0

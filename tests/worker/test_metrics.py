"""A metric that is only in the list is everywhere; runs from before there was a list are read, compared and resumed."""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil

import pytest
import yaml

from runner import metrics
from runner.__main__ import command
from runner.metrics import Goal, Metric, names
from runner.runs.history import curves
from tests.conftest import TINY
from tests.data import layouts

INLINE = [*TINY, "tracking=none", "launch.inline=true"]
#: What runs had before there was a list.
BEFORE = {"top1", "top5", "loss"}
#: Of those, what their final numbers had.
FINAL_BEFORE = {"top1", "top5", "params", "macs"}


def trained(directory, *overrides):
    assert command([*INLINE, f"hydra.run.dir={directory}", *overrides]) == 0
    return json.loads((directory / "result.json").read_text())


def reported(*runs):
    """The report of some runs as Markdown, and its rows by heading."""
    page = runs[0].parent / "page.html"
    assert command(["report", *map(str, runs), "--output", str(page)]) == 0
    assert "<table" in page.read_text()
    text = page.with_suffix(".md").read_text()
    # One of configurations may stand before it.
    table = itertools.takewhile(lambda line: line.startswith("|"), text[text.index("| run |") :].splitlines())
    head, _, *rows = [line.strip("| ").split(" | ") for line in table]
    return text, [dict(zip(head, row, strict=True)) for row in rows]


@pytest.fixture
def errors():
    """One more entry in the list, for the time of a test: how many images are taken for another class."""
    entry = Metric("errors", "number of errors", Goal.min, lambda sums: float(sums.images - sums.confusion.trace()))
    metrics.METRICS.append(entry)
    yield entry
    metrics.METRICS.remove(entry)


def test_an_entry_of_the_list_is_monitored_journaled_and_reported_with_nothing_else_to_do(tmp_path, errors, capsys):
    run = tmp_path / "run"
    result = trained(run, "train.monitor=val/errors", "mode=cls_distill", "train.plots=true")
    assert result["monitor"] == "val/student/errors"
    history = curves(run)
    assert {name for name in history if name.endswith("/errors")} == {
        "val/student/errors", "val/student1/errors", "test/student/errors", "test/student1/errors", "test/errors",
        "final/errors",
    }  # fmt: skip
    assert result["best"] == min(history["val/student/errors"].values())
    wrong = round((1 - result["final"]["top1"]) * result["test_images"])
    assert result["final"]["errors"] == result["test"]["student/errors"] == result["test"]["errors"] == wrong
    shown = capsys.readouterr().out
    assert "val student top-1" in shown
    assert f"number of errors {result['best']:.3f}" in shown
    assert re.search(rf"best val/student/errors +{result['best']:.4f}", shown)
    assert (run / "plots" / "learning_curves.png").stat().st_size
    text, [row] = reported(run)
    assert float(row["number of errors"]) == wrong
    assert f"val/student/errors is {result['best']:.4f}." in text
    assert f"Test number of errors is {wrong:.4f}; no choice was based on it." in text
    capsys.readouterr()
    assert command(["eval", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["student/errors"] == wrong
    assert command(["runs", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["errors"] == wrong


def test_a_metric_per_class_metric_is_monitored_journaled_and_reported(tmp_path, capsys):
    run = tmp_path / "run"
    result = trained(run, "train.monitor=val/recall/7", "mode=cls_distill", "train.plots=true")
    assert result["monitor"] == "val/student/recall/7"
    assert result["best"] == max(curves(run)["val/student/recall/7"].values())
    matrix = json.loads((run / "per_class.json").read_text())["student1"]["confusion"]
    assert result["test"]["student1/recall/7"] == pytest.approx(matrix[7][7] / sum(matrix[7]))
    shown = capsys.readouterr().out
    assert f"recall of 7 {result['best']:.3f}" in shown
    text, [row] = reported(run)
    assert float(row["recall of 7"]) == pytest.approx(result["final"]["recall/7"], abs=1e-4)
    assert f"val/student/recall/7 is {result['best']:.4f}." in text
    capsys.readouterr()
    assert command(["eval", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["student/recall/7"] == result["final"]["recall/7"]
    assert command([*INLINE, f"hydra.run.dir={tmp_path / 'other'}", "train.monitor=val/f1/77"]) == 2
    assert "there is no class '77'. Did you mean '7'?" in capsys.readouterr().err


@pytest.fixture(scope="module")
def set_with_gaps(tmp_path_factory):
    """Two classes in every split; one without validation images, one without test images."""
    root = tmp_path_factory.mktemp("gaps") / "set"
    splits = {"train": ["a", "b", "not measured", "not tested"], "val": ["a", "b", "not tested"],
              "test": ["a", "b", "not measured"]}  # fmt: skip
    names = [f"{split}/{label}/{number}.png" for split, classes in splits.items() for label in classes
             for number in range(8)]  # fmt: skip
    layouts.write_folder(root, layouts.drawn(names))
    return ["data=image_folder", f"data.root={root}", "data.image_size=32", "data.batch_size=8"]


def test_a_class_without_validation_images_is_not_monitored(set_with_gaps, tmp_path, capsys):
    words = [*INLINE, *set_with_gaps, f"hydra.run.dir={tmp_path / 'run'}"]
    assert command([*words, "train.monitor=val/recall/not measured"]) == 2
    assert "no validation image is of class 'not measured'. Hold some out" in capsys.readouterr().err


def test_a_class_without_test_images_has_a_note_and_decides_no_comparison(set_with_gaps, tmp_path, capsys):
    monitored = "train.monitor=val/recall/not tested"
    result = trained(tmp_path / "1", *set_with_gaps, monitored)
    assert "no test image is of class 'not tested'" in capsys.readouterr().out
    assert math.isnan(float(result["final"]["recall/not tested"]))
    assert math.isfinite(result["best"])
    trained(tmp_path / "2", *set_with_gaps, monitored, "train.seed=2")
    capsys.readouterr()
    text, _ = reported(tmp_path / "1", tmp_path / "2")
    assert "Test recall" not in text
    assert "test top-1 against" in text
    assert command(["eval", str(tmp_path / "1"), "train.monitor=val/recall/nobody"]) == 2
    assert "there is no class 'nobody'. Valid: a, b, not measured, not tested" in capsys.readouterr().err


@pytest.mark.slow
def test_probabilities_are_drawn_and_the_temperature_goes_where_the_files_go(tmp_path, capsys):
    run = tmp_path / "run"
    result = trained(run, "mode=cls_distill", "deploy.formats=[safetensors]")
    described = json.loads((run / "export" / "model.json").read_text())
    fitted = {name: one["temperature"] for name, one in result["calibrations"].items()}
    assert described["temperature"] == result["temperature"] == fitted["student"]
    part = json.loads((run / "per_class.json").read_text())["student"]
    assert sum(images for images, *_ in part["calibration"]) == result["test_images"]
    assert part["curves"]
    reported(run)
    page = (tmp_path / "page.html").read_text()
    assert 'id="probabilities"' in page
    assert page.count("<h3>ROC curves") == page.count("<h3>Precision over recall") == 1
    for network, folder in (("student", run), ("student1", run / "student1")):
        assert command(["export", str(run), "--network", network, "--format", "safetensors"]) == 0
        again = json.loads((folder / "export" / "model.json").read_text())["temperature"]
        assert again == fitted[network]
    capsys.readouterr()
    assert command(["eval", str(run)]) == 0
    shown = capsys.readouterr().out
    for metric in names.with_k(metrics.METRICS, 5):
        assert re.search(rf"{re.escape(metric.title)} +-?(\d|nan)", shown), metric.title


def test_a_run_from_before_there_were_curves_has_a_page_without(tmp_path):
    run = tmp_path / "run"
    trained(run)
    part = json.loads((run / "per_class.json").read_text())
    for key in ("calibration", "curves"):
        part["student"].pop(key)
    (run / "per_class.json").write_text(json.dumps(part))
    reported(run)
    assert 'id="probabilities"' not in (tmp_path / "page.html").read_text()


def test_the_best_of_several_is_the_lowest_of_a_metric_that_should_fall(tmp_path, errors):
    runs = [tmp_path / str(number) for number in range(3)]
    results = [trained(run, "train.monitor=val/errors", f"optimizer.lr=0.00{n + 1}") for n, run in enumerate(runs)]
    text, rows = reported(*runs)
    assert [float(row["monitored"]) for row in rows] == sorted(result["best"] for result in results)
    assert "the lowest of 3 finished runs" in text
    assert "Pareto front of test number of errors against" in text


def test_a_metric_of_the_users_is_monitored_and_reported_and_wants_trust_from_others(tmp_path, capsys):
    run = tmp_path / "run"
    own = "+train.metrics={kappa:{target:tests.samples:kappa,goal:max}}"
    result = trained(run, own, "train.monitor=val/kappa")
    assert result["monitor"] == "val/student/kappa"
    assert -1 <= result["final"]["kappa"] == result["test"]["student/kappa"] <= 1
    assert curves(run)["val/student/kappa"]
    _, [row] = reported(run)
    assert float(row["kappa"]) == pytest.approx(result["final"]["kappa"], abs=1e-4)
    assert command(["eval", str(run)]) == 2
    assert "tests.samples:kappa" in capsys.readouterr().err
    assert command(["eval", str(run), "--json", "trust=true"]) == 0
    assert json.loads(capsys.readouterr().out)["student/kappa"] == result["final"]["kappa"]


def as_before(run):
    """Take from a run what it has because of the list: its config, journal and result are as they were before."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["train"].pop("metrics") == {}
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    lines = []
    for line in (run / "journal.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "metrics":
            event["values"] = {
                name: value for name, value in event["values"].items()
                if not name.startswith(("val/", "test/", "final/")) or name.rpartition("/")[2] in BEFORE | FINAL_BEFORE
            }  # fmt: skip
            event["values"].pop("final/loss", None)
        lines.append(json.dumps(event))
    (run / "journal.jsonl").write_text("\n".join(lines) + "\n")
    result = json.loads((run / "result.json").read_text())
    result["final"] = {name: value for name, value in result["final"].items() if name in FINAL_BEFORE}
    result["test"] = {name: value for name, value in result["test"].items() if name.rpartition("/")[2] in BEFORE}
    (run / "result.json").write_text(json.dumps(result))


@pytest.mark.parametrize("monitor", [pytest.param("val/student/top1", marks=pytest.mark.slow), "val/student/loss"])
def test_a_run_from_before_the_list_is_read_compared_and_resumed(tmp_path, capsys, monitor):
    old, new = tmp_path / "old", tmp_path / "new"
    composed = ["data.limit=48", f"train.monitor={monitor}", "train.max_steps=4"]
    trained(old, *composed)
    shutil.copytree(old, new)
    as_before(old)
    _, rows = reported(old, new)
    assert {bool(row["macro-F1"]) for row in rows} == {True, False}
    assert len({row["top-1"] for row in rows}) == len({row["monitored"] for row in rows}) == 1
    capsys.readouterr()
    assert command(["eval", str(old), "--json"]) == 0
    assert "student/macro_f1" in json.loads(capsys.readouterr().out)
    assert command(["runs", str(tmp_path), "--json"]) == 0
    assert {json.loads(line)["status"] for line in capsys.readouterr().out.splitlines()} == {"FINISHED"}
    results = [trained(run, *composed[:-1], "train.max_steps=7", "checkpoint.resume=auto") for run in (old, new)]
    assert results[0]["progress"] == results[1]["progress"]
    assert results[0]["test"] == results[1]["test"]
    assert results[0]["progress"]["step"] == 7


def test_where_nothing_was_validated_an_old_run_is_compared_by_its_test_loss(tmp_path):
    runs = [tmp_path / str(number) for number in range(2)]
    overrides = ["data.val_fraction=0", "train.monitor=val/student/loss"]
    results = [trained(run, *overrides, f"optimizer.lr=0.00{number + 1}") for number, run in enumerate(runs)]
    for run in runs:
        as_before(run)
    text, rows = reported(*runs)
    best = min(range(2), key=lambda number: results[number]["test"]["loss"])
    assert f"test loss (nothing was validated) is {results[best]['test']['loss']:.4f}, the lowest of 2" in text
    assert rows[0]["run"].startswith(f"**{best + 1}**")

"""Images with many labels, from a list to a served model: learnt, evaluated, exported, predicted, shown."""

from __future__ import annotations

import csv
import io
import json
import os

import numpy as np
import pytest
from PIL import Image

from runner.deploy import manifest, pyfunc
from runner.deploy.predict import Deployed
from runner.errors import Damaged
from runner.runs import result as results
from tests.conftest import run_inline

#: Each label is a bright band across the picture, so that mirroring changes nothing.
CLASSES, SIZE = ["apple", "bread", "cheese", "dill"], 12
RUN = [
    "data=files", "data.train=set/list.csv", "data.labels=many", "loss=bce", f"data.image_size={SIZE}",
    "data.batch_size=16", "data.workers=0", "data.cache=memory", "model=custom",
    "model.target=tests.samples:linear_network", f"+model.kwargs.pixels={3 * SIZE * SIZE}", "train.epochs=25",
    "optimizer.lr=0.02", "train.threads=1", "tracking=none", "launch.inline=true", "deploy.bench_s=0.01",
    "deploy.formats=[onnx,paddle]",
]  # fmt: skip


def write(folder, images=160):
    """Pictures and a list of them; some have no label at all."""
    generator, rows = np.random.default_rng(0), []
    folder.mkdir()
    for number in range(images):
        pixels = generator.integers(60, 140, (SIZE, SIZE, 3)).astype(np.uint8)
        own = np.flatnonzero(generator.random(len(CLASSES)) < [0.5, 0.4, 0.3, 0.15])
        for place in own:
            pixels[3 * place : 3 * place + 3] += 60
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
        rows.append([f"{number:03}.png", ";".join(CLASSES[place] for place in own)])
    with (folder / "list.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["path", "label"], *rows])
    return {name: set(filter(None, text.split(";"))) for name, text in rows}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a set, and a run on it."""
    folder = tmp_path_factory.mktemp("many")
    truth = write(folder / "set")
    done = run_inline(*RUN, "hydra.run.dir=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "test mAP" in done.stdout
    assert "top-1" not in done.stdout
    return folder, truth


def answers(place, *words):
    folder, _ = place
    trust = [] if "--engine" in words else ["trust=true"]
    done = run_inline("predict", *words, *trust, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {
        os.path.basename(line["image"]): {one["class"]: one["probability"] for one in line["classes"]} for line in lines
    }


def test_it_is_learnt_and_its_numbers_are_those_of_an_evaluation(place):
    folder, _ = place
    result = results.read(folder / "run" / "result.json", whole=True)
    assert result.monitor == "val/student/average_precision"
    assert result.best > 0.98
    assert result.final["average_precision"] > 0.95
    assert result.final["macro_f1"] > 0.85
    assert result.final["hamming_loss"] < 0.1
    assert result.temperature is None
    assert list(result.thresholds) == CLASSES
    done = run_inline("eval", "run", "trust=true", "--json", cwd=folder)
    again = json.loads(done.stdout)
    assert again["notes"][-1] == "thresholds of labels: chosen on the validation split"
    for name in ("average_precision", "macro_f1", "micro_f1", "hamming_loss", "subset_accuracy", "roc_auc"):
        assert again[f"student/{name}"] == result.test[f"student/{name}"]


def test_the_export_decides_with_the_thresholds_of_the_run(place):
    folder, _ = place
    described = manifest.read(folder / "run" / "export")
    result = results.read(folder / "run" / "result.json")
    assert (described.labels, described.activation) == ("many", "sigmoid")
    assert dict(zip(described.classes, described.thresholds, strict=True)) == result.thresholds
    for file in described.files:
        assert (file.agreement, file.top1) == (1.0, None)
        assert file.hamming_loss == pytest.approx(result.final["hamming_loss"])


def test_every_way_to_predict_has_the_same_labels(place):
    folder, truth = place
    own = answers(place, "run", "set")
    thresholds = results.read(folder / "run" / "result.json").thresholds
    assert all(probability >= thresholds[name] for labels in own.values() for name, probability in labels.items())
    wrong = sum(len(truth[name] ^ labels.keys()) for name, labels in own.items())
    assert wrong < 0.1 * len(CLASSES) * len(truth)
    for engine in ("onnxruntime", "paddle"):
        other = answers(place, "run", "set", "--engine", engine)
        assert other == {name: pytest.approx(labels, abs=1e-4) for name, labels in own.items()}
    model = pyfunc.Served(Deployed(folder / "run" / "export"))
    paths = sorted((folder / "set").glob("*.png"))
    for path, answer in zip(paths, model.predict({"image": paths}), strict=True):
        assert answer["labels"] == pytest.approx(own[path.name], abs=1e-4)
        assert list(answer["labels"].values()) == sorted(answer["labels"].values(), reverse=True)
        assert list(answer["probabilities"]) == CLASSES


def test_a_table_and_csv_name_all_labels(place):
    folder, _ = place
    own = answers(place, "run", "set")
    done = run_inline("predict", "run", "set", "trust=true", "--format", "csv", cwd=folder)
    for row in csv.DictReader(io.StringIO(done.stdout)):
        labels = own[os.path.basename(row["image"])]
        assert row["labels"] == ";".join(labels)
        assert [float(text) for text in filter(None, row["probabilities"].split(";"))] == list(labels.values())
    nothing = next(name for name, labels in own.items() if not labels)
    assert "no label" in run_inline("predict", "run", f"set/{nothing}", "trust=true", cwd=folder).stdout
    several = next(name for name, labels in own.items() if len(labels) > 1)
    table = run_inline("predict", "run", f"set/{several}", "trust=true", cwd=folder).stdout
    assert all(name in table for name in own[several])
    assert len(answers(place, "run", f"set/{several}", "--top", "1")[several]) == 1


def test_a_report_shows_every_label_in_place_of_a_confusion_matrix(place):
    folder, _ = place
    details = results.per_class(folder / "run" / "per_class.json")
    assert len(details["student"]["threshold"]) == len(CLASSES)
    done = run_inline("report", "run", "--output", "report.html", cwd=folder)
    assert done.returncode == 0, done.stderr
    page = (folder / "report.html").read_text()
    assert '<table id="labels">' in page
    assert "Confusion matrix" not in page
    assert "test mAP" in page
    assert "mAP" in run_inline("runs", ".", cwd=folder).stdout
    shown = run_inline("data", *RUN[:4], f"data.image_size={SIZE}", "--output", "data.html", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    counted = next(line for line in shown.stdout.splitlines() if "4 classes" in line)
    assert [int(text) for text in counted.split()[2:5]] == [115, 13, 32]


def test_a_label_without_test_images_has_no_average_precision(place):
    folder, _ = place
    path = folder / "run" / "per_class.json"
    details = json.loads(path.read_text())
    details["student"]["average_precision"][0] = None
    (folder / "scarce.json").write_text(json.dumps(details))
    assert results.per_class(folder / "scarce.json")["student"]["average_precision"][0] is None
    details["student"]["threshold"].pop()
    (folder / "damaged.json").write_text(json.dumps(details))
    with pytest.raises(Damaged, match="student does not have one row for each class"):
        results.per_class(folder / "damaged.json")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.labels=one", "loss=cross_entropy"], "data.labels=many loss=bce"),
        (
            ["data=digits", "data.labels=one", "loss=cross_entropy", "mode=cls_teacher", "mode.teacher_from=run"],
            "data.labels=many, and here is data.labels=one",
        ),
    ],
)
def test_what_has_one_label_is_told_from_what_has_many(place, words, said):
    folder, _ = place
    own = [word for word in RUN if not word.startswith("data") or word.startswith("data.image_size")]
    lists = [] if "data=digits" in words else RUN[:2]
    done = run_inline(
        *own, *lists, "data.workers=0" if lists else "train.seed=0", *words, "hydra.run.dir=other", cwd=folder
    )
    assert done.returncode in (2, 3)
    assert said in done.stderr

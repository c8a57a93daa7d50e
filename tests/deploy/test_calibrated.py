"""Temperature and `unknown`: from validation images to the network, exported files, the server and the report."""

from __future__ import annotations

import base64
import csv
import io
import json

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from scipy.special import softmax

from runner.config import store
from runner.deploy import manifest, pyfunc
from runner.deploy.predict import UNKNOWN, Deployed, named
from runner.errors import Damaged
from runner.runs import result as results
from runner.runs.journal import CONFIG
from runner.worker import finished
from tests.conftest import run_inline
from tests.training.test_loop import LINEAR

from . import helpers

#: Ten epochs on digits that anybody has, of which a linear network gets most right and is unsure of others.
RUN = [
    "data=digits", "model=custom", "optimizer=momentum", "optimizer.lr=0.1", "schedule=constant", "train.epochs=6",
    "tracking=none", "launch.inline=true", "deploy.bench_s=0", "deploy.formats=[onnx,paddle]",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The directory of a run that is sure of some pictures only."""
    folder = tmp_path_factory.mktemp("calibrated")
    words = [*RUN, *LINEAR, "+model.kwargs.pixels=3072", "deploy.unknown_accuracy=0.99", "hydra.run.dir=run"]
    done = run_inline(*words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "unknown below a probability of" in done.stdout
    return folder / "run"


@pytest.fixture(scope="module")
def calibration(run):
    return results.read(run / "result.json").calibrations["student"]


def measured(run, split):
    """Logits float64 [N, K] and labels of a split, by the network itself."""
    stage, _ = finished.load_stage(run, store.read(run / CONFIG), "final")
    batches = list(stage.loaders.evaluation(split))
    stage.networks.eval()
    logits = np.concatenate([stage.networks["student"](batch.images).numpy() for batch in batches])
    return logits.astype(float), np.concatenate([batch.labels.numpy() for batch in batches])


@pytest.mark.parametrize("split", ["val", "test"])
def test_what_is_told_of_unknown_images_is_what_the_network_does(run, calibration, split):
    logits, labels = measured(run, split)
    probabilities = softmax(logits / (calibration.temperature or 1), axis=1)
    kept = probabilities.max(axis=1) >= calibration.unknown_below
    accuracy = (logits.argmax(axis=1) == labels)[kept].mean()
    told = {"val": (calibration.coverage, calibration.accuracy)}
    told["test"] = calibration.test_coverage, calibration.test_accuracy
    assert told[split] == pytest.approx((kept.mean(), accuracy), abs=1e-6)
    if split == "val":
        assert 0.3 < kept.mean() < 1
        assert accuracy >= 0.99 > (logits.argmax(axis=1) == labels).mean()


def test_a_file_says_in_itself_how_its_logits_are_read(run, calibration):
    described = manifest.read(run / "export")
    assert (described.temperature, described.unknown_below) == (calibration.temperature, calibration.unknown_below)
    session = onnxruntime.InferenceSession(run / "export" / "model.onnx")
    said = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert said == described.reading
    assert said["classes"] == described.classes


@pytest.fixture(scope="module")
def pictures(run):
    """A folder with some of the test images."""
    folder = run.parent / "pictures"
    folder.mkdir()
    split = finished.load_stage(run, store.read(run / CONFIG), "final")[0].loaders.source.test
    for number in range(24):
        pixels = split.images[number]
        Image.fromarray(pixels.squeeze()).save(folder / f"{number:02}.png")
    return folder


def answers_of(run, pictures, *arguments):
    done = run_inline("predict", str(run), str(pictures), "--json", *arguments, cwd=run.parent)
    assert done.returncode == 0, done.stderr
    return [
        [(one["class"], one["probability"]) for one in json.loads(line)["classes"]] for line in done.stdout.splitlines()
    ]


def test_the_network_its_files_and_the_server_answer_alike_and_know_the_same(run, pictures, calibration):
    expected = answers_of(run, pictures, "trust=true")
    known = {answers[0][0] != UNKNOWN for answers in expected}
    assert known == {True, False}
    assert all((answers[0][0] == UNKNOWN) == (answers[0][1] < calibration.unknown_below) for answers in expected)
    # What it might be comes next.
    assert all(answers[0][1] == answers[1][1] for answers in expected if answers[0][0] == UNKNOWN)
    model = pyfunc._load_pyfunc(str(run / "export"))
    contents = [base64.b64encode(path.read_bytes()).decode() for path in sorted(pictures.iterdir())]
    tops = [[(answer["class"], answer["probability"])] for answer in model.predict({"image": contents})]
    others = [answers_of(run, pictures, "--engine", engine) for engine in ("onnxruntime", "paddle")]
    for answers in (*others, tops):
        for one, other in zip(expected, answers, strict=True):
            assert [name for name, _ in one[: len(other)]] == [name for name, _ in other]
            assert [value for _, value in one[: len(other)]] == pytest.approx([value for _, value in other], abs=1e-5)


def test_probabilities_are_divided_by_the_temperature(run, calibration):
    logits, _ = measured(run, "test")
    split = finished.load_stage(run, store.read(run / CONFIG), "final")[0].loaders.source.test
    given = Deployed(run / "export")([Image.fromarray(split.images[number].squeeze()) for number in range(9)])
    assert calibration.temperature is not None
    np.testing.assert_allclose(given, softmax(logits[:9] / calibration.temperature, axis=1), atol=1e-5)


def test_tables_and_csv_say_unknown(run, pictures):
    done = run_inline("predict", str(run), str(pictures), "--format", "csv", "--top", "2", "trust=true", cwd=run.parent)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {row["class"] == UNKNOWN for row in rows} == {True, False}
    assert UNKNOWN in run_inline("predict", str(run), str(pictures), "trust=true", cwd=run.parent).stdout


def test_the_report_tells_the_part_that_is_known(run, calibration):
    assert run_inline("report", str(run), "--output", "page.html", cwd=run.parent).returncode == 0
    page = " ".join((run.parent / "page.html").read_text().split())
    assert (
        f"Unknown below a probability of {calibration.unknown_below:.4f}: {100 * calibration.test_coverage:.1f} %"
        in page
    )
    assert f"temperature {calibration.temperature:.3f}" in page


def test_an_export_keeps_what_the_run_chose_unless_another_accuracy_is_asked_for(run, calibration):
    for words, same in (
        ([], True),
        (["deploy.unknown_accuracy=0.999"], False),
        (["deploy.unknown_accuracy=null"], None),
    ):
        done = run_inline(
            "export", str(run), "--output", "again", "--format", "onnx", "trust=true", *words, cwd=run.parent
        )
        assert done.returncode == 0, done.stderr
        described = manifest.read(run.parent / "again" / "export")
        assert described.temperature == pytest.approx(calibration.temperature)
        if same is None:
            assert described.unknown_below is None
        else:
            assert (described.unknown_below == calibration.unknown_below) is same


def test_only_pictures_below_the_threshold_are_unknown():
    probabilities = np.array([0.2, 0.5, 0.3], dtype=np.float32)
    assert named(probabilities, ["a", "b", "c"], None, None)[0] == ("b", 0.5)
    assert named(probabilities, ["a", "b", "c"], None, 0.5)[0] == ("b", 0.5)
    assert [name for name, _ in named(probabilities, ["a", "b", "c"], None, 0.51)] == [UNKNOWN, "b", "c", "a"]


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_a_threshold_that_is_no_probability_is_damage(tmp_path, value):
    folder = helpers.export(tmp_path / "export")
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(content | {"unknown_below": value}))
    with pytest.raises(Damaged, match="unknown_below"):
        manifest.read(folder)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.val_fraction=0"], "deploy.unknown_accuracy needs a validation split"),
        (["data.labels=many", "loss=bce"], "deploy.unknown_accuracy=0.9 is of images with one class each"),
    ],
)
def test_what_cannot_be_chosen_is_refused(tmp_path, words, message):
    synthetic = ["data=synthetic", "data.train_images=20", "data.test_images=8", "data.batch_size=8", *LINEAR]
    words = [*synthetic, "tracking=none", "deploy.unknown_accuracy=0.9", "hydra.run.dir=run", *words]
    done = run_inline(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr

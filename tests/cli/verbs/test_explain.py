"""`explain` shows where the evidence was: of the worst mistakes, of pictures, and in the report."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from runner.report import subject
from runner.worker import explained
from tests.conftest import TINY, run_inline

SET = ["data=synthetic", "data.train_images=32", "data.test_images=16", "data.batch_size=16", "tracking=none", *TINY]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explained")
    done = run_inline(*SET, "train.explain=true", "hydra.run.dir=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def mistakes(run):
    return json.loads((run / "mistakes.json").read_text())


def test_the_end_of_a_run_keeps_maps_that_its_report_shows(run, here):
    kept = json.loads((run / "explained.json").read_text())["images"]
    worst = mistakes(run)["worst"]
    assert [one["index"] for one in kept] == [one["index"] for one in worst]
    for one, mistake in zip(kept, worst, strict=True):
        assert [(each["name"], each["role"]) for each in one["maps"]] == [
            (mistake["predicted"], "predicted"),
            (mistake["label"], "true"),
        ]
        assert one["maps"][0]["probability"] == pytest.approx(mistake["confidence"], abs=1e-3)
    before = kept
    assert here("explain", str(run), cwd=run.parent).returncode == 0
    again = json.loads((run / "explained.json").read_text())["images"]
    assert again == before
    assert here("report", str(run), cwd=run.parent).returncode == 0
    for page in ("report.html", "explain.html"):
        text = (run / page).read_text()
        assert text.count('class="overlaid"') == 2 * len(worst)
        assert not re.search(r'(?:src|href)="(?!data:)', text)
    assert subject.read(run, "1", "run").explained.by_image.keys() == {one["index"] for one in worst}
    place = json.loads((run / "explained.json").read_text())["place"]
    assert place.startswith("output of ")
    assert f"(Grad-CAM at the {place})" in (run / "report.html").read_text()


@pytest.mark.parametrize("words", [["--count", "1"], ["--layer", "conv2"]])
def test_a_part_of_the_mistakes_or_another_layer_takes_no_map_out_of_later_reports(run, here, words):
    kept = (run / "explained.json").read_bytes()
    assert here("explain", str(run), *words, cwd=run.parent).returncode == 0
    assert (run / "explained.json").read_bytes() == kept


def test_pictures_are_explained_for_what_they_are_taken_for_and_for_a_class_that_is_asked_for(run, here):
    folder = run.parent
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)).save(folder / "one.png")
    (folder / "two.png").write_text("no picture")
    done = here("explain", "run", "one.png", "two.png", "--class", "pattern 3", "--output", "out.html", cwd=folder)
    assert done.returncode == 3
    assert "1 of 2 pictures could not be read" in done.stderr
    text = (folder / "out.html").read_text()
    assert text.count('class="overlaid"') in (1, 2)
    assert "one.png" in text
    assert "evidence for pattern 3" in text
    answer = here("predict", "run", "one.png", "--json", cwd=folder)
    second = json.loads(answer.stdout)["classes"][1]
    [(name, percent)] = re.findall(r", then (pattern \d+) ([\d.]+) %", text)
    assert (name, float(percent)) == (second["class"], pytest.approx(100 * second["probability"], abs=0.06))
    assert not (run / "explain_pictures.html").exists()


def test_what_cannot_be_explained_is_one_message(run, here):
    folder = run.parent
    (folder / "mine.html").write_text("mine")
    for words, part in (
        (["--class", "pattern 3"], "--class is for given images"),
        (["one.png", "--class", "patern 3"], "Did you mean 'pattern 3'?"),
        (["--layer", "conv99"], "no layer 'conv99'"),
        (["--network", "peer"], "no network 'peer'"),
        (["--output", "mine.html"], "was not written by this command"),
        (["--output", "mine.png"], "a page ends with .html"),
        (["nowhere.png"], "nowhere.png"),
    ):
        Image.new("RGB", (40, 40)).save(folder / "one.png")
        done = here("explain", "run", *words, cwd=folder)
        assert done.returncode in (2, 3), words
        assert part in done.stderr, (words, done.stderr)
    assert (folder / "mine.html").read_text() == "mine"


def test_many_labels_are_explained_one_by_one(here, tmp_path):
    (tmp_path / "set").mkdir()
    rows = ["path,label"]
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "set" / f"{number}.png")
        rows.append(f"{number}.png,{['a', 'a;b', 'b;c', 'c'][number % 4]}")
    (tmp_path / "set" / "list.csv").write_text("\n".join(rows))
    words = ["data=files", "data.train=set/list.csv", "data.labels=many", "loss=bce", "data.workers=0"]
    small = ["data.image_size=32", "data.batch_size=8", "tracking=none", "hydra.run.dir=many", "train.explain=true"]
    done = here(*words, *small, *TINY, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "many" / "explained.json").read_text())["images"]
    worst = {one["index"]: one for one in mistakes(tmp_path / "many")["worst"]}
    for one in kept:
        mistake, maps = worst[one["index"]], {each["name"]: each["role"] for each in one["maps"]}
        label, predicted = (set(mistake[key].split(", ")) - {"no label"} for key in ("label", "predicted"))
        if not label | predicted:
            assert set(maps.values()) == {"most probable"}
            continue
        assert maps.keys() == label | predicted
        for name, role in maps.items():
            both = name in label and name in predicted
            assert role == ("predicted and true" if both else "true" if name in label else "predicted")


def test_an_overlay_is_opaque_where_the_evidence_is():
    cam = np.zeros((4, 4), dtype=np.float32)
    cam[0, 3] = 2.0
    image = Image.open(io.BytesIO(base64.b64decode(explained.overlay(cam, (64, 32))))).convert("RGBA")
    assert image.size == (64, 32)
    alpha = np.asarray(image)[..., 3]
    assert alpha[0, 63] == round(255 * explained.OPACITY)
    assert alpha[31, 0] == 0
    nothing = Image.open(io.BytesIO(base64.b64decode(explained.overlay(0 * cam, (64, 32))))).convert("RGBA")
    assert not np.asarray(nothing)[..., 3].any()


@pytest.mark.slow
def test_of_a_compressed_network_every_layer_is_compared(run, here):
    folder = run.parent
    small = [word for word in SET if word != "+debug=fast_dev_run"]
    words = ["compression=fpgm_qat", "checkpoint.init_from=run", "train.epochs=1", "schedule=constant"]
    assert here(*small, *words, "hydra.run.dir=small", cwd=folder).returncode == 0
    done = here("explain", "small", "--limit", "20", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"Quantization changes \d+ predictions? of \d+ images; \d+ more layers are in the page", done.stdout
    )
    assert re.search(
        r"Pruning removed \d+\.\d% of the MACs, \d+\.\d% of the parameters\n"
        r"Pruning and training since .+ changed \d+ predictions? of \d+ images",
        done.stdout,
    )
    page = (folder / "small" / "explain.html").read_text()
    compression = json.loads((folder / "small" / "compression.json").read_text())["student"]
    for name in (*compression["ranges"], *compression["pruned"]["channels"]):
        assert f"<td>{name}</td>" in page
    assert "Beside run, which it was pruned from" in page
    similar = re.findall(r"%</td><td>-?[01]\.\d{3}</td></tr>", page)
    assert len(similar) == len(compression["pruned"]["channels"])
    shutil.rmtree(run)
    alone = here("explain", "small", "--limit", "20", cwd=folder)
    assert alone.returncode == 0, alone.stderr
    assert "not compared with the network before pruning" in alone.stdout

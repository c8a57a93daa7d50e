"""`predict` on folders, lists and broken files, with the trained network and with exported files."""

from __future__ import annotations

import csv
import json
import os
import re
import resource
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from runner.cli.verbs import predict
from runner.data import hints
from runner.deploy import manifest
from runner.deploy.predict import Deployed
from tests.conftest import INLINE
from tests.deploy import helpers


@pytest.fixture
def place(tmp_path):
    """A folder with the folder of an export, and a folder with nine pictures and three other files among them."""
    helpers.export(tmp_path / "net" / "export")
    (tmp_path / "set" / "deeper").mkdir(parents=True)
    for number in range(9):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "set" / ("deeper" if number % 2 else "") / f"{number}.png")
    (tmp_path / "set" / "2b.png").write_text("no picture")
    (tmp_path / "set" / "deeper" / "0.JPG").write_bytes(b"")
    (tmp_path / "set" / "notes.txt").write_text("no picture either")
    (tmp_path / "set" / ".hidden.png").write_text("left by something")
    return tmp_path


BROKEN = {"set/2b.png", "set/deeper/0.JPG"}
NAMES = ["set/0.png", "set/2.png", "set/2b.png", "set/4.png", "set/6.png", "set/8.png"] + [
    f"set/deeper/{name}" for name in ("0.JPG", "1.png", "3.png", "5.png", "7.png")
]


def rows_of(text):
    return [json.loads(line) for line in text.splitlines()]


def test_what_cannot_be_read_is_named_at_the_end_and_the_others_are_answered(place, here):
    done = here("predict", "net", "set", "--format", "jsonl", "--top", "1", cwd=place)
    rows = rows_of(done.stdout)
    assert done.returncode == 3
    assert [row["image"] for row in rows] == NAMES
    assert {row["image"] for row in rows if "error" in row} == BROKEN
    assert "2 of 11 pictures could not be read" in done.stderr
    assert all(f"{name} cannot be read as an image" in done.stderr for name in BROKEN)
    right = Deployed(place / "net" / "export")([place / name for name in NAMES if name not in BROKEN])
    answered = [row["classes"][0] for row in rows if "classes" in row]
    assert [row["class"] for row in answered] == [helpers.CLASSES[best] for best in right.argmax(axis=1)]
    assert [row["probability"] for row in answered] == pytest.approx(right.max(axis=1), abs=1e-6)


def test_a_name_that_nothing_has_is_named_and_the_others_are_answered(place, here):
    names = ["set/0.png", "set/nothing.png", "set/2.png"]
    done = here("predict", "net", *names, "--format", "jsonl", cwd=place)
    rows = rows_of(done.stdout)
    assert done.returncode == 3
    assert [(row["image"], "error" in row) for row in rows] == [(name, name == names[1]) for name in names]
    assert "1 of 3 pictures could not be read" in done.stderr
    assert "set/nothing.png cannot be read: No such file or directory." in done.stderr
    alone = here("predict", "net", names[1], cwd=place)
    assert (alone.returncode, alone.stdout) == (3, "")
    assert "set/nothing.png: no image was found" in alone.stderr


def test_all_formats_say_the_same(place, here):
    as_json = rows_of(here("predict", "net", "set", "--json", cwd=place).stdout)
    as_csv = list(csv.DictReader(here("predict", "net", "set", "--format", "csv", cwd=place).stdout.splitlines()))
    table = here("predict", "net", "set", cwd=place).stdout
    assert [row["image"] for row in as_csv] == NAMES
    for row, line in zip(as_json, as_csv, strict=True):
        assert row["image"] in table
        assert line["error"] == row.get("error", "")
        for number, best in enumerate(row.get("classes", []), 1):
            end = "" if number == 1 else f"_{number}"
            assert (line[f"class{end}"], float(line[f"probability{end}"])) == (best["class"], best["probability"])
            assert f"{best['probability']:.3f}" in table
    assert table.count("cannot be read") == 2


@pytest.mark.parametrize("words", [[], ["--top", "3"]])
def test_its_table_is_not_taken_for_labels_of_the_same_images(place, here, words):
    """`data=image_folder` looks for a table of labels where there are no class folders."""
    assert "labels: data=files" in _hint(place, "image,class,probability\nset/0.png,cat,0.9\n")
    done = here("predict", "net", "set", *words, "--output", "found.csv", cwd=place)
    table = (place / "found.csv").read_text()
    (place / "found.csv").unlink()
    assert table, done.stderr
    assert _hint(place, table) == ""
    assert _hint(place, "image,labels,probabilities,error\nset/0.png,cat;dog,0.9;0.8,\n") == ""


def _hint(place, table):
    (place / "found.csv").write_text(table)
    try:
        return hints.list_of(str(place), [str(place)])
    finally:
        (place / "found.csv").unlink()


NASTY = [
    "=1+1.png", "+a.png", "-b.png", "@c.png", "\ttab.png", "\rreturn.png", "\nline.png", "＝wide.png", "a,b.png",
    'quo"te.png', '"=1".png', "in\rside.png", "in\nside.png", "semi;colon.png", " space .png", "'apostrophe.png",
    "é\u2028ü.png",
]  # fmt: skip


def test_any_name_of_a_picture_is_read_back_and_none_is_a_formula_in_a_spreadsheet(place, here):
    folder = place / "nasty"
    folder.mkdir()
    for number, name in enumerate(NASTY):
        (folder / name).write_bytes((place / "set" / "0.png").read_bytes() if number % 2 else b"broken")
    here("predict", "../net", "*.png", "--output", "a.csv", cwd=folder)
    here("predict", "../net", "*.png", "--output", "a.jsonl", cwd=folder)
    with (folder / "a.csv").open(newline="") as stream:
        header, *rows = csv.reader(stream)
    assert {len(row) for row in rows} == {len(header)}
    assert {os.path.normpath(row[0]) for row in rows} == set(NASTY)
    cells = [cell for row in rows for cell in row]
    assert not [cell for cell in cells if cell.startswith(tuple("=+-@\t\r\n＝＋－＠"))]
    assert all(row[-1].startswith(row[0]) == (row[1] == "") for row in rows)
    assert {json.loads(line)["image"] for line in (folder / "a.jsonl").read_text().split("\n")[:-1]} == set(NASTY)


def test_no_name_of_a_class_is_a_formula_and_a_number_stays_one(place, here):
    described = manifest.read(place / "net" / "export")
    classes = ["=HYPERLINK(A1)", "-1", "+0.5", "-other"]
    manifest.write(place / "net" / "export", replace(described, classes=classes))
    done = here("predict", "net", "set/0.png", "--format", "csv", "--top", "4", cwd=place)
    [row] = csv.DictReader(done.stdout.splitlines())
    shown = {text for name, text in row.items() if name.startswith("class")}
    assert shown == {"'=HYPERLINK(A1)", "-1", "+0.5", "'-other"}


def test_labels_with_a_semicolon_are_read_back(place, here):
    classes = ["a;b", "c", "=d", "é"]
    many = {"labels": "many", "activation": "sigmoid"}
    helpers.changed(place / "net" / "export", classes=classes, thresholds=[0.0] * 3 + [1.0], **many)
    done = here("predict", "net", "set/0.png", "set/2b.png", "--format", "csv", cwd=place)
    answered, broken = csv.DictReader(done.stdout.splitlines())
    assert set(json.loads(answered["labels"])) == set(classes[:3])
    assert len(json.loads(answered["probabilities"])) == 3
    assert broken["labels"] == broken["probabilities"] == ""
    helpers.changed(place / "net" / "export", thresholds=[1.0] * 4)
    [row] = csv.DictReader(here("predict", "net", "set/0.png", "--format", "csv", cwd=place).stdout.splitlines())
    assert row["labels"] == row["probabilities"] == "[]"


def test_probabilities_have_six_digits_and_add_up_to_one(place, here):
    done = here("predict", "net", "set", "--format", "csv", "--top", "1000", cwd=place)
    answered = [row for row in csv.DictReader(done.stdout.splitlines()) if not row["error"]]
    assert len(answered) == 9
    for row in answered:
        texts = [text for name, text in row.items() if name.startswith("probability")]
        assert len(texts) == len(helpers.CLASSES)
        assert all(re.fullmatch(r"[01]\.\d{6}", text) for text in texts)
        assert sum(map(float, texts)) == pytest.approx(1, abs=1e-6 * len(texts))


@pytest.mark.parametrize(("name", "more"), [("a.csv", []), ("a.jsonl", []), ("a.txt", ["--format", "csv"])])
def test_answers_go_to_a_file_that_is_new(place, here, name, more):
    done = here("predict", "net", "set", "--output", name, *more, cwd=place)
    assert (done.returncode, done.stdout) == (3, "")
    printed = here("predict", "net", "set", "--format", "jsonl" if name == "a.jsonl" else "csv", cwd=place).stdout
    assert (place / name).read_text() == printed
    again = here("predict", "net", "set", "--output", name, *more, cwd=place)
    assert again.returncode == 3
    assert f"{name} already exists" in again.stderr
    assert (place / name).read_text() == printed


def test_a_file_whose_disk_is_full_has_whole_rows_and_each_once(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    rows = [f"row {number}\n" for number in range(5000)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError) as caught, predict._output(str(tmp_path / "a.csv")) as stream:  # noqa: PT011
            stream.writelines(rows)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(tmp_path / "a.csv")
    written = (tmp_path / "a.csv").read_text().splitlines(keepends=True)
    assert len(written) > 100
    assert written == rows[: len(written)]


def test_a_file_that_cannot_be_written_is_one_message(place, here):
    done = here("predict", "net", "set", "--output", "nowhere/a.csv", cwd=place)
    assert done.returncode == 3
    assert "nowhere/a.csv cannot be written: No such file or directory" in done.stderr


def test_links_are_followed_pipes_are_not_read_and_no_folder_is_walked_for_ever(place, here):
    (place / "set" / "deeper" / "back").symlink_to(place / "set")
    (place / "set" / "gone.png").symlink_to(place / "nothing.png")
    os.mkfifo(place / "set" / "pipe.png")
    (place / "linked").symlink_to(place / "set")
    done = here("predict", "net", "linked", "--json", cwd=place)
    names = [row["image"].replace("linked", "set") for row in rows_of(done.stdout)]
    assert sorted(names) == sorted([*NAMES, "set/gone.png"])


def test_a_file_for_answers_needs_a_format(place, here):
    done = here("predict", "net", "set", "--output", "answers", cwd=place)
    assert done.returncode == 2
    assert "--format csv" in done.stderr
    assert not (place / "answers").exists()


@pytest.mark.parametrize("run", ["net", "net/export"])
@pytest.mark.parametrize("engine", [[], ["--engine", "onnxruntime"], ["--engine", "paddle"]])
def test_the_folder_of_an_export_is_a_run_with_any_of_its_engines(place, here, run, engine):
    done = here("predict", run, "set/0.png", "--json", *engine, cwd=place)
    path = helpers.PADDLE if "paddle" in engine else helpers.ONNX
    right = Deployed(place / "net" / "export", path)([place / "set" / "0.png"])[0]
    assert done.returncode == 0, done.stderr
    assert rows_of(done.stdout)[0]["classes"][0]["probability"] == pytest.approx(right.max(), abs=1e-6)


def test_a_list_on_standard_input_is_answered_without_paddle(place):
    script = "import sys; from runner.__main__ import command; print(command(sys.argv[1:]), 'paddle' in sys.modules)"
    names = "".join(f"{name}\n" for name in ("set/4.png", "set/none.png", "", "set/deeper/1.png"))
    done = subprocess.run(
        [sys.executable, "-c", script, "predict", "net", "-", "--engine", "onnxruntime", "--json"],
        cwd=place, input=names, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    *lines, last = done.stdout.splitlines()
    assert [json.loads(line)["image"] for line in lines] == ["set/4.png", "set/none.png", "set/deeper/1.png"]
    assert last == "3 False", done.stderr
    assert "1 of 3 pictures could not be read" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ["net", "set", "--engine", "onnxruntime", "--network", "student1"],
            2,
            "net/export has no network 'student1'. It has: student",
        ),
        (["net", "set", "trust=true"], 2, "trust=true: an exported file has no config"),
        (["net", "-", "set"], 2, "'-' reads the names from standard input"),
        (["net", "set", "nothing/*.png"], 3, "nothing/*.png: no image was found"),
        (["net", ""], 3, "'': no image was found"),
        (["nothing", "set"], 3, "There is no run nothing"),
        (["nothing", "set", "--engine", "onnxruntime"], 3, "There is no run nothing"),
    ],
)
def test_what_cannot_be_done_is_one_message(place, here, words, code, said):
    done = here("predict", *words, cwd=place)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr


def test_an_engine_without_a_file_is_named(place, here):
    described = manifest.read(place / "net" / "export")
    described.files = described.files[:1]
    manifest.write(place / "net" / "export", described)
    done = here("predict", "net", "set", "--engine", "paddle", cwd=place)
    assert done.returncode == 3
    assert "no file for paddle; it has some for: onnxruntime" in done.stderr


def test_a_picture_is_taken_once_and_a_file_that_is_named_whatever_its_suffix(place, here):
    (place / "set" / "0.png").rename(place / "set" / "zero=0")
    done = here("predict", "net", "set/zero=0", "set/**", "set/deeper", "set/4.png", "--json", cwd=place)
    names = [row["image"] for row in rows_of(done.stdout)]
    assert names[0] == "set/zero=0"
    assert sorted(names) == sorted({*NAMES, "set/zero=0", "set/notes.txt"} - {"set/0.png"})


@pytest.fixture(scope="module")
def trained(tmp_path_factory, request):
    """A folder with a tiny run and its export."""
    from tests.conftest import run_inline

    folder = tmp_path_factory.mktemp("trained")
    done = run_inline(*INLINE, "model=mobilenet_v3_small_x0_35", "hydra.run.dir=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_runs_trained_network_and_its_exported_file_say_the_same(trained, place, here):
    of_run, of_file = (
        rows_of(here("predict", str(trained / "run"), "set", "--json", "--top", "10", *more, cwd=place).stdout)
        for more in ([], ["--engine", "onnxruntime"])
    )
    assert [row["image"] for row in of_run] == [row["image"] for row in of_file] == NAMES
    for one, other in zip(of_run, of_file, strict=True):
        by_class = ({best["class"]: best["probability"] for best in row.get("classes", [])} for row in (one, other))
        left, right = by_class
        assert left == pytest.approx(right, abs=1e-5)
        assert len(left) == (0 if one["image"] in BROKEN else 10)


def test_keys_of_the_run_stand_among_the_pictures(trained, place, here):
    run = str(trained / "run")
    assert here("predict", run, "set/0.png", "train.threads=1", "trust=true", cwd=place).returncode == 0
    done = here("predict", run, "set/0.png", "train.treads=1", cwd=place)
    assert done.returncode == 2
    assert "treads" in done.stderr

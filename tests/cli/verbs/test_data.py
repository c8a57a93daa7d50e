"""`runner data` checks and shows a set before anything is trained on it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from PIL import Image

from runner.data import facts
from tests import cost
from tests.conftest import TINY
from tests.data.pictures import BROKEN, photo, write_set

SET = ["data=image_folder", "data.root=set", "data.image_size=32", "data.workers=0"]


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def page_of(done, folder):
    """The page that a command says it has written."""
    return folder / re.search(r"^Page +(.+)$", done.stdout, re.MULTILINE)[1]


def test_each_set_has_a_page_of_its_own(here, tmp_path):
    pages = []
    for root in ("set", "other/set", "my set"):
        write_set(tmp_path / root, each=1)
        done = here("data", *SET, f'data.root="{root}"', cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        pages.append(page_of(done, tmp_path))
    assert len(set(pages)) == 3
    assert [re.sub("-[0-9a-f]{6}[.]html$", "", page.name) for page in pages] == ["data-set", "data-set", "data-my-set"]
    assert all(page.is_file() for page in pages)


def test_classes_are_counted_and_the_page_is_written(here, tmp_path):
    root = write_set(tmp_path / "set")
    for number in range(10, 14):
        photo(number + 100).save(root / "train" / "cat" / f"{number}.png")
    done = here("data", *SET, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    bars = {row[0]: row[-1] for row in rows if row and row[0] in ("cat", "dog")}
    assert ["cat", "8", "4", "4"] in [row[:4] for row in rows]
    assert ["dog", "4", "4", "4"] in [row[:4] for row in rows]
    assert len(bars["cat"]) == 2 * len(bars["dog"])
    assert ["2", "classes", "12", "8", "8"] in rows
    assert "all 47×33; RGB" in done.stdout
    assert page_of(done, tmp_path).is_file()
    assert not page_of(done, tmp_path).with_suffix(".txt").exists()


def test_what_the_network_is_not_given_is_named_and_the_command_that_trains(here, tmp_path):
    root = write_set(tmp_path / "set")
    (root / "train" / "cat" / ".DS_Store").write_text("x")
    for number in range(7):
        (root / "train" / "dog" / f"<i>notes{number}.txt").write_text("x")
    frames = [photo(200 + number) for number in range(3)]
    frames[0].save(root / "train" / "cat" / "moves.gif", save_all=True, append_images=frames[1:])
    frames[1].save(root / "train" / "cat" / "stands.gif")
    frames[0].save(root / "train" / "cat" / "pages.tiff", save_all=True, append_images=frames[1:])
    for number in (300, 301):
        photo(number, 80, 20).save(root / "train" / "dog" / f"wide{number}.png")
    done = here("data", *SET, "optimizer.lr=0.01", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = page_of(done, tmp_path).read_text()
    notes = (
        "2 of 29 images lose more than 30% of their area by the centre crop: data.resize=pad keeps them whole",
        "2 images have several frames or pages, of which the first is used",
    )
    for note in notes:
        assert note in done.stdout
        assert note in page
    assert "1 hidden or system name: train/cat/.DS_Store" in page
    notes = sorted(line.strip() for line in page.splitlines() if "files that are not images: " in line)
    assert len(notes) == 1
    assert notes[0].count("&lt;i&gt;notes") == 5
    assert notes[0].endswith(" and 2 more</li>")
    sheet = page[page.index("What training sees") : page.index("<h2>Classes")]
    assert "of the very run that this command starts" in sheet
    assert f"<code>python -m runner {' '.join(SET)} optimizer.lr=0.01</code>" in sheet
    # Remembered, and not said where every image is whole.
    again = here("data", *SET, "data.resize=pad", cwd=tmp_path)
    assert "by the centre crop" not in again.stdout
    assert "2 images have several frames" in again.stdout


def test_the_long_tail_of_many_classes_is_folded(here, tmp_path):
    write_set(tmp_path / "set", each=1, classes=tuple(f"class{number:02}" for number in range(40)))
    photo(500).save(tmp_path / "set" / "train" / "class33" / "more.png")
    done = here("data", *SET, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "class" in line or "…" in line]
    assert lines[1].split()[:2] == ["class33", "2"]
    assert re.search(r"… 20 more +20 +20 +20", done.stdout)
    assert len([line for line in lines if line.strip().startswith("class") and "█" in line]) == 20


def test_broken_pictures_end_it_with_3_and_are_all_in_a_file(here, tmp_path):
    root = write_set(tmp_path / "set")
    for number in range(25):
        (root / "train" / "dog" / f"bad{number:02}.jpg").write_bytes(BROKEN["text"][1])
    done = here("data", *SET, cwd=tmp_path)
    assert done.returncode == 3
    assert "25 images of set cannot be read:" in done.stderr
    assert done.stderr.count("unknown format") == 20
    assert "and 5 more" in done.stderr
    listing = page_of(done, tmp_path).with_suffix(".txt")
    assert f"All of them: {listing.relative_to(tmp_path)}" in done.stderr
    assert listing.read_text().count("bad") == 25
    assert "left out: 25 that cannot be read" in done.stdout
    assert page_of(done, tmp_path).is_file()


def test_where_they_are_left_out_that_is_said_and_no_failure(here, tmp_path):
    root = write_set(tmp_path / "set")
    (root / "train" / "dog" / "bad.jpg").write_bytes(b"")
    done = here("data", *SET, "data.on_error=skip", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "left out: 1 that cannot be read" in done.stdout
    (root / "train" / "dog" / "bad.jpg").unlink()
    again = here("data", *SET, cwd=tmp_path)
    assert again.returncode == 0
    assert page_of(again, tmp_path) == page_of(done, tmp_path)
    assert len(page_of(done, tmp_path).with_suffix(".txt").read_text().splitlines()) == 1, "the list is of now"


def test_duplicates_are_named(here, tmp_path):
    root = write_set(tmp_path / "set")
    (root / "test" / "cat" / "again.png").write_bytes((root / "train" / "cat" / "1.png").read_bytes())
    (root / "train" / "dog" / "cat.png").write_bytes((root / "train" / "cat" / "2.png").read_bytes())
    Image.open(root / "val" / "dog" / "0.png").resize((300, 200)).save(root / "val" / "dog" / "large.png")
    Image.open(root / "val" / "dog" / "large.png").save(root / "test" / "dog" / "large.jpg")
    done = here("data", *SET, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"1 train image is in two classes, such as \S*dog/cat.png and \S*", done.stdout)
    assert re.search(r"1 test image is in train too, such as \S*again.png and \S*train/cat/1.png", done.stdout)
    assert re.search(r"1 test image looks like one in val, such as \S*large.jpg and \S*large.png", done.stdout)


def test_it_composes_as_a_run_does(here, tmp_path):
    write_set(tmp_path / "set")
    done = here("data", "experiment=digits/fast", *SET, "name=mine", "data.limit=4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert page_of(done, tmp_path).parent == tmp_path / "outputs" / "mine"
    assert re.search(r"2 classes +4 +4 +4", done.stdout)
    refused = here("data", "data.rot=x", cwd=tmp_path)
    assert refused.returncode == 2
    assert "no key 'rot' in 'data'" in refused.stderr


@pytest.mark.parametrize(
    "words",
    [["data.root=nowhere"], *(pytest.param(words, marks=pytest.mark.slow) for words in (["data.val_fraction=2"], []))],
)
def test_a_wrong_root_is_answered_at_once_with_one_message(command, tmp_path, words):
    done = command("data", "data=image_folder", *words, cwd=tmp_path)
    assert cost.within(6, lambda: command("data", "data=image_folder", *words, cwd=tmp_path))
    assert done.returncode in (2, 3)
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
    assert not (tmp_path / "outputs").exists()


def test_paddle_is_loaded_for_the_page_alone(tmp_path):
    write_set(tmp_path / "set")
    script = (
        "import sys; from runner.report import data_page; from runner.__main__ import command\n"
        "data_page.write = lambda *_: print('loaded:', {'paddle', 'mlflow'} & {*sys.modules})\n"
        "import runner.device; runner.device.load_paddle = lambda _: None\n"
        f"command(['data', *{SET}])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert "loaded: set()" in done.stdout, done.stderr


@pytest.mark.parametrize("name", ["mine.html", "mine.txt"])
def test_files_of_somebody_else_are_left_alone(here, tmp_path, name):
    write_set(tmp_path / "set")
    (tmp_path / name).write_text("a diary")
    done = here("data", *SET, "--output", "mine.html", cwd=tmp_path)
    assert done.returncode == 3
    assert f"{name} exists, and was not written by this command" in done.stderr
    assert (tmp_path / name).read_text() == "a diary"


def test_a_page_is_html(here, tmp_path):
    done = here("data", *SET, "--output", "page.pdf", cwd=tmp_path)
    assert done.returncode == 2
    assert "--output page.html" in done.stderr


def test_what_it_looked_at_a_run_need_not_look_at_again(here, tmp_path, monkeypatch):
    write_set(tmp_path / "set")
    assert here("data", *SET, cwd=tmp_path).returncode == 0
    decoded = []
    monkeypatch.setattr(facts, "decoded", lambda source, _: decoded.append(source))
    done = here(*TINY, *SET, "data.batch_size=8", "tracking=none", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert decoded == []


def test_sets_in_memory_are_shown_as_well(here, tmp_path):
    done = here("data", "data=synthetic", "data.train_images=64", "data.test_images=16", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "all 32×32; RGB" in done.stdout
    assert page_of(done, tmp_path).read_text().count("data:image/png") > 60

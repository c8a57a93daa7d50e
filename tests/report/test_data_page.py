"""The page about a set, in a real browser: it needs no network, and what is in names is text."""

from __future__ import annotations

import base64
import io
import shutil

import numpy as np
import pytest
from PIL import Image

from runner import data
from runner.config import store
from runner.data import about, check
from runner.report import data_page
from tests.browser import Browser
from tests.conftest import composed
from tests.data.pictures import BROKEN, photo, write_set

ODD = "<script>alert(1)</script> & [b]"
SET = ["data=image_folder", "data.image_size=24", "data.workers=0", "augment.cutout=6"]


def written(folder):
    """The page of a set with everything in it, and its subject."""
    root = write_set(folder / "set", each=6, classes=("cat", "dog"))
    for split in ("train", "test"):
        (root / split / "dog").rename(root / split / ODD.replace("/", "_"))
    (root / "val" / "dog").rename(root / "val" / ODD.replace("/", "_"))
    (root / "test" / "cat" / "again.png").write_bytes((root / "train" / "cat" / "1.png").read_bytes())
    for kind, (suffix, content, _) in BROKEN.items():
        (root / "train" / "cat" / f"<i>{kind}</i>{suffix}".replace("/", "_")).write_bytes(content)
    config = composed(*SET, f"data.root={root}", "data.max_pixels=100000")
    whole = data.load(config.data)
    looked = check.inspect(whole, config.data)
    source = check.without(whole, looked.broken)
    numbers, duplicates = about.of(source, looked.without_broken(), config.data)
    subject = data_page.Subject(
        config, source, looked, numbers, duplicates, "python -m runner data …", "python -m runner …"
    )
    data_page.write(folder / "data.html", subject)
    return folder / "data.html", subject


def test_the_sheet_shows_what_training_sees(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _, subject = written(tmp_path)
    rows = data_page._augmented(subject)
    loaders = data.build(
        subject.config.data, subject.config.train.seed, source=subject.source, augment=subject.config.augment
    )
    for epoch in (0, 3):
        seen = {}
        for batch in loaders.train.epoch(epoch):
            pixels = batch.images.numpy() * np.array(subject.config.data.std)[:, None, None]
            pixels = 255 * (pixels + np.array(subject.config.data.mean)[:, None, None])
            seen |= dict(zip(batch.indices.tolist(), np.round(pixels).astype(np.uint8), strict=True))
        names = {subject.source.train.name(index): index for index in seen}
        for row in rows:
            shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(row["epochs"][epoch]))))
            np.testing.assert_array_equal(shown.transpose(2, 0, 1), seen[names[row["name"]]])
    assert store.to_plain(subject.config)["augment"]["cutout"] == 6


@pytest.mark.slow
def test_it_opens_from_the_disk_and_shows_names_as_they_are(tmp_path, monkeypatch):
    if not shutil.which("chromium"):
        pytest.skip("needs Chromium")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path, subject = written(tmp_path)
    with Browser(tmp_path / "profile") as page:
        page.open(path.as_uri(), 1280, 900, 1)
        page.run("while (document.readyState !== 'complete') await new Promise((done) => setTimeout(done, 20))")
        assert page.asked == []
        assert page.failures == []
        text = page.run("return document.body.innerText")
        assert "<script>alert(1)<_script> & [b]" in text
        assert "<i>half PNG<_i>.png" in text
        assert "1 test image is in train too" in text
        assert page.run("return document.querySelectorAll('#broken tr').length") == len(BROKEN)
        assert page.run("return document.querySelectorAll('.pair').length") == 1
        sides = page.run("return [...document.querySelectorAll('.pair img')].map((one) => one.src)")
        assert sides[0] == sides[1]
        rows = page.run("return [...document.querySelectorAll('#augmented tbody tr')].map((one) => one.cells.length)")
        assert rows == [2 + data_page.EPOCHS] * data_page.AUGMENTED
        shares = page.run("""return [...document.querySelectorAll('#classes div')].map(
            (one) => one.firstChild.getBoundingClientRect().width / one.getBoundingClientRect().width)""")
        assert shares == pytest.approx([1, 1], abs=0.01)
        drawn = page.run("return [...document.images].every((one) => one.complete && one.naturalWidth > 0)")
        assert drawn
        # Nothing sticks out of the window.
        assert page.run("return document.documentElement.scrollWidth <= innerWidth")
        page.open("about:blank", 390, 800, 1)
        page.open(path.as_uri(), 390, 800, 1)
        page.run("while (!document.querySelector('#sheets img')) await new Promise((done) => setTimeout(done, 20))")
        assert page.run("return document.documentElement.scrollWidth <= innerWidth")
    assert len(subject.looked.broken) == len(BROKEN)


def test_an_image_that_went_away_leaves_a_gap_and_no_failure(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _, subject = written(tmp_path)
    split = subject.source.train
    path = split.encoded.read(0)
    assert data_page._png(split, 0)
    photo(1).save(path)
    with open(path, "wb") as stream:
        stream.truncate()
    assert data_page._png(split, 0) == ""

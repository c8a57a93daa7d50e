"""`runner lr` suggests a learning rate and keeps nothing of what it trained."""

from __future__ import annotations

import re

from tests.conftest import TINY

SMALL = [word for word in TINY if word != "+debug=fast_dev_run"]
SET = ["data=synthetic", "data.train_images=64", "data.test_images=8", "data.batch_size=16", "tracking=none", *SMALL]


def test_a_rate_is_suggested_that_a_run_takes(here, tmp_path):
    done = here("lr", "data=digits", "data.limit=256", *SMALL, "--steps", "40", "--low", "1e-5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [rate] = re.findall(r"Suggestion +optimizer\.lr=(\S+)", done.stdout)
    assert 1e-5 < float(rate) < 1
    assert [path.name for path in (tmp_path / "outputs").rglob("*") if path.is_file()] == ["lr.html"]
    page = (tmp_path / "outputs" / "default" / "lr.html").read_text()
    assert page.count("<svg") == 1
    assert f"optimizer.lr={rate}" in page
    assert "runner lr data=digits" in page
    # It may be written over, and what is no page of this package may not.
    again = here("lr", *SET, "--steps", "10", "--output", "other.html", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    (tmp_path / "mine.html").write_text("mine")
    refused = here("lr", *SET, "--output", "mine.html", cwd=tmp_path)
    assert refused.returncode != 0
    assert (tmp_path / "mine.html").read_text() == "mine"


def test_bounds_that_cannot_be_are_one_message(here, tmp_path):
    for words, part in (
        (["--low", "1", "--high", "0.1"], "--low 1: must be below --high"),
        (["--steps", "3"], "must be an integer from 10"),
        (["--low", "0"], "must be a number from"),
        (["--output", "lr.png"], "a page ends with .html"),
        (["optimizer.lrs=3"], "Did you mean optimizer.lr=3?"),
    ):
        done = here("lr", *SET, *words, cwd=tmp_path)
        assert done.returncode == 2
        assert part in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_where_the_loss_does_not_fall_nothing_is_suggested(here, tmp_path):
    done = here("lr", *SET, "--steps", "10", "--low", "1e-12", "--high", "1e-11", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Suggestion  none" in done.stdout
    assert "hardly falls" in (tmp_path / "outputs" / "default" / "lr.html").read_text()

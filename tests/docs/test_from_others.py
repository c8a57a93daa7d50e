"""The tables of other tools' terms: what they say is composed, and means the same."""

from __future__ import annotations

import re

import pytest

from runner.cli import compose
from runner.cli.overrides import readable

from .pages import ROOT

PAGE = (ROOT / "docs/from_others.md").read_text()
ROWS = [row.strip("|").split(" | ", 1) for row in PAGE.splitlines() if row.startswith("| `")]
#: What stands for a value of the reader's.
HOLE = re.compile(r"=(…|[A-Z]+)$")
#: Keys and groups of the command and of processes, not of one run's config.
OTHER = ("tracking=", "launch.nnodes", "mode=", "hydra.", "loss=bce", "+")


def snippets(row):
    """The complete overrides in the right column of a row, each a list of words."""
    for code in re.findall(r"`([^`]+)`", row[1]):
        words = [word for word in code.split() if "=" in word]
        if words and not any(HOLE.search(word) or word.startswith(OTHER) for word in words):
            yield words


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip())
def test_the_overrides_of_a_row_are_taken(row):
    for words in snippets(row):
        data = [] if any(word.startswith("data=") for word in words) else ["data=image_folder"]
        assert compose.config_of([readable(word, sweeps=False) for word in (*data, "data.root=photos", *words)])


def test_magnitudes_of_30_are_three_times_those_of_10():
    theirs = {"`--aa rand-m": r"rand-m(\d+)", "`RandAugment`": r"`magnitude: (\d+)`"}
    for begin, pattern in theirs.items():
        [row] = [row for row in ROWS if row[0].strip().startswith(begin)]
        assert int(re.search(r"augment\.rand_m=(\d+)", row[1])[1]) == 3 * int(re.search(pattern, row[0])[1])


def test_a_step_has_as_many_images_as_with_accumulated_gradients():
    [row] = [row for row in ROWS if "--grad-accum-steps" in row[0]]
    steps, images = (int(number) for number in re.findall(r"--grad-accum-steps (\d+)` with `-b (\d+)", row[0])[0])
    assert f"data.batch_size={steps * images} train.accumulate={steps}" in row[1]

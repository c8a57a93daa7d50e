"""Whole runs on sets of one's own: the same images train the same, whatever layout they are in."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from tests.conftest import INLINE, run_inline
from tests.data import layouts
from tests.e2e.processes import run
from tests.e2e.test_resume import state

RUN = [
    *INLINE, "model=mobilenet_v3_small_x0_35", "deploy.formats=[]", "schedule=constant", "data.image_size=32",
    "data.batch_size=8", "data.workers=0",
]  # fmt: skip
LAYOUTS = {
    "image_folder": ["data.root=files"],
    "files": ["data.train=list.csv", "data.path_column=file", "data.root=files"],
    "shards": ["data.root=tars", "data.train=set-*.tar"],
}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A folder with one set in three layouts."""
    folder = tmp_path_factory.mktemp("sets")
    pictures = layouts.drawn([f"{name}/{number:02}.png" for name in ("cat", "dog") for number in range(20)])
    layouts.write_folder(folder / "files", pictures)
    layouts.write_csv(folder / "list.csv", folder / "files", pictures)
    layouts.write_tars(folder / "tars", pictures, 3)
    return folder


@pytest.fixture(scope="module")
def runs(sets):
    """What a run on each layout measured, step by step and at the end."""
    measured = {}
    for layout, words in LAYOUTS.items():
        done = run_inline(*RUN, f"data={layout}", *words, f"hydra.run.dir=runs/{layout}", cwd=sets)
        assert done.returncode == 0, done.stderr
        events = map(json.loads, (sets / "runs" / layout / "journal.jsonl").read_text().splitlines())
        values = [event["values"] for event in events if event["event"] == "metrics"]
        measured[layout] = [
            {name: value for name, value in each.items() if "loss" in name or "top1" in name} for each in values
        ]
    return measured


@pytest.mark.parametrize("layout", ["files", "shards"])
def test_a_run_is_the_same_in_every_layout(runs, layout):
    assert any("train/loss" in values for values in runs["image_folder"])
    assert runs[layout] == runs["image_folder"]


#: Where pictures are, whether they are kept, and in how many processes each process of a run decodes them.
TOGETHER = [("image_folder", "none", 2), ("image_folder", "disk", 1), ("shards", "none", 0), ("shards", "disk", 3)]
LINEAR = ["model=custom", "model.target=tests.samples:linear_network", "deploy.formats=[]", "schedule=constant"]
BATCHES = [
    "data.image_size=32", "data.batch_size=8", "data.val_fraction=0.2", "augment.flip=true",
    "augment.crop_padding=2", "train.epochs=2", "train.log_every=1", "train.threads=1", "tracking=none",
]  # fmt: skip


def trained_by_two(sets, directory, layout, *words):
    done = run(
        *LINEAR, *BATCHES, f"data={layout}", *LAYOUTS[layout], *words, "launch.nproc_per_node=2",
        f"hydra.run.dir={directory}", cwd=sets, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return state(directory)


def test_two_processes_train_the_same_wherever_pictures_are_and_however_many_decode_them(sets, tmp_path):
    plain = trained_by_two(sets, tmp_path / "plain", "image_folder", "data.workers=0")
    for layout, cache, workers in TOGETHER:
        words = [f"data.cache={cache}", f"data.workers={workers}"]
        tensors, _, points, result = trained_by_two(sets, tmp_path / f"{layout}-{cache}", layout, *words)
        for file, expected in plain[0].items():
            assert tensors[file].keys() == expected.keys()
            assert all(np.array_equal(tensors[file][name], value) for name, value in expected.items()), (layout, cache)
        assert (points, result) == plain[2:]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data=files", "data.train=nowhere.csv"], "nowhere.csv cannot be read"),
        (["data=shards", "data.train=nothing-*.tar"], "names no shards"),
        (["data=image_folder", "data.root=tars"], "3 other files|no class folders"),
    ],
)
def test_a_set_that_cannot_be_read_ends_a_run_with_one_message(sets, here, tmp_path, words, said):
    done = here(*RUN, *words, f"hydra.run.dir={tmp_path}/run", cwd=sets)
    assert done.returncode == 3
    assert re.search(said, done.stderr)
    assert "Traceback" not in done.stderr

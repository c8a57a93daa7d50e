"""Names of folders, classes and files that mean something to shells, markup, formulas or encodings, from end to end."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from runner import terminal
from tests.conftest import TINY
from tests.e2e.processes import ENVIRONMENT, run

CLASSES = ["$\\frac{", "[b]a[]", "`b`|c", "数据", "<script>", os.fsdecode(b"caf\xe9"), "x" * 240, "-rf"]
PLACE = "out $(touch pwned); [b]'x\" {a},=:smile:"


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """(folder, what the command said) of a run on classes with odd names, in a directory with one."""
    folder = tmp_path_factory.mktemp("odd")
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for number, name in enumerate(CLASSES):
            place = folder / "set" / split / name
            place.mkdir(parents=True)
            for image in range(2):
                pixels = random.integers(0, 256, (12, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number} $(x) [{image}] é.png")
    words = [
        *TINY[:-1],
        "train.plots=true",
        "deploy.formats=[onnx]",
        "deploy.bench_s=0",
        "data=image_folder",
        "data.root=set",
        "data.workers=0",
    ]
    words += ["data.image_size=32", "data.batch_size=8", terminal.override("hydra.run.dir", PLACE)]
    done = run(*words, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_a_run_on_odd_names_is_whole(odd):
    folder, done = odd
    assert PLACE in done.stdout
    assert "no pictures" not in done.stdout
    assert "not exported" not in done.stdout
    assert done.stderr == ""
    directory = folder / PLACE
    assert json.loads((directory / "export" / "model.json").read_text())["classes"] == sorted(CLASSES)
    assert (directory / "plots" / "confusion_matrix.png").stat().st_size > 10_000
    assert not (folder / "pwned").exists()


def test_what_it_prints_to_be_pasted_does_what_it_says(odd):
    folder, _ = odd
    listed = run("runs", ".", cwd=folder)
    assert PLACE in listed.stdout
    for line in (terminal.command("report", PLACE, "--output", "page.html"), terminal.command("sync", PLACE)):
        pasted = line.replace("python -m runner", f"{shlex.quote(sys.executable)} -m runner", 1)
        done = subprocess.run(["sh", "-c", pasted], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert not (folder / "pwned").exists()
    page = (folder / "page.html").read_text()
    assert "<script>" not in page.replace("<script>\n", "").replace('<script>"use', "") or "&lt;script&gt;" in page


def test_such_a_run_is_a_value_of_a_key(odd):
    folder, _ = odd
    words = [*TINY, "data=image_folder", "data.root=set", "data.workers=0", "data.image_size=32", "data.batch_size=8"]
    words += ["tracking=none", "hydra.run.dir=again", terminal.override("checkpoint.init_from", PLACE)]
    done = run(*words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "tensors from" in done.stdout


def test_predictions_name_files_and_classes_as_they_are(odd):
    folder, _ = odd
    done = run("predict", PLACE, "set/test", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 2 * len(CLASSES)
    assert {entry["class"] for row in rows for entry in row["classes"]} <= set(CLASSES)
    assert run("predict", PLACE, "set/test", cwd=folder).stdout.count(".png") >= 2 * len(CLASSES)

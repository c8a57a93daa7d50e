"""The recipe for a feature loss in CONTRIBUTING.md, followed to the letter in a copy of the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from runner.runs.journal import events
from tests.conftest import TINY

ROOT = Path(__file__).parents[2]


def test_a_feature_loss_is_one_function_and_one_yaml(tmp_path):
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## A feature loss\n")[2].partition("\n## ")[0]
    paths = re.findall(r"`((?:runner|conf)/[\w/]+\.(?:py|yaml))` (?:takes|makes)", section)
    blocks = re.findall(r"```\w+\n(.*?)```", section, re.DOTALL)
    assert len(paths) == len(blocks) == 2
    for folder in ("runner", "conf"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path, block in zip(paths, blocks, strict=True):
        assert not (tmp_path / path).exists()
        (tmp_path / path).write_text(block)
    words = ["hydra.run.dir=run", "mode=cls_distill", "features=hint", "features.layers=[conv2,conv4]", "tracking=none"]
    (tmp_path / "work").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "runner", *TINY, *words],
        cwd=tmp_path / "work",
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    logged = [event["values"] for event, _ in events(tmp_path / "work" / "run") if event["event"] == "metrics"]
    terms = [values["train/loss/features/student"] for values in logged if "train/loss" in values]
    assert terms
    assert all(term > 0 for term in terms)

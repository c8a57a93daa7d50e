"""The example of docs/data.md: a function that returns a set."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from runner import config as cfg
from runner import data

from . import layouts

PAGE = Path(__file__).parents[2] / "docs/data.md"


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The module that the page shows, importable as it says."""
    (block,) = re.findall(r"```python\n# my_data\.py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "my_data.py").write_text(block)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("my_data", None)


def test_arrays_of_a_function_are_a_set(example):
    loaders = data.build(cfg.CustomData(target="my_data:spots", kwargs={"images": 40}, batch_size=8), seed=0)
    assert {name: len(split) for name, split in loaders.source.splits.items()} == {"train": 36, "val": 4}
    assert loaders.measured_on == "val"
    batch = next(iter(loaders.train.epoch(0)))
    assert list(batch.images.shape) == [8, 3, 32, 32]


def test_files_of_a_function_are_a_set_and_decoded_like_others(example, tmp_path):
    names = [f"{number:02}-{name}.png" for number in range(10) for name in ("cat", "dog")]
    pictures = {name: layouts.png(place, 40, 30) for place, name in enumerate(names)}
    layouts.write_folder(tmp_path / "pictures", pictures)
    kwargs = {"folder": str(tmp_path / "pictures"), "classes": ["cat", "dog"]}
    source = data.load(cfg.CustomData(target="my_data:photos", kwargs=kwargs, image_size=[24, 32], val_fraction=0.0))
    assert np.bincount(source.train.labels).tolist() == [10, 10]
    assert source.train.decode(0).shape == (24, 32, 3)

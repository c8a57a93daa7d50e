"""Real sets that packages carry are read as they are."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image

from runner import config as cfg
from runner import data
from runner.images import Unreadable
from tests.real_sets import fetched

from . import layouts

pytestmark = pytest.mark.slow


def counts(source):
    """Images of each class, over all splits."""
    return sum(np.bincount(split.labels, minlength=len(source.classes)) for split in source.splits.values()).tolist()


def test_fashion_mnist_is_read_from_its_official_files():
    source = data.load(cfg.FashionMnist(root=str(fetched("fashion_mnist")), image_size=28))
    assert {name: len(split) for name, split in source.splits.items()} == {
        "train": 54_000,
        "val": 6_000,
        "test": 10_000,
    }
    assert counts(source) == [7_000] * 10


def test_photos_of_solar_cells_are_read_from_the_list_that_comes_with_them():
    folder = fetched("solar_cells")
    config = cfg.FileList(
        train=str(folder / "labels.csv"), path_column="0", label_column="1", channels=1, image_size=300
    )
    source = data.load(config)
    assert [float(name) for name in source.classes] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert counts(source) == [1508, 295, 106, 715]
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 1889, "val": 210, "test": 525}
    picture = source.train.decode(0)
    assert picture.shape == (300, 300, 1)
    assert picture.std() > 1


@pytest.mark.parametrize(
    ("folder", "images", "classes", "fewest", "most"),
    [("clipart", 8121, 22, 3, 2158), ("stamps", 796, 16, 3, 247)],
)
def test_drawings_in_folders_of_topics_are_divided_by_topic(folder, images, classes, fewest, most):
    source = data.load(cfg.ImageFolder(root=str(fetched(folder)), image_size=64))
    numbers = counts(source)
    assert (sum(numbers), len(numbers), min(numbers), max(numbers)) == (images, classes, fewest, most)
    assert len(source.test) == pytest.approx(0.2 * images, abs=1)
    assert all(np.bincount(source.train.labels, minlength=classes) > 0)
    for place in range(0, len(source.val), 37):
        with Image.open(source.val.pictures.read(place)) as image:
            is_too_large = image.width * image.height > source.val.preparation.max_pixels
        with pytest.raises(Unreadable, match="max_pixels") if is_too_large else nullcontext():
            assert source.val.decode(place).shape == (64, 64, 3)


def test_a_large_set_in_folders_and_in_shards_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = fetched("stamps")
    folders = data.load(cfg.ImageFolder(root=str(root)))
    splits = folders.splits.values()
    names = sorted(split.pictures.names[place] for split in splits for place in range(len(split)))
    pictures = {name: (root / name).read_bytes() for name in names}
    shards = data.load(layouts.write_tars(tmp_path / "tars", pictures, 3))
    for name, split in folders.splits.items():
        other = shards.splits[name]
        assert other.labels.tolist() == split.labels.tolist()
        assert list(other.pictures.names) == list(split.pictures.names)
        assert all(other.pictures.read(place) == pictures[split.pictures.names[place]] for place in range(len(split)))

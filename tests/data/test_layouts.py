"""The same pictures in folders, in a list and in shards are the same set."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from runner import config as cfg
from runner import data

from . import layouts

#: Names of folders and files, with what trips readers of lists.
PART = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\\0.\r\n\t\v\f\x1c\x1d\x1e\x85\u2028\u2029 ;"),
    min_size=1,
    max_size=6,
).filter(str.strip)
WRITERS = {
    "list": lambda folder, pictures: layouts.write_list(folder / "list.txt", folder / "files", pictures),
    "csv": lambda folder, pictures: layouts.write_csv(folder / "list.csv", folder / "files", pictures),
    "table": lambda folder, pictures: layouts.write_table(folder / "list.parquet", folder / "files", pictures),
    "tar": lambda folder, pictures: layouts.write_tars(folder / "tars", pictures, 2),
    "json": lambda folder, pictures: layouts.write_tars(folder / "jsons", pictures, 1, as_json=True),
    "parquet": lambda folder, pictures: layouts.write_parquet(folder / "set.parquet", pictures),
}


def content(split, place: int) -> bytes:
    found = split.pictures.read(place)
    return found if isinstance(found, bytes) else Path(found).read_bytes()


def entries(source: data.Source) -> dict[str, list[tuple[str, str, bytes]]]:
    """(name within the set, class, content) of every picture, by split."""
    return {
        name: [
            (split.pictures.names[place], source.classes[split.labels[place]], content(split, place))
            for place in range(len(split))
        ]
        for name, split in source.splits.items()
    }


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(PART, min_size=2, max_size=3, unique_by=str.casefold),
    st.lists(PART, min_size=7, max_size=9, unique_by=str.casefold),
    st.randoms(use_true_random=False),
    st.integers(0, 99),
)
def test_every_layout_gives_the_same_splits_in_the_same_order(tmp_path_factory, classes, stems, random, seed):
    # Labels that are numbers are in their order, folders in that of their text.
    assume(not all(map(str.isdecimal, classes)))
    assume(not any(name.casefold() in data.folder.UNUSUAL | set(data.folder.SPLITS) for name in classes))
    names = [f"{name}/{stem}.png" for name in classes for stem in stems]
    pictures = layouts.drawn(sorted(names))
    folder = tmp_path_factory.mktemp("set")
    config = layouts.write_folder(folder / "files", pictures)
    config.split_seed = seed
    expected = entries(data.load(config))
    assert set(expected) == {"train", "val", "test"}
    everything = Counter(entry for split in expected.values() for entry in split)
    assert everything == Counter((name, layouts.label(name), content) for name, content in pictures.items())
    for layout, write in WRITERS.items():
        # The order in which a set is written does not matter, but of Parquet, which is read as it is stored.
        order = sorted(pictures) if layout == "parquet" else random.sample(sorted(pictures), len(pictures))
        config = write(folder, {name: pictures[name] for name in order})
        config.split_seed = seed
        assert entries(data.load(config)) == expected, layout


def test_pictures_in_any_layout_are_decoded_alike(tmp_path):
    pictures = layouts.drawn([f"{name}/{number}.png" for name in ("cat", "dog") for number in range(10)])
    expected = data.load(layouts.write_folder(tmp_path / "files", pictures)).train
    for write in WRITERS.values():
        split = data.load(write(tmp_path, pictures)).train
        assert all((split.decode(place) == expected.decode(place)).all() for place in range(len(split)))


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
@pytest.mark.parametrize("layout", ["folder", "list", "tar", "parquet"])
def test_processes_of_a_run_see_the_parts_of_what_one_sees(tmp_path, layout, workers):
    pictures = layouts.drawn([f"{name}/{number:02}.png" for name in ("cat", "dog") for number in range(15)])
    config = layouts.write_folder(tmp_path / "files", pictures)
    if layout != "folder":
        config = WRITERS[layout](tmp_path, pictures)
    config = replace(config, image_size=8, batch_size=7, val_fraction=0.2, test_fraction=0.0, workers=workers)
    changes = cfg.Augment(crop_padding=2, flip=True)
    alone = data.build(replace(config, workers=0), seed=3, augment=changes)
    for world in (1, 2, 3):
        parts = [data.build(config, seed=3, rank=rank, world=world, augment=changes) for rank in range(world)]
        for whole, loaders in [
            (alone.train.epoch(1, 1), [part.train.epoch(1, 1) for part in parts]),
            (iter(alone.val), [iter(part.val) for part in parts]),
        ]:
            for batch, *shares in zip(whole, *loaders, strict=True):
                for rank, share in enumerate(shares):
                    assert share.images.numpy().tobytes() == batch.images.numpy()[rank::world].tobytes()
                    assert share.labels.tolist() == batch.labels.tolist()[rank::world]

"""Images that a network was trained on are recognised wherever they turn up, and no others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.data import ImageFiles, Images, folds, load, seen
from runner.data.names import Names
from runner.data.splits import FilesOnDisk
from tests.data import layouts

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1), dtype=np.uint8)


def in_memory(places):
    return Images(PIXELS[places], np.zeros(len(places), np.int64))


def on_disk(root, contents):
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return ImageFiles(FilesOnDisk(str(root), Names.of(contents)), np.zeros(len(contents), np.int64))


def test_images_in_memory_are_recognised_by_their_pixels():
    trained = seen.keys(in_memory([0, 1, 2]))
    assert seen.keys(in_memory([5, 2, 3, 0])).among(trained).tolist() == [False, True, False, True]


def test_a_file_is_recognised_under_another_name_and_another_file_under_its_name_is_not(tmp_path):
    trained = seen.keys(on_disk(tmp_path / "then", {"cat/1.bmp": b"one", "cat/2.bmp": b"two", "cat/3.bmp": b"six"}))
    now = on_disk(tmp_path / "now", {"test/cat/9.bmp": b"one", "cat/2.bmp": b"ten", "cat/3.bmp": b"six"})
    assert seen.keys(now).among(trained).tolist() == [True, False, True]


def test_files_that_are_too_many_to_be_read_are_recognised_by_name_and_size(tmp_path, monkeypatch):
    monkeypatch.setattr(seen, "MOST_READ", 0)
    trained = seen.keys(on_disk(tmp_path / "then", {"1.png": b"one", "2.png": b"two", "3.png": b"six"}))
    now = seen.keys(on_disk(tmp_path / "now", {"1.png": b"one", "2.png": b"other", "4.png": b"six"}))
    assert not now.content.any()
    assert now.among(trained).tolist() == [True, False, False]


def test_a_file_that_cannot_be_read_is_recognised_by_its_name_alone(tmp_path):
    files = on_disk(tmp_path, {"1.png": b"one", "2.png": b"two"})
    (tmp_path / "1.png").unlink()
    assert seen.keys(files).content.astype(bool).tolist() == [False, True]


@given(st.integers(0, 2**32), st.integers(0, 12), st.integers(0, 12))
@settings(max_examples=200, deadline=None)
def test_images_are_among_others_as_comparing_them_one_by_one_says(seed, count, others):
    generator = np.random.default_rng(seed)
    one, other = (seen.Keys(*generator.integers(0, 5, (2, number)).astype(np.uint64)) for number in (count, others))

    def is_one(name, content):
        pairs = list(zip(other.names.tolist(), other.content.tolist(), strict=True))
        if content and any(content == second for _, second in pairs):
            return True
        return any(name and first == name and not (content and second) for first, second in pairs)

    expected = [is_one(*key) for key in zip(one.names.tolist(), one.content.tolist(), strict=True)]
    assert one.among(other).tolist() == expected


def test_keys_are_read_as_they_were_written_and_nothing_else_is():
    keys = seen.keys(in_memory([0, 1])) + seen.keys(in_memory([1, 2]))
    columns = np.stack([keys.names, keys.content], axis=1)
    assert (seen.Keys.from_bytes(seen.Keys(*columns.T).to_bytes()).content == keys.content).all()
    again = seen.Keys.from_bytes(keys.to_bytes())
    assert (again.content == keys.content).all()
    assert len(again.unique().content) == 3
    for damaged in (
        b"",
        keys.to_bytes()[:-1],
        seen.save({"names": keys.names}),
        seen.save({"names": PIXELS, "content": PIXELS}),
    ):
        with pytest.raises(ValueError, match="keys of images"):
            seen.Keys.from_bytes(damaged)


@given(st.integers(0, 2**32), st.sets(st.integers(100, 999), min_size=1, max_size=30))
@settings(max_examples=30, deadline=None)
def test_images_that_are_added_move_at_most_as_many_of_their_class_between_splits(seed, more):
    names = [f"cat/{number}.png" for number in range(60)] + [f"dog/{number}.png" for number in range(40)]
    grown = sorted([*names, *(f"cat/{number}.png" for number in more)])

    def held_out(names):
        split = ImageFiles(FilesOnDisk("", Names.of(names)), np.array([name.startswith("dog") for name in names], int))
        return {names[place] for place in folds.hold_out(split, 0.2, seed, ["cat", "dog"])[1]}

    before, now = held_out(names), held_out(grown)
    moved = (before ^ now) & set(names)
    assert len([name for name in moved if name.startswith("cat")]) <= len(more)
    assert len([name for name in moved if name.startswith("dog")]) <= 1


def test_images_are_divided_alike_in_a_folder_a_list_and_shards(tmp_path):
    pictures = layouts.drawn([f"{name}/{number}.png" for name in ("cat", "dog") for number in range(20)])
    configs = [
        layouts.write_folder(tmp_path / "folder", pictures),
        layouts.write_list(tmp_path / "a.txt", tmp_path / "folder", pictures),
        layouts.write_tars(tmp_path / "tars", pictures, 3), layouts.write_parquet(tmp_path / "a.parquet", pictures),
    ]  # fmt: skip
    contents = [sorted(seen.keys(load(config).splits["test"]).content.tolist()) for config in configs]
    assert len(contents[0]) == 8
    assert contents[1:] == contents[:1] * 3


def test_a_draw_depends_on_the_seed_and_the_name(tmp_path):
    split = on_disk(tmp_path, {"1.png": b"one", "2.png": b"two"})
    assert seen.draws(split, 0).tolist() != seen.draws(split, 1).tolist()
    assert seen.draws(split, 0)[1] == seen.draws(split.select(np.array([1])), 0)[0]
    assert seen.draws(in_memory([0]), 0) is None

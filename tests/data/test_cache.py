"""Decoded pictures that are kept: the same batches, without decoding, whatever happens to what keeps them."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from runner import config as cfg
from runner import data, device, files
from runner.data import cache

from . import layouts

WAYS = [cfg.Cache.memory, cfg.Cache.disk]


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "runner" / "decoded"


@pytest.fixture
def root(tmp_path):
    generator = np.random.default_rng(0)
    for split, count in (("train", 20), ("val", 5), ("test", 5)):
        for index in range(count):
            place = tmp_path / "set" / split / f"class{index % 2}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (9, 12, 3), np.uint8)).save(place / f"{index:02}.png")
    return tmp_path / "set"


def built(root, way=cfg.Cache.none, workers=0, **changes):
    config = cfg.ImageFolder(
        root=str(root), image_size=8, batch_size=6, workers=workers, cache=way, **changes
    )  # fmt: skip
    return data.build(config, seed=0, augment=cfg.Augment(crop_padding=2, flip=True))


def seen(loader, epoch=0, start=0):
    return [(batch.indices, batch.images.numpy()) for batch in loader.epoch(epoch, start)]


def assert_same(one, other):
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left[0], right[0])
        np.testing.assert_array_equal(left[1], right[1])


def remove_pictures(root, pattern="*.png"):
    """Whoever decodes after this fails."""
    for path in root.rglob(pattern):
        stat = path.stat()
        path.write_bytes(b"x" * stat.st_size)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("way", WAYS)
def test_later_epochs_are_the_same_and_decode_nothing(root, way, workers):
    expected = [seen(built(root).train, epoch) for epoch in range(3)]
    train = built(root, way, workers).train
    assert_same(seen(train, 0), expected[0])
    remove_pictures(root)
    assert_same(seen(train, 1), expected[1])
    assert_same(seen(train, 2, 1), expected[2][1:])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("way", WAYS)
def test_pictures_in_shards_are_kept_as_well(tmp_path, way, workers):
    pictures = layouts.drawn([f"{name}/{number:02}.png" for name in ("cat", "dog") for number in range(10)])
    config = layouts.write_tars(tmp_path / "tars", pictures, 3)
    config = replace(config, image_size=8, batch_size=6, val_fraction=0.0, test_fraction=0.0)
    changes = cfg.Augment(crop_padding=2, flip=True)
    plain = data.build(replace(config, workers=0), seed=0, augment=changes).train
    expected = [seen(plain, epoch) for epoch in range(2)]
    config = replace(config, cache=way, workers=workers)
    train = data.build(config, seed=0, augment=changes).train
    assert_same(seen(train, 0), expected[0])
    remove_pictures(tmp_path, "*.tar")
    assert_same(seen(train, 1), expected[1])
    if way is cfg.Cache.disk:
        assert_same(seen(data.build(config, seed=0, augment=changes).train, 1), expected[1])


def test_what_is_on_the_disk_is_read_without_processes_once_all_of_it_is(root, monkeypatch):
    train = built(root, cfg.Cache.disk, workers=2).train
    expected = [seen(built(root).train, epoch) for epoch in range(3)]
    first = train.epoch(0)
    next(first)
    first.close()
    # Some pictures are missing still.
    assert_same(seen(train, 1), expected[1])
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("a process was started"))
    assert_same(seen(train, 2), expected[2])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_later_run_finds_what_is_on_the_disk(root, workers):
    expected = seen(built(root).train)
    seen(built(root, cfg.Cache.disk, workers).train)
    remove_pictures(root)
    assert_same(seen(built(root, cfg.Cache.disk, workers).train), expected)


def test_an_epoch_that_was_abandoned_leaves_what_it_decoded(root):
    train = built(root, cfg.Cache.disk, workers=2).train
    epoch = train.epoch(0)
    next(epoch)
    epoch.close()
    assert_same(seen(train), seen(built(root).train))


@pytest.mark.parametrize("damage", ["cut", "zeros", "noise", "other"])
def test_what_is_damaged_on_the_disk_is_decoded_again(root, cache_folder, damage):
    expected = seen(built(root).train)
    assert_same(seen(built(root, cfg.Cache.disk).train), expected)
    generator = np.random.default_rng(1)
    # Those of the other splits hold nothing yet.
    for path in filter(lambda path: path.stat().st_size, cache_folder.iterdir()):
        content = bytearray(path.read_bytes())
        match damage:
            case "cut":
                content = content[: len(content) // 2]
            case "zeros":
                content[100 : len(content) // 2] = bytes(len(content) // 2 - 100)
            case "noise":
                for place in generator.integers(0, len(content), 30):
                    content[place] ^= 1 << generator.integers(8)
            case "other":
                # The pictures are those of others.
                content = content[200:] + content[:200]
        path.write_bytes(content)
    assert_same(seen(built(root, cfg.Cache.disk).train), expected)
    remove_pictures(root)
    assert_same(seen(built(root, cfg.Cache.disk).train), expected)


def test_a_changed_picture_or_preparation_is_another_set(root, cache_folder):
    def folder():
        return {path.name for path in cache_folder.iterdir()}

    built(root, cfg.Cache.disk)
    first = folder()
    built(root, cfg.Cache.disk)
    assert folder() == first
    assert len(first) == 3
    built(root, cfg.Cache.disk, resize=cfg.Resize.stretch)
    second = folder()
    assert len(second) == 6
    # Of the same size: an uncompressed picture always is.
    os.utime(next((root / "train").rglob("*.png")), ns=(1, 1))
    built(root, cfg.Cache.disk)
    assert len(folder() - second) == 1


def test_two_runs_use_one_file(root):
    one, other = (built(root, cfg.Cache.disk, workers=2).train for _ in range(2))
    expected = seen(built(root).train)
    pairs = zip(one.epoch(0), other.epoch(0), strict=True)
    batches = [((left.indices, left.images.numpy()), (right.indices, right.images.numpy())) for left, right in pairs]
    for side in zip(*batches, strict=True):
        assert_same(list(side), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_not_in_the_free_memory_is_said_and_decoded_again(root, monkeypatch, workers):
    monkeypatch.setattr(device, "free_memory", lambda: 2 * 10 * 8 * 8 * 3)
    loaders = built(root, cfg.Cache.memory, workers)
    assert loaders.notes[0].startswith("data.cache=memory keeps 10 of 20 pictures (train)")
    assert loaders.notes[1].startswith("data.cache=memory keeps 0 of 5 pictures (val)")
    for epoch in range(2):
        assert_same(seen(loaders.train, epoch), seen(built(root).train, epoch))
    assert loaders.source.train.cache.pictures.nbytes == 10 * 8 * 8 * 3


def test_what_is_not_on_the_free_disk_is_said_and_decoded_again(root, monkeypatch):
    usage = cache.shutil.disk_usage("/")
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage._replace(free=2 * 10 * (8 * 8 * 3 + 8)))
    loaders = built(root, cfg.Cache.disk)
    assert loaders.notes[0].startswith("data.cache=disk keeps 10 of 20 pictures (train)")
    for epoch in range(2):
        assert_same(seen(loaders.train, epoch), seen(built(root).train, epoch))


def test_a_full_disk_ends_the_writing_and_not_the_run(root, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "pwritev", full)
    train = built(root, cfg.Cache.disk).train
    for epoch in range(2):
        assert_same(seen(train, epoch), seen(built(root).train, epoch))


def test_without_a_cache_folder_the_run_says_so_and_goes_on(root, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    loaders = built(root, cfg.Cache.disk)
    assert "data.cache=disk caches nothing" in loaders.notes[0]
    assert_same(seen(loaders.train), seen(built(root).train))


def test_sets_that_were_not_used_for_long_go_and_used_ones_stay(root, cache_folder):
    old = time.time() - (cache.UNUSED_DAYS + 1) * 86400
    built(root, cfg.Cache.disk)
    unused = set(cache_folder.iterdir())
    for path in unused:
        os.utime(path, (old, old))
    (cache_folder / "notes.txt").touch()
    os.utime(cache_folder / "notes.txt", (old, old))
    held = built(root, cfg.Cache.disk, resize=cfg.Resize.pad)
    assert not any(path.exists() for path in unused)
    for path in cache_folder.glob("*.pictures"):
        os.utime(path, (old, old))
    built(root, cfg.Cache.disk, resize=cfg.Resize.stretch)
    # Those of `held` are open.
    assert len(list(cache_folder.glob("*.pictures"))) == 6
    del held
    assert (cache_folder / "notes.txt").exists()


def test_a_link_in_place_of_a_file_is_not_written_through(root, cache_folder, tmp_path):
    built(root, cfg.Cache.disk)
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    for path in cache_folder.iterdir():
        files.remove_file(path)
        path.symlink_to(victim)
    loaders = built(root, cfg.Cache.disk)
    assert "is a symbolic link" in loaders.notes[0]
    seen(loaders.train)
    assert victim.read_bytes() == b"mine"

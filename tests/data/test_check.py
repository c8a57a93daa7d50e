"""Every picture is looked at before training: all broken ones at once, and what was good is not looked at again."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import time

import numpy as np
import pytest

from runner import config as cfg
from runner.data import check, facts, identity, load, remembered, splits
from runner.data.splits import Images, Source
from runner.errors import DataError

from . import layouts
from .pictures import BROKEN, WHOLE, encoded, photo, write_set

LEVELS = ["full", "headers"]
#: What the first and last bytes do not show.
INSIDE = {"flipped bit", "too many pixels"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Where checks are remembered: a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "runner" / "pictures"


@pytest.fixture
def decodes(monkeypatch):
    """The pictures that were decoded."""
    decoded = []

    def counted(source, max_pixels, before=facts.decoded):
        decoded.append(source)
        return before(source, max_pixels)

    monkeypatch.setattr(facts, "decoded", counted)
    return decoded


def config_of(root, **keys):
    return cfg.ImageFolder(root=str(root), image_size=16, max_pixels=100_000, **keys)


def looked(config, **keys):
    return check.inspect(load(config), config, **keys)


def below(root, name):
    """The path of a picture below the root, whether its name has the root or not."""
    return os.path.relpath(os.path.join(root, name), root)


def broken_of(config):
    return {below(config.root, one.name): one.reason for one in looked(config).broken}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_picture_is_named_with_its_reason(tmp_path, level, kind, monkeypatch):
    monkeypatch.setattr(check, "SAMPLE", 0)
    root = write_set(tmp_path / "set")
    suffix, content, reason = BROKEN[kind]
    (root / "test" / "dog" / f"bad{suffix}").write_bytes(content)
    broken = broken_of(config_of(root, check=cfg.Check[level]))
    if level == "headers" and kind in INSIDE:
        assert broken == {}
    else:
        assert list(broken) == [f"test/dog/bad{suffix}"]
        assert reason in broken[f"test/dog/bad{suffix}"]


@pytest.mark.parametrize("level", LEVELS)
def test_whatever_can_be_decoded_is_not_broken(tmp_path, level):
    root = write_set(tmp_path / "set")
    for kind, (suffix, content) in WHOLE.items():
        (root / "train" / "cat" / f"{kind}{suffix}").write_bytes(content)
    assert broken_of(config_of(root, check=cfg.Check[level])) == {}


@pytest.mark.parametrize("level", LEVELS)
def test_a_file_that_goes_away_or_is_closed_is_broken(tmp_path, level):
    root = write_set(tmp_path / "set")
    config = config_of(root, check=cfg.Check[level])
    source = load(config)
    (root / "val" / "cat" / "1.png").unlink()
    (root / "val" / "dog" / "2.png").chmod(0)
    broken = {below(root, one.name): one.reason for one in check.inspect(source, config).broken}
    assert broken.pop("val/cat/1.png") == "No such file or directory"
    # To root every file is open.
    assert broken == ({} if os.geteuid() == 0 else {"val/dog/2.png": "Permission denied"})


def test_all_broken_ones_are_named_in_the_order_of_the_splits(tmp_path):
    root = write_set(tmp_path / "set", each=12)
    for split in ("test", "train"):
        for number in range(12):
            (root / split / "cat" / f"{number}.png").write_bytes(b"")
    found = looked(config_of(root))
    assert [one.split for one in found.broken] == ["train"] * 12 + ["test"] * 12
    message = check.refusal(found, "set", tmp_path / "list.txt")
    assert message.startswith(f"24 images of set cannot be read:\n  {found.broken[0].name}: empty\n")
    assert message.count("\n  ") == check.NAMED + 1
    assert "\n  and 4 more\n" in message
    assert "data.on_error=skip" in message


def test_the_list_has_a_line_for_each_of_them_whatever_they_are_called(tmp_path):
    root = write_set(tmp_path / "set")
    (root / "train" / "cat" / "a\nb\tc.png").write_bytes(b"")
    (root / "train" / "cat" / "d.png").write_bytes(b"")
    check.write(looked(config_of(root)), tmp_path / "list.txt")
    first, *lines = (tmp_path / "list.txt").read_text().splitlines()
    assert first == check.LISTING
    rows = [line.split("\t") for line in lines]
    assert [(split, name.rpartition("/")[2]) for split, name, _ in rows] == [("train", "a�b�c.png"), ("train", "d.png")]


def test_auto_decodes_all_of_a_small_set_and_a_sample_of_a_large_one(tmp_path, decodes, monkeypatch):
    config = config_of(write_set(tmp_path / "set"))
    looked(config)
    assert len(decodes) == 24
    decodes.clear()
    monkeypatch.setattr(check, "MOST_DECODED", 20)
    monkeypatch.setattr(check, "SAMPLE", 3)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    found = looked(config)
    assert len(decodes) == 9
    assert {name: int((one["level"] == facts.DECODED).sum()) for name, one in found.facts.items()} == {
        "train": 3, "val": 3, "test": 3
    }  # fmt: skip


def test_nothing_is_looked_at_where_the_config_says_so(tmp_path, decodes):
    root = write_set(tmp_path / "set")
    (root / "train" / "cat" / "0.png").write_bytes(b"")
    assert broken_of(config_of(root, check=cfg.Check.none)) == {}
    assert decodes == []


def test_what_is_to_be_skipped_has_to_be_known_whatever_the_level(tmp_path):
    root = write_set(tmp_path / "set")
    (root / "train" / "cat" / "0.png").write_bytes(BROKEN["flipped bit"][1])
    config = config_of(root, check=cfg.Check.none, on_error=cfg.OnError.skip)
    source, found = load(config), looked(config)
    kept = check.without(source, found.broken)
    assert (len(source.train), len(kept.train)) == (8, 7)
    assert "train/cat/0.png" not in [below(root, kept.train.name(index)) for index in range(7)]
    assert len(found.without_broken().facts["train"]) == 7
    assert [len(split) for split in kept.splits.values()] == [7, 8, 8]


def test_a_split_of_which_nothing_is_left_is_refused(tmp_path):
    root = write_set(tmp_path / "set")
    for path in (root / "val").rglob("*.png"):
        path.write_bytes(b"")
    config = config_of(root, on_error=cfg.OnError.skip)
    with pytest.raises(DataError, match="No image of the val split can be read"):
        check.without(load(config), looked(config).broken)


def test_what_was_good_is_not_decoded_again_until_it_changes(tmp_path, decodes):
    root = write_set(tmp_path / "set")
    (root / "test" / "cat" / "bad.png").write_bytes(b"no picture")
    config = config_of(root)
    first = looked(config)
    assert len(decodes) == 25
    decodes.clear()
    again = looked(config)
    assert decodes == [str(root / "test" / "cat" / "bad.png")]
    assert [below(root, one.name) for one in again.broken] == ["test/cat/bad.png"]
    for name in first.facts:
        np.testing.assert_array_equal(first.facts[name], again.facts[name])
    decodes.clear()
    photo(77).save(root / "train" / "dog" / "0.png")
    looked(config)
    assert str(root / "train" / "dog" / "0.png") in decodes
    assert len(decodes) == 2


def test_a_change_that_keeps_the_size_is_seen_by_its_time(tmp_path, decodes):
    root = write_set(tmp_path / "set")
    config, path = config_of(root), root / "train" / "dog" / "0.png"
    looked(config)
    decodes.clear()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert list(broken_of(config)) == ["train/dog/0.png"]
    assert decodes == [str(path)]


def test_headers_are_not_remembered_as_more_than_they_are(tmp_path, decodes, monkeypatch):
    monkeypatch.setattr(check, "SAMPLE", 0)
    root = write_set(tmp_path / "set")
    looked(config_of(root, check=cfg.Check.headers))
    assert decodes == []
    looked(config_of(root, check=cfg.Check.full))
    assert len(decodes) == 24


def test_another_bound_on_pixels_is_another_check(tmp_path, decodes):
    config = config_of(write_set(tmp_path / "set"))
    looked(config)
    stricter = dataclasses.replace(config, max_pixels=47 * 33 - 1)
    assert len(looked(stricter).broken) == 24


@pytest.mark.parametrize(
    "damage",
    [lambda content: b"", lambda content: content[:-1], lambda content: content[:40] + b"\xff" + content[41:],
     lambda content: content + content[-60:], lambda content: b"something else"],
    ids=["empty", "cut", "altered", "longer", "foreign"],
)  # fmt: skip
def test_a_damaged_memory_is_built_again(tmp_path, cache, decodes, damage):
    config = config_of(write_set(tmp_path / "set"))
    looked(config)
    [file] = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    decodes.clear()
    looked(config)
    assert len(decodes) == 24
    assert file.read_bytes() == whole


def test_without_a_place_to_remember_it_all_is_checked(tmp_path, cache, decodes):
    config = config_of(write_set(tmp_path / "set"))
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder should be")
    looked(config)
    looked(config)
    assert len(decodes) == 48


def test_the_memory_keeps_other_parts_of_a_place_within_bounds(tmp_path, cache, monkeypatch):
    config = config_of(write_set(tmp_path / "set"))
    looked(config)
    looked(dataclasses.replace(config, limit=2))
    memory = remembered.Memory(str(tmp_path / "set"), config.max_pixels)
    assert len(memory.records) == 24
    monkeypatch.setattr(remembered, "MOST_PICTURES", 5)
    photo(80).save(tmp_path / "set" / "train" / "cat" / "0.png")
    looked(config)
    assert len(remembered.Memory(str(tmp_path / "set"), config.max_pixels).records) == 5
    monkeypatch.setattr(remembered, "MOST_PLACES", 2)
    for number in range(3):
        looked(config_of(write_set(tmp_path / f"set{number}")))
    assert len(list(cache.iterdir())) == 2


def _look(root):
    return len(broken_of(config_of(root)))


def test_two_processes_at_once_leave_a_whole_memory(tmp_path, decodes):
    root = write_set(tmp_path / "set", each=20)
    (root / "val" / "cat" / "0.png").write_bytes(b"")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_look, [root] * 6, chunksize=1) == [1] * 6
    looked(config_of(root))
    assert decodes == [str(root / "val" / "cat" / "0.png")]


def test_a_check_that_is_stopped_goes_on_where_it_was(tmp_path, decodes):
    config = config_of(write_set(tmp_path / "set", each=40))

    def stop(done, every):
        assert every == 240
        if done >= 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        looked(config, tell=stop)
    time.sleep(0.2)
    decodes.clear()
    looked(config)
    assert 0 < len(decodes) <= 140


def test_twenty_thousand_files_are_looked_at_in_seconds(tmp_path):
    content = encoded(photo(1), "JPEG")
    for split in ("train", "test"):
        for label in range(10):
            folder = tmp_path / "set" / split / str(label)
            folder.mkdir(parents=True)
            for number in range(1000):
                (folder / f"{number}.jpg").write_bytes(content)
    config = config_of(tmp_path / "set")
    source = load(config)
    files = sorted((tmp_path / "set").glob("*/*/*"))
    began = time.process_time()
    for path in files:
        path.read_bytes()
    reading = time.process_time() - began
    for _ in range(2):
        began = time.process_time()
        assert check.inspect(source, config).broken == []
        # A million files are to be looked at in half a minute, by one core: reading one takes 13 µs.
        assert time.process_time() - began < 3 * reading


@pytest.mark.parametrize("layout", ["folder", "list"])
def test_a_start_asks_each_file_once_for_its_size_and_time(tmp_path, layout, monkeypatch):
    asked = []

    def counted(path, before=splits._size_and_time):
        asked.append(path)
        return before(path)

    monkeypatch.setattr(splits, "_size_and_time", counted)
    pictures = layouts.drawn([f"{name}/{number}.png" for name in ("cat", "dog") for number in range(20)])
    config = layouts.write_folder(tmp_path / "set", pictures)
    if layout == "list":
        config = layouts.write_list(tmp_path / "list.txt", tmp_path / "set", pictures)
    source = load(config)
    assert check.inspect(source, config).broken == []
    identity.digests(source)
    assert all(split.encoded.state() for split in source.splits.values())
    assert sorted(asked) == sorted(os.fsencode(tmp_path / "set" / name) for name in pictures)


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_pictures_in_shards_are_looked_at_and_remembered_as_well(tmp_path, kind, decodes):
    pictures = {f"{name}/{number}.png": encoded(photo(number), "PNG") for name in ("cat", "dog") for number in range(4)}
    pictures["cat/9.png"] = BROKEN["half PNG"][1]
    shard = write_shard(tmp_path, kind, pictures)
    config = cfg.Shards(train=str(shard), image_size=16, test_fraction=0.0, val_fraction=0.0)
    for _ in range(2):
        [one] = looked(config).broken
        assert (one.split, one.reason) == ("train", "image file is truncated")
        assert one.name.startswith("set.")
    assert len(decodes) == 9 + 1
    headers = dataclasses.replace(config, check=cfg.Check.headers)
    os.utime(shard, ns=(0, 0))
    decodes.clear()
    # The ends of a Parquet file's pictures are not to be had without all of them; a sample of all is decoded.
    assert len(looked(headers).broken) == 1
    pictures.pop("cat/9.png")
    write_shard(tmp_path, kind, pictures)
    assert looked(config).broken == []


def write_shard(folder, kind, pictures):
    if kind == "tar":
        return layouts.write_tar(folder / "set.tar", layouts.samples(pictures))
    layouts.write_parquet(folder / "set.parquet", pictures)
    return folder / "set.parquet"


def test_images_in_memory_need_no_check_and_their_duplicates_are_known(decodes):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
    labels = np.array([0, 1, 0, 1, 0, 1])
    source = Source("made", ["a", "b"], Images(pixels, labels), Images(pixels[:2], labels[:2]))
    found = check.inspect(source, cfg.Digits())
    assert decodes == []
    assert found.broken == []
    assert (found.facts["train"]["content"][:2] == found.facts["test"]["content"]).all()
    assert set(found.facts["train"]["width"]) == {8}

"""Shards: what is a sample, what is kept about them, how they are read, and what is told about those that are wrong."""

from __future__ import annotations

import functools
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from runner import config as cfg
from runner import data
from runner.data import archive, parquet, shards, storage
from runner.errors import DataError

from . import layouts

NAMES = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(5)]
PICTURES = layouts.drawn(NAMES)
LABELS = [label for label in (0, 1) for _ in range(5)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/runner/shards"


def loaded(train, **changes):
    return shards.load(cfg.Shards(train=str(train), **{"test_fraction": 0.0, **changes}))


def tar(tmp_path, members, **options):
    return layouts.write_tar(tmp_path / "set.tar", members, **options)


def names(split):
    return [split.pictures.names[place] for place in range(len(split))]


def read(split):
    return {split.pictures.names[place]: split.pictures.read(place) for place in range(len(split))}


def test_a_picture_is_called_by_its_shard_and_its_name(tmp_path):
    assert loaded(tar(tmp_path, layouts.samples(PICTURES))).train.name(0) == "set.tar/cat/0.png"
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
        layouts.write_tar(tmp_path / part / "set.tar", layouts.samples(PICTURES))
    split = loaded(tmp_path / "[ab]/set.tar").train
    assert [split.name(place) for place in (0, 1)] == ["a/set.tar/cat/0.png", "b/set.tar/cat/0.png"]


@pytest.mark.parametrize("options", [{"format": tarfile.USTAR_FORMAT}, {"format": tarfile.GNU_FORMAT}, {}])
def test_every_format_of_tar_is_read(tmp_path, options):
    long = {f"{'x' * 90}/{'y' * 120}é.png"[:200].removesuffix(".png") + ".png": layouts.png(1)}
    pictures = PICTURES | ({} if options.get("format") == tarfile.USTAR_FORMAT else long)
    source = loaded(tar(tmp_path, layouts.samples(pictures), **options))
    assert read(source.train) == pictures


def test_the_files_of_a_sample_may_be_anywhere_in_the_archive(tmp_path):
    members = list(layouts.samples(PICTURES).items())
    np.random.default_rng(0).shuffle(members)
    assert loaded(tar(tmp_path, dict(members))).train.labels.tolist() == LABELS


def test_labels_are_numbers_names_or_in_json(tmp_path):
    (tmp_path / "names.txt").write_text("cat\ndog\neel\n")
    labels = {"a.cls": b"2\n", "b.cls": b"0", "c.json": b'{"label": 1, "x": [1]}', "d.json": b'{"label": "2"}'}
    members = {f"{name}.png": layouts.png(number) for number, name in enumerate("abcd")}
    source = loaded(tar(tmp_path, members | labels), label_file=str(tmp_path / "names.txt"))
    assert [source.classes[label] for label in source.train.labels] == ["eel", "cat", "dog", "eel"]


def test_a_label_may_be_told_twice(tmp_path):
    members = {"a.png": b"1", "a.cls": b"1", "a.json": b'{"label": 1}', "b.png": b"2", "b.cls": b"0", "b.json": b"{}"}
    assert loaded(tar(tmp_path, members)).classes == ["0", "1"]


def test_json_may_have_the_label_under_another_key(tmp_path):
    members = {"a.png": b"1", "a.json": b'{"kind": "cat"}', "b.png": b"2", "b.json": b'{"kind": "dog"}'}
    assert loaded(tar(tmp_path, members), label_column="kind").classes == ["cat", "dog"]


def test_what_is_beside_a_picture_is_something_else(tmp_path):
    extra = {"cat/0.mask.png": b"mask", "cat/0.txt": b"a cat", "cat/1.npy": b"array", "cat/": b""}
    assert read(loaded(tar(tmp_path, layouts.samples(PICTURES) | extra)).train) == PICTURES


def test_hidden_names_in_an_archive_are_left_out_and_counted(tmp_path):
    hidden = {"cat/._0.png": b"x", "__MACOSX/cat/0.png": b"x", ".DS_Store": b"x"}
    source = loaded(tar(tmp_path, hidden | {f"./{name}": text for name, text in layouts.samples(PICTURES).items()}))
    assert names(source.train) == NAMES
    assert source.skipped == {"hidden or system names": 3}


def test_names_in_an_archive_are_text_and_nothing_is_unpacked(tmp_path):
    members = {"../out.png": b"1", "../out.cls": b"a", "/etc/root.png": b"2", "/etc/root.cls": b"b"}
    before = sorted(path for path in tmp_path.rglob("*") if "cache" not in path.parts)
    source = loaded(tar(tmp_path, members))
    assert read(source.train) == {"../out.png": b"1", "/etc/root.png": b"2"}
    after = sorted(path for path in tmp_path.rglob("*") if "cache" not in path.parts)
    assert set(after) - set(before) == {tmp_path / "set.tar"}


def test_what_is_not_a_file_in_an_archive_is_not_followed_and_counted(tmp_path):
    path = tar(tmp_path, layouts.samples(PICTURES) | {"._.png": b"hidden"})
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
    with tarfile.open(path, "a") as archive:
        for number, kind in enumerate(kinds):
            member = tarfile.TarInfo(f"cat/odd{number}.png")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    for _ in range(2):
        source = loaded(path)
        assert names(source.train) == NAMES
        # Folders are no loss.
        assert source.skipped == {"hidden or system names": 1, shards.NO_FILES: 5}


def test_broken_shards_are_named_all_at_once(tmp_path):
    layouts.write_tars(tmp_path / "tars", PICTURES, 4)
    (tmp_path / "tars/set-001.tar").write_bytes(b"")
    (tmp_path / "tars/set-003.tar").write_bytes(b"no archive" * 100)
    with pytest.raises(DataError, match=r"(?s)^2 shards cannot be read:\n.*set-001\.tar is .*\n.*set-003\.tar is "):
        loaded(tmp_path / "tars")
    (tmp_path / "tars/set-000.tar").unlink()
    with pytest.raises(DataError, match=r"(?s)^2 shards cannot be read:\n.*set-000\.tar .*\n.*set-004\.tar "):
        shards.refuse_missing(cfg.Shards(train=str(tmp_path / "tars/set-{000..004}.tar")))


def test_an_archive_of_class_folders_is_told_how_to_train_on_it(tmp_path):
    said = r"set\.tar has pictures and no labels.* \(cat, dog\), unpack it: tar -xf .*set\.tar -C DIR.* data=image_fol"
    with pytest.raises(DataError, match=said):
        loaded(tar(tmp_path, PICTURES))


X = {"b.png": b"2", "b.cls": b"x"}
INCOMPLETE = {
    "no label": ({"a.png": b"1", **X}, ["set.tar: a: a picture, but neither"]),
    "no picture": ({"a.heic": b"1", "a.cls": b"x", **X}, ["set.tar: a: a label, but no picture"]),
    "two pictures": ({"a.x.png": b"1", "a.y.png": b"2", "a.cls": b"x"}, ["a: 2 pictures of one name"]),
    "no text or number": ({"a.png": b"1", "a.json": b'{"label": null}', **X}, ["a: a picture, but neither"]),
    "half a character": ({"a.png": b"1", "a.json": rb'{"label": "\ud800"}', **X}, ["a: a picture, but neither"]),
    "no json": ({"a.png": b"1", "a.json": b"{", "c.png": b"1", **X}, ["2 samples"]),
    "labels that differ": (
        {"a.png": b"1", "a.cls": b"x", "a.json": b'{"label": "y"}', **X},
        [r"set.tar: a: its \.cls and the 'label' of its \.json differ: 'x' and 'y'"],
    ),
    "an empty label": ({"a.png": b"1", "a.cls": b" \n"}, ["a: a picture, but neither"]),
}


@pytest.mark.parametrize(("members", "said"), INCOMPLETE.values(), ids=INCOMPLETE)
def test_incomplete_samples_are_named_all_at_once(tmp_path, members, said):
    with pytest.raises(DataError, match="(?s)" + ".*".join(said)):
        loaded(tar(tmp_path, members))


def test_a_broken_picture_in_a_shard_is_named(tmp_path):
    broken = layouts.samples(PICTURES | {"cat/2.png": b"no picture"})
    with pytest.raises(DataError, match=r"^set\.tar/cat/2\.png cannot be read as an image"):
        data.load(cfg.Shards(train=str(tar(tmp_path, broken)), test_fraction=0.0, val_fraction=0.0)).train.decode(2)


def test_labels_that_are_no_class_are_named(tmp_path):
    (tmp_path / "names.txt").write_text("cat\neel\n")
    with pytest.raises(DataError, match=r"set.tar: dog/0.png: 'dog'\nClasses: cat, eel"):
        loaded(tar(tmp_path, layouts.samples(PICTURES)), label_file=str(tmp_path / "names.txt"))


@pytest.mark.parametrize("cut", [100, 511, 512, 1024, 1500, 4096, 5000])
def test_an_archive_that_is_cut_off_is_refused_wherever_it_is_cut(tmp_path, cut):
    path = tar(tmp_path, layouts.samples(PICTURES))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match="set.tar is (damaged or )?cut off"):
        loaded(path)


def test_a_damaged_header_does_not_pass_for_the_end(tmp_path):
    path = tar(tmp_path, layouts.samples(PICTURES))
    content = bytearray(path.read_bytes())
    place = content.index(b"dog/0.png")
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="a header is damaged"):
        loaded(path)


def test_archives_that_were_put_together_are_not_read_by_half(tmp_path):
    one, other = (layouts.write_tar(tmp_path / f"{name}.tar", layouts.samples(PICTURES)) for name in "ab")
    (tmp_path / "both.tar").write_bytes(one.read_bytes() + other.read_bytes())
    with pytest.raises(DataError, match="both.tar has more after byte"):
        loaded(tmp_path / "both.tar")


def test_shards_are_named_by_paths_folders_globs_and_ranges(tmp_path):
    layouts.write_tars(tmp_path / "tars", PICTURES, 3)
    for pattern in (
        "tars",
        "tars/*.tar",
        "tars/set-00?.tar",
        "tars/set-{000..002}.tar",
        f"file://{tmp_path}/tars/*.tar",
    ):
        source = loaded(pattern, root=str(tmp_path))
        assert names(source.train) == NAMES, pattern
    assert len(loaded("tars/set-{000..001}.tar", root=str(tmp_path)).train) == 7


def test_brackets_in_a_path_are_part_of_it(tmp_path):
    (tmp_path / "set [1]").mkdir()
    assert len(loaded(layouts.write_tar(tmp_path / "set [1]/a.tar", layouts.samples(PICTURES))).train) == 10


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("nothing-*.tar", "names no shards"),
        ("a.tar.gz", "compressed"),
        ("a.zip", "a.zip is not a shard"),
        ("nowhere.tar", "nowhere.tar cannot be read"),
        ("set-{000..003}.tar", "set-003.tar cannot be read"),
        ("set-{000..999999999}.tar", "names 1,000,000,000 shards, and at most 1,000,000"),
        ("{0..9999}-{0..9999}.tar", "names 100,000,000 shards"),
        ("set-{3..1}.tar", "names no shards"),
        (f"set-{{0..{'9' * 5000}}}.tar", "cannot be read|names no shards"),
    ],
)
def test_what_is_no_shard_or_missing_is_named(tmp_path, pattern, said):
    layouts.write_tars(tmp_path, PICTURES, 3)
    (tmp_path / "a.tar.gz").touch()
    (tmp_path / "a.zip").touch()
    with pytest.raises(DataError, match=said):
        loaded(pattern, root=str(tmp_path))


def test_a_shard_of_two_splits_is_refused_unless_it_is_meant(tmp_path):
    layouts.write_tars(tmp_path / "tars", PICTURES, 3)
    root = str(tmp_path / "tars")
    with pytest.raises(DataError, match=r"data.train=\*.tar and data.val=set-002.tar both name set-002.tar"):
        loaded("*.tar", val="set-002.tar", root=root)
    assert len(loaded("*.tar", val="*.tar", root=root).val) == 10
    assert len(loaded("set-00[01].tar", val="set-002.tar", root=root).val) == 3


def counted(monkeypatch, module=archive):
    """How often shards were read through."""
    calls, make = [], module.pictures
    monkeypatch.setattr(module, "pictures", lambda path, *rest: calls.append(path) or make(path, *rest))
    return calls


def test_a_shard_is_read_through_once_until_it_changes(tmp_path, monkeypatch):
    path, calls = tar(tmp_path, layouts.samples(PICTURES)), counted(monkeypatch)
    first = read(loaded(path).train)
    assert read(loaded(path).train) == first
    assert len(calls) == 1
    changed = {name: content + b"more" for name, content in PICTURES.items()}
    tar(tmp_path, layouts.samples(changed))
    assert read(loaded(path).train) == changed
    assert len(calls) == 2


@pytest.mark.parametrize("change", ["empty", "cut", "flipped", "another", "folder"])
def test_a_damaged_index_is_made_again(tmp_path, monkeypatch, cache, change):
    path, calls = tar(tmp_path, layouts.samples(PICTURES)), counted(monkeypatch)
    loaded(path)
    (stored,) = cache.iterdir()
    content = stored.read_bytes()
    middle = len(content) // 2
    stored.unlink()
    match change:
        case "empty":
            stored.touch()
        case "cut":
            stored.write_bytes(content[:middle])
        case "flipped":
            stored.write_bytes(content.replace(b"cat/0.png", b"cat/0.pnh"))
        case "another":
            np.savez(stored, places=np.zeros(3))
        case "folder":
            stored.mkdir()
    assert read(loaded(path).train) == PICTURES
    assert len(calls) == 2


def test_every_byte_of_an_index_counts(tmp_path, cache):
    path = tar(tmp_path, layouts.samples(PICTURES))
    expected = loaded(path).train
    (stored,) = cache.iterdir()
    content = stored.read_bytes()
    for place in range(0, len(content), 37):
        stored.write_bytes(content[:place] + bytes([content[place] ^ 85]) + content[place + 1 :])
        split = loaded(path).train
        assert read(split) == PICTURES
        assert split.labels.tolist() == expected.labels.tolist()


def test_without_a_cache_folder_shards_are_read_all_the_same(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert read(loaded(tar(tmp_path, layouts.samples(PICTURES))).train) == PICTURES


def test_a_wrong_shard_leaves_no_index(tmp_path, cache):
    with pytest.raises(DataError):
        loaded(tar(tmp_path, {"a.png": b"1"}))
    assert not cache.exists()


def test_a_shard_that_becomes_shorter_while_it_is_read_is_named(tmp_path):
    path = tar(tmp_path, layouts.samples(PICTURES))
    split = loaded(path).train
    with path.open("r+b") as stream:
        stream.truncate(700)
    with pytest.raises(DataError, match="set.tar: 0 bytes arrived .*has changed"):
        split.pictures.read(len(split) - 1)


def test_more_shards_than_a_process_keeps_open_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_descriptor", functools.lru_cache(maxsize=2)(storage._descriptor.__wrapped__))
    layouts.write_tars(tmp_path / "tars", PICTURES, 5)
    split = loaded(tmp_path / "tars").train
    before = len(os.listdir("/proc/self/fd"))
    assert [read(split) for _ in range(3)] == [PICTURES] * 3
    assert len(os.listdir("/proc/self/fd")) <= before + 2


@pytest.mark.parametrize(
    "options", [{}, {"is_binary": True}, {"use_dictionary": False}, {"compression": "none"}, {"rows": 100}]
)
def test_parquet_has_pictures_in_a_column(tmp_path, options):
    source = shards.load(layouts.write_parquet(tmp_path / "a.parquet", PICTURES, **options))
    splits = source.splits.values()
    content = [split.pictures.read(place) for split in splits for place in range(len(split))]
    assert sorted(content) == sorted(PICTURES.values())
    assert source.classes == ["cat", "dog"]
    assert sum(np.bincount(split.labels) for split in splits).tolist() == [5, 5]


def test_names_of_classes_come_from_parquet_itself_in_its_order(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    noted = {b"huggingface": b'{"info": {"features": {"label": {"names": ["zebra", "ant"], "_type": "ClassLabel"}}}}'}
    table = pa.table({"image": [b"1", b"2"], "label": pa.array([1, 0], pa.int8())}).replace_schema_metadata(noted)
    pq.write_table(table, tmp_path / "a.parquet")
    source = loaded(tmp_path / "a.parquet")
    assert source.classes == ["zebra", "ant"]
    assert source.train.labels.tolist() == [1, 0]
    assert source.train.name(1) == "a.parquet/row 1"


def test_names_of_classes_that_parquet_has_twice_are_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    noted = {b"huggingface": b'{"info": {"features": {"label": {"names": ["ant", "ant"], "_type": "ClassLabel"}}}}'}
    table = pa.table({"image": [b"1", b"2"], "label": pa.array([1, 0], pa.int8())}).replace_schema_metadata(noted)
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="have 'ant' twice"):
        loaded(tmp_path / "a.parquet")


def test_shards_without_pictures_or_without_any_label_are_named(tmp_path):
    with pytest.raises(DataError, match=r"set\.tar: no pictures"):
        loaded(tar(tmp_path, {}))
    unlabelled = {"a.png": PICTURES[NAMES[0]], "a.json": b'{"label": []}'}
    with pytest.raises(DataError, match=r"No image of .*set\.tar has a label"):
        loaded(tar(tmp_path, unlabelled), labels=cfg.Labels.many)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"img": [b"1"], "label": [0]}, r"no column 'image' \(data.image_column\)"),
        ({"image": [b"1"], "class": [0]}, r"no column 'label' \(data.label_column\)"),
        ({"image": ["text"], "label": [0]}, "column 'image' has string"),
        ({"image": [{"path": "a.png"}], "label": [0]}, "column 'image' has struct"),
        ({"image": [b"1", None], "label": [0, 1]}, "a.parquet: row 1: no bytes in 'image'"),
        ({"image": [b"1", b"2"], "label": [0, None]}, "a.parquet: row 1: no label in 'label'"),
    ],
)
def test_parquet_without_pictures_or_labels_is_named(tmp_path, columns, said):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=said):
        loaded(tmp_path / "a.parquet")


@pytest.mark.parametrize("place", [0.3, 0.9])
def test_damaged_parquet_is_named(tmp_path, place):
    layouts.write_parquet(tmp_path / "a.parquet", PICTURES, rows=100, compression="zstd")
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    begin = int(place * len(content))
    content[begin : begin + 64] = os.urandom(64)
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(DataError, match="a.parquet (is damaged, or not Parquet|cannot be read)"):
        loaded(tmp_path / "a.parquet")


def test_row_groups_are_kept_within_bounds_and_those_too_large_refused(tmp_path, monkeypatch):
    pictures = {f"{name}/{number}.png": os.urandom(10_000) for name in ("cat", "dog") for number in range(20)}
    split = loaded(layouts.write_parquet(tmp_path / "a.parquet", pictures, rows=4).train).train
    monkeypatch.setattr(parquet, "KEPT", 100_000)
    monkeypatch.setattr(parquet, "_groups", type(parquet._groups)())
    for place in np.random.default_rng(0).integers(0, len(split), 100):
        assert split.pictures.read(place) == pictures[split.pictures.names[place]]
        assert sum(group.nbytes for group in parquet._groups.values()) <= 100_000
    assert len(parquet._groups) == 2
    monkeypatch.setattr(parquet, "LARGEST_GROUP", 10_000)
    parquet._groups.clear()
    with pytest.raises(DataError, match="row group 0 has 0 MB of 'image.bytes'.*row_group_size=100"):
        split.pictures.read(0)


def test_what_is_read_of_an_epoch_is_the_same_for_any_number_of_workers_and_after_resuming(tmp_path):
    configs = [
        layouts.write_tars(tmp_path / "tars", PICTURES, 3),
        layouts.write_parquet(tmp_path / "a.parquet", PICTURES),
    ]
    for config in configs:
        config.image_size, config.batch_size, config.test_fraction, config.val_fraction = 4, 2, 0.0, 0.0

        def epoch(workers, start=0, config=config):
            config.workers = workers
            return [
                (batch.indices.tolist(), batch.images.numpy().tobytes())
                for batch in data.build(config, 3).train.epoch(1, start)
            ]

        whole = epoch(0)
        assert len(whole) == 5
        assert epoch(2) == whole
        assert epoch(2, start=2) == whole[2:]


def test_threads_that_open_a_shard_at_once_all_read_it(tmp_path):
    (tmp_path / "one.tar").write_bytes(bytes(range(200)))
    with ThreadPoolExecutor(16) as pool:
        for _ in range(100):
            storage._descriptor.cache_clear()
            read = pool.map(lambda at: storage.read(str(tmp_path / "one.tar"), at, 1), range(64))
            assert list(read) == [bytes([at]) for at in range(64)]

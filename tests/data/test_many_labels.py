"""Images with many labels: read from every layout, divided, limited, matched and counted."""

from __future__ import annotations

import json

import numpy as np
import pytest

from runner import config as cfg
from runner import data
from runner.data import about, check, identity
from runner.errors import DataError
from tests.data import layouts

NAMES = ["a.png", "b.png", "c.png", "d.png"]
#: Of `NAMES`; the last has none.
LABELS = [["cat", "dog"], ["dog"], ["cat", "owl"], []]
ROWS = [[1, 1, 0], [0, 1, 0], [1, 0, 1], [0, 0, 0]]
MANY = {"labels": cfg.Labels.many, "val_fraction": 0, "test_fraction": 0, "image_size": 4}


@pytest.fixture
def root(tmp_path):
    layouts.write_folder(tmp_path, layouts.drawn(NAMES))
    return tmp_path


def listed(root, name, text, **more):
    (root / name).write_text(text)
    return cfg.FileList(root=str(root), train=str(root / name), **MANY | more)


def table(header, texts):
    rows = [f"{name},{text}" for name, text in zip(NAMES, texts, strict=True)]
    return "\n".join([header, *rows, ""])


def tars(root):
    pictures = layouts.drawn(NAMES)
    members = dict(pictures)
    for name, labels in zip(NAMES, LABELS, strict=True):
        members[name.replace(".png", ".json")] = json.dumps({"label": labels}).encode()
    layouts.write_tar(root / "set.tar", members)
    return cfg.Shards(root=str(root), train="set.tar", **MANY)


def parquet(root):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pictures = layouts.drawn(NAMES)
    images = [{"bytes": content, "path": name} for name, content in pictures.items()]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = {"image": pa.array(images, kind), "label": pa.array(LABELS, pa.list_(pa.string()))}
    pq.write_table(pa.table(table), root / "set.parquet")
    return cfg.Shards(root=str(root), train="set.parquet", **MANY)


WRITTEN = {
    "names in one column": lambda root: listed(
        root, "list.csv", table("path,label", (";".join(own) for own in LABELS))
    ),
    "columns of zeros and ones": lambda root: listed(
        root, "list.csv", table("path,cat,dog,owl", (",".join(map(str, row)) for row in ROWS)),
        label_columns=["cat", "dog", "owl"],
    ),
    "tar archives": tars,
    "parquet": parquet,
}  # fmt: skip


@pytest.mark.parametrize("layout", WRITTEN)
def test_every_layout_has_a_row_an_image(root, layout):
    source = data.load(WRITTEN[layout](root))
    assert source.classes == ["cat", "dog", "owl"]
    assert source.train.labels.dtype == np.uint8
    assert source.train.labels.tolist() == ROWS


def test_lists_of_paddleclas_name_classes_by_their_place(root):
    text = "".join(f"{name}\t{','.join(map(str, row))}\n" for name, row in zip(NAMES, ROWS, strict=True))
    (root / "names.txt").write_text("0 cat\n1 dog\n2 owl\n")
    source = data.load(listed(root, "list.txt", text, label_file=str(root / "names.txt")))
    assert (source.classes, source.train.labels.tolist()) == (["cat", "dog", "owl"], ROWS)


@pytest.mark.parametrize("names", [["cat", "dog", "owl"], ["1", "2", "3"], ["3", "2", "1"], ["0", "1", "2"]])
def test_a_file_names_columns_without_a_header_one_after_the_other(root, names):
    (root / "names.txt").write_text("\n".join(names))
    text = table("", (",".join(map(str, row)) for row in ROWS)).lstrip("\n")
    more = {"path_column": "0", "label_columns": ["1", "2", "3"], "label_file": str(root / "names.txt")}
    source = data.load(listed(root, "list.csv", text, **more))
    assert (source.classes, source.train.labels.tolist()) == (names, ROWS)


def test_a_file_may_name_more_classes_than_there_are_columns_but_no_others(root):
    text = table("path,cat,dog,owl", (",".join(map(str, row)) for row in ROWS))
    config = listed(root, "list.csv", text, label_columns=["cat", "dog", "owl"], label_file=str(root / "names.txt"))
    (root / "names.txt").write_text("owl\nfox\ndog\ncat\n")
    source = data.load(config)
    assert [[source.classes[place] for place in np.flatnonzero(row)] for row in source.train.labels] == [
        ["dog", "cat"], ["dog"], ["owl", "cat"], [],
    ]  # fmt: skip
    (root / "names.txt").write_text("owl\nfox\ncat\n")
    with pytest.raises(DataError, match=r"(?s)does not have the names of the columns.*columns: cat, dog, owl"):
        data.load(config)


def test_images_that_all_have_one_label_are_rows_too(root):
    source = data.load(listed(root, "list.txt", "a.png cat\nb.png dog\nc.png cat\n"))
    assert source.train.labels.tolist() == [[1, 0], [0, 1], [1, 0]]
    digits = data.load(cfg.Digits(labels=cfg.Labels.many, image_size=8))
    assert all((split.labels.sum(axis=1) == 1).all() for split in digits.splits.values())


@pytest.mark.parametrize("layout", WRITTEN)
def test_without_the_key_it_is_refused_and_named(root, layout):
    config = WRITTEN[layout](root)
    config.labels = cfg.Labels.one
    with pytest.raises(DataError, match="data.labels=many loss=bce"):
        data.load(config)


WRONG = [np.full((40, 3), 2, np.uint8), np.zeros((40, 2), np.uint8), np.zeros((40, 3))]


def sets(images=40, classes=3, seed=0):
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (images, 4, 4, 3), dtype=np.uint8)
    return data.Images(pixels, (generator.random((images, classes)) < 0.4).astype(np.uint8))


def mine(wrong=None):
    """A set of one's own, or one whose labels are none."""
    split = sets()
    return data.Source(
        "mine", ["a", "b", "c"], train=split if wrong is None else data.Images(split.images, WRONG[wrong])
    )


def own(**more):
    return cfg.CustomData(target=f"{__name__}:mine", labels=cfg.Labels.many, image_size=4, **more)


@pytest.mark.parametrize("wrong", range(len(WRONG)))
def test_arrays_of_ones_own_are_rows_of_zeros_and_ones(wrong):
    with pytest.raises(DataError, match=r"labels must be uint8 \[40, 3\] of 0 and 1"):
        data.load(own(kwargs={"wrong": wrong}))


def test_splits_are_held_out_and_limits_take_every_set_of_labels():
    divided = data.load(own(val_fraction=0.25))
    assert (len(divided.train), len(divided.val)) == (30, 10)
    few = data.load(own(val_fraction=0.25, limit=8)).train.labels
    assert len(few) == 8
    assert len(np.unique(few, axis=0)) == len(np.unique(divided.train.labels, axis=0))


def test_labels_follow_the_classes_of_weights():
    expected = data.ExpectedClasses(["c", "x", "a", "b"], "weights", data.ClassMismatch.subset)
    labels = data.load(own(val_fraction=0), expected).train.labels
    np.testing.assert_array_equal(labels[:, [2, 3, 0]], sets().labels)
    assert not labels[:, 1].any()


def test_batches_have_rows_and_a_set_is_counted_and_known_by_them():
    split = sets()
    source = data.Source(
        "mine", ["a", "b", "c", "d"], train=data.Images(split.images, np.pad(split.labels, [(0, 0), (0, 1)]))
    )
    config = cfg.CustomData(labels=cfg.Labels.many, batch_size=16, image_size=4)
    loaders = data.build(config, 0, source=source)
    batch = next(loaders.train.epoch(0))
    assert batch.labels.dtype.name == "UINT8"
    np.testing.assert_array_equal(batch.labels.numpy(), source.train.labels[batch.indices])
    assert (loaders.many, loaders.unseen) == (True, ["d"])
    looked = check.inspect(source, config)
    numbers, _ = about.of(source, looked, config)
    assert numbers.classes == {
        name: [int(count)] for name, count in zip("abcd", [*split.labels.sum(axis=0), 0], strict=True)
    }
    before = identity.digests(source)["train"]
    source.train.labels[0, 0] ^= 1
    assert identity.difference(before, identity.digests(source)["train"]) == "has other labels"


def test_a_picture_twice_with_other_labels_is_a_duplicate(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    pixels[1] = pixels[0]
    pixels[3] = pixels[2]
    labels = np.array([[1, 0], [1, 1], [0, 1], [0, 1]], np.uint8)
    source = data.Source("mine", ["a", "b"], train=data.Images(pixels, labels))
    config = cfg.CustomData(labels=cfg.Labels.many, image_size=16)
    other, same = about.of(source, check.inspect(source, config), config)[0].overlaps
    assert (other.first, other.second, other.equal, other.in_class) == ("train", "train", 1, False)
    assert (same.first, same.second, same.equal, same.in_class) == ("train", "train", 1, True)

"""Soft labels: numbers of each class for an image, from a table or a user's function."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import config as cfg
from runner import data
from runner.data import identity, labels, soft
from runner.data.augment import mix
from runner.data.matching import ExpectedClasses
from runner.data.samplers import order, quotas_of
from runner.data.splits import Images, Source
from runner.errors import DataError
from tests.data import layouts

NAMES = ["a.png", "b.png", "c.png", "d.png"]
ROWS = [[3, 1, 0], [0, 0.25, 0.75], [1, 0, 0], [0, 2, 2]]
COLUMNS = ["cat", "dog", "owl"]
SOFT = {"labels": cfg.Labels.soft, "image_size": 4, "batch_size": 4}


def listed(root, rows, **more):
    layouts.write_folder(root, layouts.drawn(NAMES))
    lines = [f"{name},{','.join(map(str, row))}" for name, row in zip(NAMES, rows, strict=True)]
    (root / "votes.csv").write_text("\n".join(["path,cat,dog,owl", *lines, ""]))
    own = {"label_columns": COLUMNS, "val_fraction": 0.0, "test_fraction": 0.0} | SOFT | more
    return cfg.FileList(root=str(root), train=str(root / "votes.csv"), **own)


def test_columns_of_a_table_are_shares_of_the_classes(tmp_path):
    source = data.load(listed(tmp_path, ROWS))
    assert source.classes == COLUMNS
    assert source.train.labels.tolist() == [0, 2, 0, 1]
    np.testing.assert_allclose(source.train.soft, np.array(ROWS) / np.sum(ROWS, axis=1, keepdims=True), rtol=1e-6)
    assert source.train.soft.dtype == np.float32


def test_a_file_of_names_puts_the_columns_in_its_order(tmp_path):
    (tmp_path / "names.txt").write_text("owl\ncat\ndog\n")
    source, plain = (
        data.load(listed(tmp_path, ROWS, **more)) for more in ({"label_file": str(tmp_path / "names.txt")}, {})
    )
    assert source.classes == ["owl", "cat", "dog"]
    np.testing.assert_array_equal(source.train.soft, plain.train.soft[:, [2, 0, 1]])
    assert [source.classes[label] for label in source.train.labels] == ["cat", "owl", "cat", "owl"]


def test_a_file_names_columns_that_are_numbers_in_its_order(tmp_path):
    (tmp_path / "names.txt").write_text("owl\ncat\ndog\n")
    config = listed(tmp_path, ROWS, label_columns=["1", "2", "3"], path_column="0")
    table = tmp_path / "votes.csv"
    table.write_text(table.read_text().partition("\n")[2])
    source = data.load(replace(config, label_file=str(tmp_path / "names.txt")))
    assert [source.classes[label] for label in source.train.labels] == ["owl", "dog", "owl", "cat"]


@pytest.mark.parametrize("names", ["owl\ncat\nfox\n", "owl\ncat\n", "owl\ncat\ndog\nfox\n"])
def test_a_file_of_other_names_than_the_columns_is_refused(tmp_path, names):
    (tmp_path / "names.txt").write_text(names)
    with pytest.raises(DataError, match=r"does not have the names of the columns[\s\S]*columns: cat, dog, owl"):
        data.load(listed(tmp_path, ROWS, label_file=str(tmp_path / "names.txt")))


@pytest.mark.parametrize("more", [{}, {"label_file": "names.txt"}])
def test_shares_in_a_list_without_columns_are_refused(tmp_path, more):
    config = listed(tmp_path, ROWS, **more)
    (tmp_path / "names.txt").write_text("cat\ndog\nowl\n")
    (tmp_path / "votes.txt").write_text("".join(f"{name} 0\n" for name in NAMES))
    with pytest.raises(DataError, match=r"votes\.txt has no columns, and data\.label_columns names some"):
        data.load(replace(config, train=str(tmp_path / "votes.txt")))


def test_training_sees_shares_and_evaluation_the_most_probable_class():
    config = cfg.CustomData(target="tests.samples:voted", **SOFT | {"image_size": 8, "val_fraction": 0.25})
    loaders = data.build(config, seed=0)
    assert (len(loaders.source.train), len(loaders.source.val)) == (18, 6)
    for batch in loaders.train.epoch(0):
        np.testing.assert_array_equal(batch.labels.numpy(), loaders.source.train.soft[batch.indices])
        np.testing.assert_array_equal(batch.labels.numpy().argmax(axis=1), loaders.source.train.labels[batch.indices])
    assert {str(batch.labels.dtype) for batch in loaders.val} == {"paddle.int64"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([0, 0, 0], "votes.csv:3: not numbers of at least 0, one of them above it: 0, 0, 0"),
        ([1, -1, 1], r"votes.csv:3: not numbers of at least 0, one of them above it: 1, -1, 1"),
        (["nan", 0, 1], "votes.csv:3: not numbers of at least 0"),
        (["much", 0, 1], "votes.csv:3: not numbers of at least 0"),
        (["", 0, 1], "votes.csv:3: not numbers of at least 0"),
    ],
)
def test_what_is_no_share_is_named_with_its_line(tmp_path, row, said):
    with pytest.raises(DataError, match=said):
        data.load(listed(tmp_path, [ROWS[0], row, *ROWS[2:]]))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.zeros(4, np.int64), "an image a row and a class a column, not int64 \\[4\\]"),
        (np.ones((4, 2)), r"numbers \[4, 3\]"),
        (np.array([[1, 0, 0]] * 3 + [[np.nan, 1, 0]]), "finite numbers of at least 0"),
        (np.array([[1, 0, 0]] * 3 + [[np.inf, 1, 0]]), "finite numbers of at least 0"),
        (np.array([[1, 0, 0]] * 3 + [[2, -1, 0]]), "finite numbers of at least 0"),
        (np.array([["a", "b", "c"]] * 4), "needs labels that are numbers"),
    ],
)
def test_labels_of_a_function_that_are_no_shares_are_refused(labels, said):
    source = Source("own", COLUMNS, Images(np.zeros((4, 8, 8, 3), np.uint8), labels))
    with pytest.raises(DataError, match=said):
        soft.divided(source)


def test_shares_that_were_not_asked_for_are_pointed_to():
    config = cfg.CustomData(target="tests.samples:voted", image_size=8)
    with pytest.raises(DataError, match=r"labels must be int64 \[N\].*data\.labels=soft"):
        data.load(config)


def test_shares_follow_the_order_of_the_weights_classes(tmp_path):
    expected = ExpectedClasses(["owl", "cat", "dog"], "a run")
    own, other = data.load(listed(tmp_path, ROWS)), data.load(listed(tmp_path, ROWS), expected)
    np.testing.assert_array_equal(other.train.soft, own.train.soft[:, [2, 0, 1]])
    assert [other.classes[label] for label in other.train.labels] == [own.classes[label] for label in own.train.labels]


@pytest.mark.parametrize("sampler", [cfg.Sampler.shuffle, cfg.Sampler.balanced])
def test_the_shares_of_an_epoch_are_those_of_its_images(sampler):
    config = cfg.CustomData(
        target="tests.samples:voted", sampler=sampler, **SOFT | {"image_size": 8, "val_fraction": 0}
    )
    train = data.build(config, seed=0).source.train
    counts = labels.class_counts(train.labels, train.soft.shape[1])
    expected = np.zeros(len(counts))
    for epoch in range(60):
        expected += train.soft[order(sampler, 0, epoch, train.labels)].sum(axis=0, dtype=np.float64) / 60
    found = labels.epoch_shares(train.labels, train.soft, quotas_of(sampler, counts))
    np.testing.assert_allclose(found, expected, rtol=0.02)
    # Also of a class that no image has most of.
    soft = np.array([[0.5, 0.3, 0.2]] * 4, np.float32)
    found = labels.epoch_shares(np.zeros(4, np.int64), soft, np.array([4, 0, 0]))
    np.testing.assert_allclose(found, [2, 1.2, 0.8], rtol=1e-6)


def test_other_shares_are_another_set(tmp_path):
    """Also where the most probable classes stay."""
    before = identity.digests(data.load(listed(tmp_path, ROWS)))["train"]
    after = identity.digests(data.load(listed(tmp_path, [[5, 1, 0], *ROWS[1:]])))["train"]
    assert identity.difference(before, after) == "has other labels"


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 9), st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_mixed_shares_are_the_mixed_rows(images, classes, seed):
    generator = np.random.default_rng(seed)
    labels = generator.dirichlet(np.ones(classes), images).astype(np.float32)
    partners, shares = generator.permutation(images), generator.random(images)
    found = mix.targets(labels, partners, shares, classes)
    np.testing.assert_allclose(found, shares[:, None] * labels + (1 - shares[:, None]) * labels[partners], rtol=1e-6)
    hard = generator.integers(0, classes, images)
    one_hot = np.eye(classes, dtype=np.float32)[hard]
    np.testing.assert_allclose(
        mix.targets(hard, partners, shares, classes), mix.targets(one_hot, partners, shares, classes), rtol=1e-6
    )


def test_a_selection_has_its_own_shares(tmp_path):
    split = data.load(listed(tmp_path, ROWS)).train
    np.testing.assert_array_equal(split.select(np.array([2, 0])).soft, split.soft[[2, 0]])
    assert replace(split).soft is split.soft


def test_what_an_evaluation_sees_of_soft_labels_is_what_it_sees_of_their_classes(tmp_path):
    source = data.load(listed(tmp_path, ROWS))
    (tmp_path / "classes.csv").write_text("path,label\na.png,cat\nb.png,owl\nc.png,cat\nd.png,dog\n")
    hard = data.load(
        cfg.FileList(root=str(tmp_path), train=str(tmp_path / "classes.csv"), val_fraction=0.0, test_fraction=0.0)
    )
    assert identity.compared(source) == identity.digests(hard)
    assert identity.digests(source) != identity.digests(hard)
    assert identity.compared(hard) == {}

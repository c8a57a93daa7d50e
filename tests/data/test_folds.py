"""How training images are divided into folds, and that groups stay whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import config as cfg
from runner import data
from runner.config.rules.data import problems
from runner.data import Images, folds
from runner.errors import DataError

from . import layouts

SYNTHETIC = {"image_size": 8, "train_images": 103, "classes": 4}


def split_of(labels, groups=None):
    return Images(np.zeros((len(labels), 1, 1, 3), np.uint8), labels, groups)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(60, 200), st.integers(2, 4), st.integers(2, 6))
def test_every_image_is_held_out_once_and_every_class_is_spread_evenly(seed, size, classes, count):
    labels = np.arange(size) % classes
    parts = [folds.fold(split_of(labels), count, number, seed, "abcd")[1] for number in range(count)]
    assert sorted(np.concatenate(parts)) == list(range(size))
    assert np.ptp([len(part) for part in parts]) <= 1
    assert np.ptp([np.bincount(labels[part], minlength=classes) for part in parts], axis=0).max() <= 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(2, 5))
def test_groups_are_never_on_both_sides_and_classes_are_shared_out(seed, count):
    generator = np.random.default_rng(seed)
    groups = np.repeat(np.arange(80), generator.integers(1, 6, 80))
    labels = (groups + generator.integers(0, 2, len(groups))) % 4
    parts = [folds.fold(split_of(labels, groups), count, number, seed, "abcd") for number in range(count)]
    for kept, held_out in parts:
        assert not set(groups[kept]) & set(groups[held_out])
        assert abs(np.bincount(labels[held_out]) / np.bincount(labels) - 1 / count).max() < 0.1
    assert sorted(np.concatenate([held_out for _, held_out in parts])) == list(range(len(labels)))


def test_a_part_that_is_held_out_has_whole_groups_too():
    groups = np.arange(300) // 3
    kept, held_out = folds.hold_out(split_of(np.arange(300) // 3 % 5, groups), 0.2, 0, "abcde")
    assert not set(groups[kept]) & set(groups[held_out])
    assert 54 <= len(held_out) <= 66


def test_groups_of_images_with_many_labels_stay_whole():
    groups = np.arange(120) // 4
    labels = (np.random.default_rng(0).random((120, 3)) < 0.4).astype(np.uint8)
    kept, held_out = folds.fold(split_of(labels, groups), 3, 1, 0, "abc")
    assert not set(groups[kept]) & set(groups[held_out])
    assert 32 <= len(held_out) <= 48


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.integers(100, 400), st.integers(2, 12), st.integers(2, 6))
def test_every_label_of_many_is_spread_evenly(seed, size, classes, count):
    generator = np.random.default_rng(seed)
    labels = (generator.random((size, classes)) < np.geomspace(0.5, 0.05, classes)).astype(np.uint8)
    # A label that each fold keeps an image of.
    labels[: 2 * count] = 1
    parts = [folds.fold(split_of(labels), count, number, seed, "abcdefghijkl"[:classes])[1] for number in range(count)]
    assert sorted(np.concatenate(parts)) == list(range(size))
    assert abs(np.array([labels[part].sum(axis=0) for part in parts]) - labels.sum(axis=0) / count).max() <= 4
    assert abs(np.array([len(part) for part in parts]) - size / count).max() <= 6


def test_a_class_that_is_in_one_group_alone_is_named():
    labels = np.array([0, 0, 1, 1, 1, 1])
    groups = np.array([0, 0, 1, 2, 3, 4])
    with pytest.raises(DataError, match="fold . of 2 leaves no image of class rare to train on"):
        [folds.fold(split_of(labels, groups), 2, number, 0, ["rare", "usual"]) for number in range(2)]


def test_the_folds_of_a_set_are_its_training_images_and_the_test_stays():
    whole = data.load(cfg.Synthetic(**SYNTHETIC, val_fraction=0))
    sources = [data.load(cfg.Synthetic(**SYNTHETIC, folds=4, fold=number)) for number in range(4)]
    held_out = np.concatenate([source.val.images for source in sources])
    assert sorted(image.tobytes() for image in held_out) == sorted(image.tobytes() for image in whole.train.images)
    for source in sources:
        assert len(source.train) + len(source.val) == 103
        assert np.array_equal(source.test.images, whole.test.images)
    other = data.load(cfg.Synthetic(**SYNTHETIC, folds=4, split_seed=1))
    assert not np.array_equal(other.val.images, sources[0].val.images)


def test_a_column_of_a_list_names_the_groups(tmp_path):
    names = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(12)]
    layouts.write_folder(tmp_path / "set", layouts.drawn(names))
    # In an order that is not that of the paths.
    rows = [f"{name},{name[:3]},owner{int(name[4:-4]) // 3}" for name in reversed(names)]
    (tmp_path / "set" / "list.csv").write_text("\n".join(["path,label,owner", *rows]) + "\n")
    config = cfg.FileList(train=str(tmp_path / "set" / "list.csv"), group_column="owner", folds=4, test_fraction=0)
    owners = []
    for number in range(4):
        source = data.load(cfg.FileList(**{**vars(config), "fold": number}))
        sides = [{int(name[4:-4]) // 3 for name in split.names()} for split in (source.train, source.val)]
        assert not sides[0] & sides[1]
        owners += sides[1]
    assert sorted(owners) == [0, 1, 2, 3]


def test_a_list_without_columns_has_no_groups(tmp_path):
    (tmp_path / "list.txt").write_text("a.png cat\n")
    with pytest.raises(DataError, match="has no columns"):
        data.load(cfg.FileList(train=str(tmp_path / "list.txt"), group_column="owner"))


def test_an_image_without_a_group_is_named_with_its_line(tmp_path):
    (tmp_path / "list.csv").write_text("path,label,owner\na.png,cat,one\nb.png,cat,\n")
    with pytest.raises(DataError, match=r"list.csv:3.*no group"):
        data.load(cfg.FileList(train=str(tmp_path / "list.csv"), group_column="owner"))


def test_a_set_with_a_validation_split_has_no_folds(tmp_path):
    layouts.write_folder(
        tmp_path,
        layouts.drawn([f"{split}/{name}/{n}.png" for split in ("train", "val") for name in "ab" for n in "12"]),
    )
    with pytest.raises(DataError, match=r"data.folds=2.*has a validation split"):
        data.load(cfg.ImageFolder(root=str(tmp_path), folds=2))


@pytest.mark.parametrize("keys", [{"folds": 5, "fold": 5}, {"fold": 1}])
def test_a_fold_that_there_is_not_is_refused(keys):
    [problem] = problems(cfg.Config(data=cfg.Synthetic(**keys)))
    assert problem.startswith(f"data.fold={keys['fold']}: folds are numbered")

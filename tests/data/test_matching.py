"""Labels of images follow the names that weights know."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from runner import data
from runner.data import ClassMismatch, ExpectedClasses, Images, Source, matching
from runner.errors import DataError

from . import layouts

PIXELS = np.zeros((3, 2, 2, 3), np.uint8)


def source(*names, labels=(0, 1, 0)):
    return Source("pets", list(names), Images(PIXELS, np.array(labels)), test=Images(PIXELS, np.array(labels)))


def test_another_order_changes_the_labels_of_every_split_and_nothing_of_the_source():
    given = source("eel", "cat")
    matched = matching.match(given, ExpectedClasses(["cat", "eel"], "run"))
    assert matched.classes == ["cat", "eel"]
    assert matched.train.labels.tolist() == matched.test.labels.tolist() == [1, 0, 1]
    assert given.train.labels.tolist() == [0, 1, 0]


def test_a_source_keeps_its_own_order_whatever_is_done_with_it():
    given = source("eel", "cat")
    known = ExpectedClasses(["ant", "cat", "eel"], "run", ClassMismatch.subset)
    matched = matching.match(given, known)
    assert given.own_order == ["eel", "cat"]
    assert matched.own_order == ["eel", "cat", "ant"]
    assert matching.match(matched, ExpectedClasses(["eel", "cat", "ant"], "run")).own_order == ["eel", "cat", "ant"]


def test_fewer_classes_keep_the_places_that_weights_have_for_them():
    known = ExpectedClasses(["ant", "cat", "eel"], "run", ClassMismatch.subset)
    assert matching.match(source("eel", "cat"), known).train.labels.tolist() == [2, 1, 2]
    with pytest.raises(DataError, match="not those of run: ant is missing"):
        matching.match(source("eel", "cat"), ExpectedClasses(known.names, "run"))


@pytest.mark.parametrize("differing", [ClassMismatch.refused, ClassMismatch.subset])
def test_other_classes_are_refused_with_both_lists(differing):
    with pytest.raises(DataError, match=r"they lack zebra\.\n  images:  zebra, cat\n  weights: cat, eel\n"):
        matching.match(source("zebra", "cat"), ExpectedClasses(["cat", "eel"], "run", differing))


def test_images_may_keep_classes_of_their_own():
    given = source("zebra", "cat")
    assert matching.match(given, ExpectedClasses(["cat", "eel"], "run", ClassMismatch.ignored)) is given


def test_what_is_held_out_stays_where_the_classes_of_a_list_change_their_order(tmp_path):
    pictures = layouts.drawn([f"{name}/{number:02}.png" for name in ("ant", "cat", "eel") for number in range(9)])
    layouts.write_folder(tmp_path / "set", pictures)
    listed = layouts.write_list(tmp_path / "list.txt", tmp_path / "set", pictures)
    held = []
    for order in (["ant", "cat", "eel"], ["eel", "ant", "cat"]):
        (tmp_path / "names.txt").write_text("\n".join(order))
        config = replace(listed, label_file=str(tmp_path / "names.txt"))
        loaded = data.load(config, ExpectedClasses(["ant", "cat", "eel"], "run"))
        held.append({split: list(part.pictures.names) for split, part in loaded.splits.items()})
    assert held[0]["test"]
    assert held[0] == held[1]


def test_tens_of_thousands_of_classes_are_matched_at_once():
    names = [f"n{number:08}" for number in range(20_000)]
    labels = np.arange(3)
    begin = time.perf_counter()
    matched = matching.match(source(*names[::-1], labels=labels), ExpectedClasses(names, "run"))
    assert time.perf_counter() - begin < 1
    assert matched.train.labels.tolist() == [19_999, 19_998, 19_997]

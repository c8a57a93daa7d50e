"""Labels of images follow the names that weights know."""

from __future__ import annotations

import time

import numpy as np
import pytest

from runner.data import Differing, Images, Known, Source, matching
from runner.errors import DataError

PIXELS = np.zeros((3, 2, 2, 3), np.uint8)


def source(*names, labels=(0, 1, 0)):
    return Source("pets", list(names), Images(PIXELS, np.array(labels)), test=Images(PIXELS, np.array(labels)))


def test_another_order_changes_the_labels_of_every_split_and_nothing_of_the_source():
    given = source("eel", "cat")
    matched = matching.match(given, Known(["cat", "eel"], "run"))
    assert matched.classes == ["cat", "eel"]
    assert matched.train.labels.tolist() == matched.test.labels.tolist() == [1, 0, 1]
    assert given.train.labels.tolist() == [0, 1, 0]


def test_fewer_classes_keep_the_places_that_weights_have_for_them():
    known = Known(["ant", "cat", "eel"], "run", Differing.fewer)
    assert matching.match(source("eel", "cat"), known).train.labels.tolist() == [2, 1, 2]
    with pytest.raises(DataError, match="not those of run: ant is missing"):
        matching.match(source("eel", "cat"), Known(known.names, "run"))


@pytest.mark.parametrize("differing", [Differing.refused, Differing.fewer])
def test_other_classes_are_refused_with_both_lists(differing):
    with pytest.raises(DataError, match=r"it does not know zebra\.\n  images:  zebra, cat\n  weights: cat, eel\n"):
        matching.match(source("zebra", "cat"), Known(["cat", "eel"], "run", differing))


def test_images_may_keep_classes_of_their_own():
    given = source("zebra", "cat")
    assert matching.match(given, Known(["cat", "eel"], "run", Differing.kept)) is given


def test_tens_of_thousands_of_classes_are_matched_at_once():
    names = [f"n{number:08}" for number in range(20_000)]
    labels = np.arange(3)
    begin = time.perf_counter()
    matched = matching.match(source(*names[::-1], labels=labels), Known(names, "run"))
    assert time.perf_counter() - begin < 1
    assert matched.train.labels.tolist() == [19_999, 19_998, 19_997]

"""Pictures that are in a set twice are found: equal ones, resaved ones, and those under two classes."""

from __future__ import annotations

import io
import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from runner.data import duplicates, facts

from .pictures import encoded, photo


def facts_of(*contents):
    return np.stack([facts.decoded(content, 1_000_000) for content in contents])


def find(**splits):
    """What is found in splits of (content, label)."""
    known = {name: facts_of(*(content for content, _ in pictures)) for name, pictures in splits.items()}
    labels = {name: np.array([label for _, label in pictures]) for name, pictures in splits.items()}
    return duplicates.find(known, labels)


PNG = [encoded(photo(seed, 200, 150), "PNG") for seed in range(8)]


def test_different_pictures_are_no_duplicates():
    found = find(train=[(PNG[0], 0), (PNG[1], 1)], val=[(PNG[2], 0)], test=[(PNG[3], 1)])
    assert (found.overlaps, found.looked_at, found.complete) == ([], 4, True)


def test_equal_files_of_two_splits_are_found():
    found = find(train=[(PNG[0], 0), (PNG[1], 1), (PNG[1], 1)], test=[(PNG[2], 0), (PNG[1], 1)])
    twice = duplicates.Overlap("train", "train", 1, 0, [(1, 2)], in_class=True)
    assert found.overlaps == [duplicates.Overlap("train", "test", 1, 0, [(1, 1)]), twice]


@pytest.mark.parametrize(
    "change",
    [
        lambda image: encoded(image, "JPEG", quality=90),
        lambda image: encoded(image, "JPEG", quality=40),
        lambda image: encoded(image.resize((100, 75)), "JPEG", quality=80),
        lambda image: encoded(image.resize((260, 195), Image.Resampling.LANCZOS), "WEBP", quality=70),
        lambda image: encoded(image.convert("L"), "PNG"),
        lambda image: encoded(image.point(lambda level: min(255, int(level * 1.05))), "PNG"),
    ],
    ids=["JPEG", "poor JPEG", "smaller", "larger", "grey", "brighter"],
)
def test_the_same_picture_saved_in_another_way_is_found(change):
    for seed in range(8):
        again = change(Image.open(io.BytesIO(PNG[seed])).convert("RGB"))
        found = find(train=[(PNG[seed - 1], 0), (PNG[seed], 0)], val=[(again, 0)])
        assert found.overlaps == [duplicates.Overlap("train", "val", 0, 1, [(1, 0)])], seed


def test_a_picture_under_two_classes_is_found_where_it_is_trained_on():
    jpeg = encoded(Image.open(io.BytesIO(PNG[0])).convert("RGB"), "JPEG")
    pictures = [(PNG[0], 0), (PNG[1], 0), (PNG[1], 1), (PNG[1], 0), (jpeg, 1), (PNG[2], 1), (PNG[2], 1)]
    found = find(train=pictures)
    twice = duplicates.Overlap("train", "train", 2, 0, [(1, 3), (5, 6)], in_class=True)
    assert found.overlaps == [duplicates.Overlap("train", "train", 1, 1, [(1, 2), (0, 4)]), twice]
    [twice] = find(train=[(PNG[3], 0)], test=pictures).overlaps
    assert (twice.first, twice.second, twice.in_class) == ("test", "test", True)


def test_pictures_without_edges_are_alike_only_where_they_are_equal():
    flat = [encoded(Image.new("RGB", (40, 40), (level, level, level)), "PNG") for level in (0, 128, 255)]
    found = find(train=[(flat[0], 0), (flat[1], 0)], test=[(flat[1], 0), (flat[2], 0)])
    assert found.overlaps == [duplicates.Overlap("train", "test", 1, 0, [(1, 0)])]


def test_small_pictures_are_alike_only_where_they_are_equal():
    small = [encoded(photo(seed, 63, 80), "PNG") for seed in range(2)]
    again = encoded(photo(0, 63, 80), "JPEG")
    found = find(train=[(small[0], 0), (small[1], 0)], test=[(again, 0), (small[1], 0)])
    assert found.overlaps == [duplicates.Overlap("train", "test", 1, 0, [(1, 1)])]


def likenesses(numbers):
    known = np.zeros(len(numbers), facts.FACTS)
    known["level"], known["content"] = facts.DECODED, np.arange(len(numbers))
    known["across"], known["down"] = np.array(numbers, dtype=np.uint64).T
    return known


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.integers(2, 60))
def test_all_pairs_that_are_alike_are_found(seed, count):
    """Compared with trying every pair; of numbers that differ in few bits."""
    random = np.random.default_rng(seed)
    base = random.integers(0, 2**63, (4, 2), dtype=np.uint64) | np.uint64(0x0F0F)
    numbers = base[random.integers(0, 4, count)]
    for _ in range(int(random.integers(0, 4))):
        flips = np.uint64(1) << random.integers(0, 64, numbers.shape, dtype=np.uint64)
        numbers = numbers ^ (flips * random.integers(0, 2, numbers.shape, dtype=np.uint64))
    known = likenesses(numbers)
    group, pairs, complete = duplicates._alike(known)
    assert complete
    found = {frozenset(pair) for pair in pairs.tolist()}
    for one, other in itertools.combinations(range(count), 2):
        bits = sum(int(a ^ b).bit_count() for a, b in zip(numbers[one].tolist(), numbers[other].tolist(), strict=True))
        if group[one] == group[other]:
            assert bits == 0
        else:
            assert (frozenset((group[one], group[other])) in found) == (bits <= duplicates.DIFFERENT)


def test_a_hundred_thousand_pictures_are_compared_in_seconds():
    random = np.random.default_rng(0)
    numbers = random.integers(0, 2**63, (100_000, 2), dtype=np.uint64)
    numbers[50_000:50_100] = numbers[:100] ^ np.uint64(1 << 40)
    known = likenesses(numbers)
    began = time.process_time()
    halves = {"train": known[:50_000], "test": known[50_000:]}
    found = duplicates.find(halves, {name: np.zeros(50_000, np.int64) for name in halves})
    assert time.process_time() - began < 5
    assert [(one.equal, one.alike) for one in found.overlaps] == [(0, 100)]


def test_what_is_too_much_to_compare_is_said():
    random = np.random.default_rng(0)
    numbers = random.integers(0, 2**63, (9_000, 2), dtype=np.uint64) | np.uint64(0x5555555555555555)
    found = duplicates.find({"train": likenesses(numbers)}, {"train": np.zeros(9_000, np.int64)})
    assert not found.complete


def test_the_same_bytes_twice_in_a_class_are_named_and_in_two_classes_are_not_counted_again():
    one, other = encoded(photo(1), "PNG"), encoded(photo(2), "PNG")
    found = find(train=[(one, 0), (other, 1), (one, 0), (one, 1), (one, 0)], test=[(other, 0)])
    counts = {(each.first, each.second, each.in_class): (each.equal, each.examples) for each in found.overlaps}
    assert counts["train", "train", True] == (2, [(0, 2), (0, 4)])
    assert counts["train", "train", False] == (1, [(0, 3)])
    assert counts["train", "test", False][0] == 1
    assert ("test", "test", True) not in counts

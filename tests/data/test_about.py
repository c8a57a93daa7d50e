"""A set in numbers: said in a few lines, kept in a journal, and read back only where it is as it was written."""

from __future__ import annotations

import copy
import itertools
import json

import numpy as np
import pytest

from runner import config as cfg
from runner.data import about, check
from runner.data.scanning import unread
from runner.data.splits import Images, Source


def source(test=True, **keys):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (30, 8, 12, 1), dtype=np.uint8)
    labels = np.repeat(np.arange(3), [5, 10, 15])
    again = Images(np.concatenate([pixels[:2], pixels[:1] + 1]), np.array([0, 0, 1]))
    return Source("made", ["a", "b", "c"], Images(pixels, labels), again if test else None, **keys)


def numbers(of):
    return about.of(of, check.inspect(of, cfg.Digits()), cfg.Digits())[0]


def test_splits_classes_sizes_and_what_was_left_out_are_said():
    one = numbers(source(skipped={"hidden names": 2}))
    one.unreadable = 1_200
    assert one.lines("list.txt") == [
        "made: 30 train, 3 test images of 3 classes, 5 (a) to 15 (c) each",
        "all 12×8; L",
        "left out: 2 hidden names, 1,200 that cannot be read (list.txt)",
    ]
    assert numbers(source(test=False)).lines()[0] == "made: 30 train images of 3 classes, 5 (a) to 15 (c) each"


def test_classes_with_few_images_to_measure_on_are_one_note():
    assert numbers(source()).notes()[0] == (
        "classes with fewer than 5 images to measure on (test: a (2), b (1), c (0)): their numbers are coarse, and "
        "those of 0 images say nothing. More images help, or cross-validation (data.folds)"
    )
    one = numbers(source())
    one.classes = {"a": [5, 5], "b": [1, 4], "c": [0, 9]}
    assert [*one.coarse()] == [
        "classes with fewer than 5 images to measure on (test: b (4)): their numbers are coarse. "
        "More images help, or cross-validation (data.folds)"
    ]
    one.classes = {"a": [5, 5], "b": [1, 7]}
    assert not [*one.coarse()]


@pytest.mark.parametrize(
    ("config", "sides", "note"),
    [
        (cfg.ImageFolder(), [(100, 60)] * 9 + [(60, 100)], "10 of 10 images lose"),
        (cfg.ImageFolder(), [(100, 75)] * 9 + [(60, 100)], "1 of 10 images loses more than 30% of its area"),
        (cfg.ImageFolder(crop_ratio=0.8), [(100, 100)], "1 of 1 image loses"),
        # A few of many, photos as most cameras take them, and what is shown whole.
        (cfg.ImageFolder(), [(100, 75)] * 29 + [(60, 100)], ""),
        (cfg.ImageFolder(resize=cfg.Resize.pad), [(100, 60)], ""),
        (cfg.ImageFolder(resize=cfg.Resize.stretch), [(100, 60)], ""),
        # Which of its sides is up is not known.
        (cfg.ImageFolder(image_size=[60, 100]), [(100, 60)], ""),
        (cfg.Digits(), [(100, 60)], ""),
    ],
)
def test_a_crop_that_takes_little_of_many_images_is_a_note(config, sides, note):
    facts = np.zeros(len(sides), about.Findings.nothing(source()).facts["train"].dtype)
    facts["level"], facts["width"], facts["height"] = about.DECODED, *zip(*sides, strict=True)
    one = numbers(source())
    about._measure(one, [facts], config)
    [said] = [*one.partly_used()] or [""]
    assert said.startswith(note)
    assert bool(said) == bool(note)


def test_a_single_file_is_left_out_in_the_singular():
    one = numbers(source(skipped={unread(".heic"): 1, unread(".cr2"): 2}))
    assert one.lines()[-1] == (
        "left out: 1 .heic file, which is not read: convert it to JPEG or PNG, "
        "2 .cr2 files, which are not read: convert them to JPEG or PNG"
    )


def test_duplicates_are_one_sentence_with_an_example():
    *_, said = numbers(source()).notes()
    assert said == "2 test images are in train too, such as image 0 and image 0"
    assert numbers(source(test=False)).notes() == []


def test_of_very_many_classes_the_largest_are_kept():
    labels = np.repeat(np.arange(1200), np.r_[np.ones(600, int), np.full(600, 2)])
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 2, 2, 1), dtype=np.uint8)
    one = numbers(Source("many", [str(number) for number in range(1200)], Images(pixels, labels)))
    assert (one.class_count, len(one.classes)) == (1200, about.MOST_CLASSES)
    assert sum(counts == [2] for counts in one.classes.values()) == 600


def test_it_comes_back_from_json_as_it_was():
    one = numbers(source())
    assert about.About.from_json(json.loads(json.dumps(one.as_json()))) == one


def damaged():
    whole = numbers(source()).as_json()
    for key in whole:
        for value in (None, "x", -1.5, [], {}, [1], {"x": 1}, [[1]]):
            yield whole | {key: value}
    for key in ("first", "equal", "examples"):
        part = copy.deepcopy(whole)
        part["overlaps"][0][key] = [["x"]]
        yield part
    yield from (None, 1, [], "x", {})


@pytest.mark.parametrize("value", damaged(), ids=itertools.count())
def test_whatever_is_in_a_journal_it_is_said_or_left_out(value):
    one = about.About.from_json(value)
    if one is not None:
        assert all(isinstance(line, str) for line in one.lines() + one.notes())

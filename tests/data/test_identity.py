"""What makes two sets of images the same, and what is said where they are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from runner.data import ImageFiles, Images, Source, identity

PIXELS, LABELS = np.zeros((4, 2, 2, 3), np.uint8), np.array([0, 1, 0, 1])
MEMORY = Source("set", ["cat", "dog"], Images(PIXELS, LABELS))


def files(folder, contents=(b"1", b"22", b"333"), names=("a", "b", "c"), labels=(0, 1, 0)):
    """A set of files with these contents."""
    paths = [folder / name for name in names]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return Source("set", ["cat", "dog"], ImageFiles(paths, np.array(labels)))


def differs(one, other):
    before, now = identity.digests(one), identity.digests(other)
    return identity.difference(before["train"], now["train"])


@pytest.mark.parametrize(
    ("other", "how"),
    [
        (MEMORY, ""), (replace(MEMORY, classes=["cat", "eel"]), "has other names of classes"),
        (replace(MEMORY, train=Images(PIXELS + 1, LABELS)), "has other pixels"),
        (replace(MEMORY, train=Images(PIXELS, 1 - LABELS)), "has other labels"),
        (replace(MEMORY, train=Images(PIXELS[:3], LABELS[:3])), "has 3 images instead of 4"),
        (
            replace(MEMORY, classes=["cat", "eel"], train=Images(PIXELS[:3], LABELS[:3])),
            "has 3 images instead of 4 and other names of classes",
        ),
    ],
)  # fmt: skip
def test_what_differs_of_images_in_memory_is_named(other, how):
    assert differs(MEMORY, other) == how


@pytest.mark.parametrize(
    ("other", "how"),
    [
        ({}, ""), ({"contents": (b"4", b"55", b"666")}, ""),
        ({"contents": (b"1", b"22", b"3334")}, "has other sizes of files"),
        ({"names": ("a", "b", "d")}, "has other names of images"),
        ({"labels": (0, 1, 1), "names": ("a", "b", "d")}, "has other labels and names of images"),
    ],
)  # fmt: skip
def test_what_differs_of_files_is_named(tmp_path, other, how):
    before = identity.digests(files(tmp_path))["train"]
    assert identity.difference(before, identity.digests(files(tmp_path, **other))["train"]) == how


def test_splits_that_come_go_or_change_their_kind_are_named(tmp_path):
    assert identity.difference(None, "1-a-b-c") == "is new"
    assert identity.difference("1-a-b-c", None) == "is gone"
    assert differs(MEMORY, files(tmp_path)) == "is of another kind"

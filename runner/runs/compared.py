"""The images that runs are compared on, as the event `dataset` of their journals has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: What is compared of a split of encoded images, after the number of its images; of one of decoded images.
PARTS = ("names of classes", "labels", "names of images", "sizes of files")
PIXELS = (*PARTS[:2], "pixels")


def split_digest(dataset: Mapping[str, Any], split: str) -> str:
    """What identifies the images of a split as an evaluation sees them; empty if the journal does not say it.

    Pixels do not count: they depend on how images are prepared.
    """
    digest = {**dataset.get("digests", {}), **dataset.get("compared", {})}.get(split, "")
    parts = digest.split("-")
    return "-".join(parts[: len(PIXELS)]) if len(parts) == 1 + len(PIXELS) else digest

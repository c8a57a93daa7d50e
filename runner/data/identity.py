"""What makes two sets of images the same: names, sizes and classes of every split."""

from __future__ import annotations

import numpy as np

from .. import files
from .splits import Images, Source, Split


def digests(source: Source) -> dict[str, str]:
    """Split → digest of what is in it: of pictures the names and sizes in bytes, of images in memory the pixels."""
    return {name: _digest(split, source.classes) for name, split in source.splits.items()}


def _digest(split: Split, classes: list[str]) -> str:
    text = files.text_digest("\0".join(classes))
    if isinstance(split, Images):
        return files.digest([split.labels, split.images], text)
    names = "\0".join(split.name(index) for index in range(len(split)))
    return files.digest([split.labels, split.sizes().astype(np.int64)], files.text_digest(names) + text)

"""What makes two data sets the same: names, sizes and classes of the images of every split."""

from __future__ import annotations

from dataclasses import replace

from ..files.digests import digest_of, text_digest
from ..runs.compared import PARTS, PIXELS
from ..terminal import counted
from .splits import Images, Source, Split


def digests(source: Source) -> dict[str, str]:
    """Split → the number of its images, then a digest of each of `PARTS` or `PIXELS`."""
    return {name: "-".join(_parts(split, source.classes)) for name, split in source.splits.items()}


def compared(source: Source) -> dict[str, str]:
    """The digests of splits with soft labels as an evaluation sees them, which knows the most probable class only."""
    hard = {name: replace(split, soft=None) for name, split in source.splits.items() if split.soft is not None}
    return {name: "-".join(_parts(split, source.classes)) for name, split in hard.items()}


def _parts(split: Split, classes: list[str]) -> list[str]:
    labels = split.labels if split.soft is None else split.soft
    common = [str(len(split)), text_digest("\0".join(classes)), digest_of([labels])]
    if isinstance(split, Images):
        return [*common, digest_of([split.images])]
    return [*common, text_digest("\0".join(split.names())), digest_of([split.encoded.sizes()])]


def images(digests: dict[str, str]) -> int:
    """Number of images of all splits."""
    return sum(int(text.partition("-")[0]) for text in digests.values())


def difference(before: str | None, now: str | None) -> str:
    """How one split differs from what it was: a phrase for a message, empty if it does not."""
    if before == now:
        return ""
    if before is None or now is None:
        return "is new" if before is None else "is gone"
    (count, *old), (other_count, *new) = before.split("-"), now.split("-")
    parts = PIXELS if len(new) == len(PIXELS) else PARTS
    if len(old) != len(new):
        return "is of another kind"
    differing = [part for part, one, other in zip(parts, old, new, strict=True) if one != other]
    if count != other_count:
        # Other images imply other labels and names.
        classes = f" and other {parts[0]}" if parts[0] in differing else ""
        return f"has {counted(int(other_count), 'image')} instead of {count}{classes}"
    return f"has other {' and '.join(differing)}"

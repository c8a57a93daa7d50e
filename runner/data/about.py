"""Statistics of a data set: splits, classes, sizes and duplicates, for the start of a run, its journal and reports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .. import config as cfg
from .. import stored, terminal
from ..terminal import word_for
from . import duplicates
from .check import Findings, place
from .classes import listed
from .facts import DECODED, MODES
from .folder import left_out
from .labels import class_counts
from .splits import Source

#: Most classes that a journal lists, and most pairs of duplicates that it names.
MOST_CLASSES, MOST_EXAMPLES = 1000, 5
#: A class with fewer images in a split has coarse metrics there.
FEW = 5
#: The part of an image's area that a crop should not lose, and from which part of the images on it is said.
LOST, MANY_CROPPED = 0.3, 0.05


@dataclass
class Overlap:
    """Duplicates between two splits, or within one split: repeated images, or the same image in two classes."""

    first: str
    second: str
    equal: int
    """Images of the second split whose bytes equal those of an image of the first."""
    alike: int
    """Further images of the second that look like one of the first."""
    examples: list[list[str]]
    """Names of some pairs: [in the first, in the second]."""
    in_class: bool = False
    """Within one split: whether the duplicates are in the same class."""

    def text(self) -> str:
        """A sentence with an example."""
        return self.brief() + "".join(f", such as {other} and {one}" for one, other in self.examples[:1])

    def brief(self) -> str:
        """A sentence without a full stop."""
        equal, place = f"in {self.first} too", self.first
        if self.first == self.second:
            equal, place = "there more than once" if self.in_class else "in two classes", "another class"
        parts = []
        if self.equal:
            parts.append(f"{_counted(self.equal, self.second)} {word_for(self.equal, 'is', 'are')} {equal}")
        if self.alike:
            parts.append(
                f"{_counted(self.alike, self.second)} {word_for(self.alike, 'looks', 'look')} like one in {place}"
            )
        return "; ".join(parts)


def _counted(count: int, split: str) -> str:
    return terminal.counted(count, f"{split} image")


@dataclass
class About:
    """What to know about a data set before training on it."""

    name: str
    place: str
    splits: dict[str, int]
    """Split → images in it."""
    class_count: int
    classes: dict[str, list[int]]
    """Class → its images in each split; if there are very many classes, the largest ones."""
    width: list[int] = field(default_factory=list)
    """Smallest, median and largest width in pixels of the images whose size is known; empty if none is."""
    height: list[int] = field(default_factory=list)
    """The same for the height."""
    measured: int = 0
    """Images whose size is known."""
    modes: dict[str, int] = field(default_factory=dict)
    """Colour mode, as Pillow names it → images."""
    layout: str = ""
    """What was taken as classes, where that is not obvious."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Skipped files, counted by reason."""
    unreadable: int = 0
    """Images that cannot be read, and are skipped."""
    animated: int = 0
    """Images of which there are several frames or pages, and the first is used."""
    cropped: int = 0
    """Images of which the centre crop takes too little; 0 if all of them are wanted whole."""
    compared: int = 0
    """Images that were compared to find duplicates."""
    overlaps: list[Overlap] = field(default_factory=list)
    """Duplicates."""

    @property
    def images(self) -> int:
        """Images of all splits."""
        return sum(self.splits.values())

    def lines(self, listing: str = "") -> list[str]:
        """The statistics in two or three lines; `listing`: the file that lists unreadable images."""
        classes = terminal.counted(self.class_count, "class", "classes")
        lines = [f"{self.name}: {terminal.images_of(self.splits)} of {classes}{self._spread()}"]
        if self.measured:
            were = word_for(self.measured, "was", "were")
            looked_at = f" (of {terminal.counted(self.measured, 'image')} that {were} looked at)"
            part = looked_at if self.measured < self.images else ""
            counts = [f"{count:,} {mode}" for mode, count in self.modes.items()]
            colours = ", ".join(counts if len(counts) > 1 else self.modes)
            lines.append(f"{self._size()}; {colours}{part}")
        skipped = [left_out(count, reason) for reason, count in self.skipped.items()]
        if self.unreadable:
            skipped.append(f"{self.unreadable:,} that cannot be read" + (f" ({listing})" if listing else ""))
        if self.layout:
            lines.append(self.layout)
        if skipped:
            lines.append(f"left out: {', '.join(skipped)}")
        return lines

    def notes(self) -> list[str]:
        """Notes for the user on what may make results on this data misleading, such as duplicates."""
        return [*self.coarse(), *self.partly_used(), *(overlap.text() for overlap in self.overlaps)]

    def partly_used(self) -> Iterator[str]:
        """Notes on images of which the network is not given all."""
        if self.cropped:
            lose, their = word_for(self.cropped, "loses", "lose"), word_for(self.cropped, "its", "their")
            them = word_for(self.cropped, "it", "them")
            yield (
                f"{self.cropped:,} of {terminal.counted(self.measured, 'image')} {lose} more than {LOST:.0%} of "
                f"{their} area by the centre crop: data.resize=pad keeps {them} whole"
            )
        if self.animated:
            images = f"{terminal.counted(self.animated, 'image')} {word_for(self.animated, 'has', 'have')}"
            yield f"{images} several frames or pages, of which the first is used"

    def coarse(self) -> Iterator[str]:
        """At most one note: on the classes of which the splits that are measured on have no or few images."""
        parts, some_have_none = [], False
        for number, split in enumerate(self.splits):
            few = [f"{name} ({counts[number]})" for name, counts in self.classes.items() if counts[number] < FEW]
            if split != "train" and few:
                parts.append(f"{split}: {listed(few)}")
                some_have_none |= any(not counts[number] for counts in self.classes.values())
        if parts:
            nothing = ", and those of 0 images say nothing" if some_have_none else ""
            yield (
                f"classes with fewer than {FEW} images to measure on ({'; '.join(parts)}): their numbers are coarse"
                f"{nothing}. More images help, or cross-validation (data.folds)"
            )

    def as_json(self) -> dict[str, Any]:
        """For a journal."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> About | None:
        """From a journal; None if it is not valid."""
        try:
            about: About = stored.typed(value, cls)
            stored.require(bool(about.splits), "it has no splits")
            counts = [*about.classes.values()]
            stored.require(all(len(one) == len(about.splits) for one in counts), "a class has too few counts")
            measures = (about.width, about.height) if about.measured else ()
            stored.require(all(len(measure) == 3 for measure in measures), "a measure is cut")
            stored.require(all(len(pair) == 2 for one in about.overlaps for pair in one.examples), "a pair is cut")
        except ValueError:
            return None
        return about

    def _spread(self) -> str:
        """The range of class sizes in the first split."""
        counts = {name: counts[0] for name, counts in self.classes.items()}
        if len(counts) < 2 or self.class_count > len(counts):
            return ""
        least, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        if counts[least] == counts[most]:
            return f", {counts[most]:,} each"
        return f", {counts[least]:,} ({least}) to {counts[most]:,} ({most}) each"

    def _size(self) -> str:
        least, middle, most = (f"{width}×{height}" for width, height in zip(self.width, self.height, strict=True))
        return f"all {middle}" if least == most else f"{least} to {most} pixels, median {middle}"


def counts(source: Source) -> np.ndarray:
    """Images of each class in each split, int64 [classes, splits]."""
    every = [class_counts(split.labels, len(source.classes)) for split in source.splits.values()]
    return np.stack(every, axis=1)


def order(counts: np.ndarray) -> np.ndarray:
    """The labels of classes as they are shown, the largest in the first split first. counts: [classes, splits]."""
    return np.argsort(-counts[:, 0], kind="stable")


def of(source: Source, looked: Findings, config: cfg.Data) -> tuple[About, duplicates.Duplicates]:
    """The statistics of a data set, and its duplicates, from the facts about its images."""
    splits = source.splits
    of_class = counts(source)
    largest = order(of_class)[:MOST_CLASSES]
    copies = duplicates.find(looked.facts, {name: split.labels for name, split in splits.items()})
    about = About(
        name=source.name,
        place=place(source, config),
        splits={name: len(split) for name, split in splits.items()},
        class_count=len(source.classes),
        classes={source.classes[label]: of_class[label].tolist() for label in sorted(largest)},
        layout=source.layout,
        skipped=dict(source.skipped),
        unreadable=len(looked.broken),
        compared=copies.looked_at,
        overlaps=[_overlap(overlap, source) for overlap in copies.overlaps],
    )
    _measure(about, looked.facts.values(), config)
    return about, copies


def _overlap(overlap: duplicates.Overlap, source: Source) -> Overlap:
    first, second = source.splits[overlap.first], source.splits[overlap.second]
    examples = [[first.name(one), second.name(other)] for one, other in overlap.examples[:MOST_EXAMPLES]]
    return Overlap(overlap.first, overlap.second, overlap.equal, overlap.alike, examples, overlap.in_class)


def _measure(about: About, facts: Iterable[np.ndarray], config: cfg.Data) -> None:
    """Add the sizes and colour modes of the images that were checked."""
    every = np.concatenate(list(facts))
    every = every[every["level"] == DECODED]
    if len(every):
        about.measured = len(every)
        about.width, about.height = (
            [int(values.min()), int(np.median(values)), int(values.max())]
            for values in (every["width"], every["height"])
        )
        modes, counts = np.unique(every["mode"], return_counts=True)
        named = {MODES[mode] or "other": int(count) for mode, count in zip(modes, counts, strict=True)}
        about.modes = dict(sorted(named.items(), key=lambda one: -one[1]))
        about.animated = int((every["frames"] > 1).sum())
        about.cropped = _cropped(every, config)


def _cropped(facts: np.ndarray, config: cfg.Data) -> int:
    """How many images lose much by the centre crop, if they are enough to say it."""
    height, width = config.size
    # Whether a picture lies on its side is not known, and matters to crops that are no squares.
    if config.resize is not cfg.Resize.crop or not isinstance(config, cfg.Pictures) or height != width:
        return 0
    sides = np.stack([facts["width"], facts["height"]]).astype(np.float64)
    kept = config.crop_ratio**2 * sides.min(axis=0) / sides.max(axis=0)
    count = int((kept < 1 - LOST).sum())
    return count if count >= MANY_CROPPED * len(facts) else 0

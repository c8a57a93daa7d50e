"""A data set as an offline HTML page: counts, duplicates, unreadable images, and augmented examples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__, files
from .. import config as cfg
from ..data import about, duplicates
from ..data.augment import mix
from ..data.check import Findings
from ..data.folder import left_out
from ..data.labels import has_class, label_text
from ..data.splits import Source, Split, picture
from ..errors import DataError
from ..images import png
from ..terminal import printable
from . import page

#: Most classes with a bar; most classes with examples, and examples of each; most unreadable images that are named.
LISTED, SHEETS, EACH, BROKEN = 100, 40, 12, 500
#: Number of augmented examples, and of epochs in which each is shown.
AUGMENTED, EPOCHS = 6, 7
#: The longest side of an image on the page, in pixels.
SIDE = 112


@dataclass
class Subject:
    """The contents of the page."""

    config: cfg.Config
    source: Source
    looked: Findings
    numbers: about.About
    found: duplicates.Duplicates
    command: str
    """The command that makes the page again."""
    training: str
    """The command that trains on the set."""


def write(path: Path, subject: Subject) -> None:
    """Write the page. Errors: DataError for an image that has become unreadable."""
    files.write_text(path, page.environment().get_template("data.html").render(_context(subject)))


def _context(subject: Subject) -> dict[str, Any]:
    numbers, source = subject.numbers, subject.source
    counts = about.counts(source)
    return {
        "title": f"Data: {printable(numbers.name)}",
        "version": __version__,
        "made": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "numbers": numbers,
        "lines": [
            printable(line)
            for line in (*numbers.lines()[1:], *_skipped_files(source), *numbers.coarse(), *numbers.partly_used())
        ],
        "complete": subject.found.complete,
        "listed": LISTED,
        "classes": _classes(source.classes, counts),
        "broken": [(printable(one.name), one.reason) for one in subject.looked.broken[:BROKEN]],
        "overlaps": list(_overlaps(subject)),
        "sheets": [
            {
                "name": printable(source.classes[label]),
                "images": int(counts[label, 0]),
                "shown": _some(source, label),
            }
            for label in about.order(counts)[:SHEETS]
        ],
        "augmented": _augmented(subject),
        "epochs": EPOCHS,
        "mixed": mix.probability(subject.config.augment, 0, _epochs(subject.config)) > 0,
        "size": subject.config.data.size,
        "command_line": subject.command,
        "training": subject.training,
    }


def _skipped_files(source: Source) -> Iterator[str]:
    """The names of the first skipped files, a line a reason."""
    for reason, paths in source.skipped_paths.items():
        more = source.skipped[reason] - len(paths)
        yield f"{left_out(source.skipped[reason], reason)}: {', '.join(paths)}{f' and {more:,} more' if more else ''}"


def _classes(names: list[str], counts: np.ndarray) -> list[dict[str, Any]]:
    """Every class with its counts, and its size relative to the largest one; the largest first."""
    most = max(1, int(counts[:, 0].max()))
    return [
        {"name": printable(names[label]), "counts": counts[label].tolist(), "share": counts[label, 0] / most}
        for label in about.order(counts)
    ]


def _overlaps(subject: Subject) -> Iterator[dict[str, Any]]:
    """Duplicates between splits, with pairs of images side by side."""
    splits = subject.source.splits
    for numbers, overlap in zip(subject.numbers.overlaps, subject.found.overlaps, strict=True):
        pairs = []
        for one, other in overlap.examples:
            sides = ((splits[overlap.first], one), (splits[overlap.second], other))
            labels = [label_text(split.labels[place], subject.source.classes) for split, place in sides]
            pairs.append(
                [
                    {"png": _png(split, place), "name": printable(split.name(place)), "class": printable(label)}
                    for (split, place), label in zip(sides, labels, strict=True)
                ]
            )
        yield {"text": printable(numbers.text()), "pairs": pairs, "count": overlap.equal + overlap.alike}


def _some(source: Source, label: int) -> list[dict[str, str]]:
    """Training images of a class, evenly spread over it."""
    places = np.flatnonzero(has_class(source.train.labels, label))
    if not len(places):
        return []
    chosen = places[np.unique(np.linspace(0, len(places) - 1, EACH).astype(int))]
    return [{"png": _png(source.train, place), "name": printable(source.train.name(int(place)))} for place in chosen]


def _png(split: Split, place: int) -> str:
    """A preprocessed image without augmentation; empty if it has become unreadable."""
    try:
        return png(picture(split, int(place)), SIDE)
    except DataError:
        return ""


def _epochs(config: cfg.Config) -> int | None:
    """Number of epochs of a run, if the config says it."""
    return None if config.train.max_steps or config.train.max_minutes else config.train.epochs


def _augmented(subject: Subject) -> list[dict[str, Any]]:
    """Some training images without augmentation, and as the first epochs augment them."""
    # The only part of the page that needs Paddle.
    from ..data import loaders

    split, config = subject.source.train, subject.config
    loader = loaders.build(config.data, config.train.seed, source=subject.source, augment=config.augment).train
    loader.epochs = _epochs(config)
    places = np.unique(np.linspace(0, len(split) - 1, AUGMENTED).astype(np.int64))
    seen = [loader.seen(places, epoch) for epoch in range(EPOCHS)]
    return [
        {
            "plain": _png(split, place),
            "name": printable(split.name(int(place))),
            "epochs": [png(images[row], SIDE) for images in seen],
        }
        for row, place in enumerate(places)
    ]

"""Checks before training that all images can be read; unreadable ones are skipped, or reported together."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .. import config as cfg
from .. import device, files, terminal
from ..errors import DataError
from ..images import Unreadable
from . import facts as facts_of
from . import remembered
from .facts import DECODED, ENDS, NOTHING
from .shards import Members
from .splits import ImageFiles, Images, Pictures, Source, Split

#: Up to this many images, `data.check=auto` decodes all of them.
MOST_DECODED = 10_000
#: Images of a split that `data.check=headers` decodes nevertheless: the sizes of all are estimated from theirs.
SAMPLE = 100
#: Most unreadable images that a message names.
NAMED = 20
#: The first line of the file that lists all of them.
LISTING = "# images that cannot be read: split, name, reason"
#: Most threads that check images: the largest allowed image takes 0.7 GB while it is decoded.
MOST_THREADS = 16
#: Images that a thread checks at a time: enough that threads rarely wait for each other, few enough to show progress.
_AT_ONCE = {DECODED: 16, ENDS: 1000}


@dataclass
class Broken:
    """An image that cannot be read."""

    split: str
    index: int
    """Index in the split."""
    name: str
    """Its name in messages."""
    reason: str


@dataclass
class Findings:
    """The result of checking the images of a set."""

    facts: dict[str, np.ndarray]
    """Split → facts about its images, `facts.FACTS` [N]."""
    broken: list[Broken] = field(default_factory=list)
    """Unreadable images in the order of the splits."""

    @classmethod
    def nothing(cls, source: Source) -> Findings:
        """The result for a set that was not checked."""
        return cls({name: np.zeros(len(split), facts_of.FACTS) for name, split in source.splits.items()})

    def without_broken(self) -> Findings:
        """The same for the readable images only."""
        kept = {name: facts[_kept(name, len(facts), self.broken)] for name, facts in self.facts.items()}
        return Findings(kept, self.broken)


def without(source: Source, broken: list[Broken]) -> Source:
    """A set without its unreadable images. Errors: DataError for a split that would be empty."""
    if not broken:
        return source
    splits: dict[str, Split] = {}
    for name, split in source.splits.items():
        kept = _kept(name, len(split), broken)
        if not len(kept):
            first = next(one for one in broken if one.split == name)
            raise DataError(f"No image of the {name} split can be read, for example {first.name}: {first.reason}.")
        splits[name] = split.select(kept)
    return replace(source, **splits)  # type: ignore[arg-type]


def _kept(name: str, pictures: int, broken: list[Broken]) -> np.ndarray:
    return np.setdiff1d(np.arange(pictures), [one.index for one in broken if one.split == name])


def level_of(config: cfg.Data, source: Source, thorough: bool = False) -> int:
    """How closely the images of a set are checked; `thorough` decides if the config leaves it open."""
    if not isinstance(config, cfg.Pictures):
        return NOTHING
    pictures = [split.encoded for split in source.splits.values() if isinstance(split, ImageFiles)]
    is_remote = any(isinstance(one, Members) and one.is_remote for one in pictures)
    is_small = sum(map(len, pictures)) <= MOST_DECODED and not is_remote
    if config.on_error is cfg.OnError.skip:
        return DECODED
    match config.check:
        case cfg.Check.none:
            return NOTHING
        case cfg.Check.headers:
            return ENDS
        case cfg.Check.auto:
            return DECODED if thorough or is_small else ENDS
    return DECODED


def recall(source: Source, config: cfg.Data) -> Findings:
    """What earlier checks on this machine found out about the images of a set, if they are local; checks none."""
    looked = Findings.nothing(source)
    if isinstance(config, cfg.Pictures):
        memory = remembered.Memory(place(source, config), config.max_pixels)
        for name, split in source.splits.items():
            if isinstance(split, ImageFiles) and not (isinstance(split.encoded, Members) and split.encoded.is_remote):
                looked.facts[name] = memory.recall(memory.keys(split.encoded))
    return looked


def inspect(
    source: Source,
    config: cfg.Data,
    thorough: bool = False,
    tell: Callable[[int, int], None] = lambda done, count: None,
) -> Findings:
    """Check every image of every split that is not remembered as good; `tell` is called with (images done, all images).

    Images in memory were read already; they are only compared to find duplicates.
    """
    count = sum(len(split) for split in source.splits.values() if isinstance(split, ImageFiles))
    level, looked, done = level_of(config, source, thorough), Findings.nothing(source), 0
    memory = remembered.Memory(place(source, config), config.max_pixels)
    try:
        for name, split in source.splits.items():
            if isinstance(split, Images):
                looked.facts[name] = facts_of.in_memory(split.images)
            elif level != NOTHING:
                keys = memory.keys(split.encoded)
                facts = looked.facts[name] = memory.recall(keys)
                memory.note(keys, facts, is_new=False)
                levels = _levels(len(split), level)
                unknown = np.flatnonzero(facts["level"] < levels)
                done += len(split) - len(unknown)
                tell(done, count)
                for part in _parts(split.encoded, unknown, levels, config.max_pixels):
                    facts[part.indices] = part.facts
                    looked.broken += [Broken(name, index, split.name(index), why) for index, why in part.broken]
                    memory.note(keys[part.indices], part.facts, is_new=len(part.indices) > len(part.broken))
                    done += len(part.indices)
                    tell(done, count)
    finally:
        # Keep what was found out until a signal came.
        memory.save()
    order = list(looked.facts)
    looked.broken.sort(key=lambda one: (order.index(one.split), one.index))
    return looked


def place(source: Source, config: cfg.Data) -> str:
    """Where a set is from, for messages."""
    return str(getattr(config, "root", None) or getattr(config, "target", None) or source.name)


def refusal(looked: Findings, name: str, listing: Path | None) -> str:
    """The message that names the unreadable images of a set; `listing`: the file that lists all of them."""
    count = len(looked.broken)
    lines = [f"{terminal.counted(count, 'image')} of {name} cannot be read:"]
    lines += [f"  {one.name}: {one.reason}" for one in looked.broken[:NAMED]]
    if len(looked.broken) > NAMED:
        lines.append(f"  and {len(looked.broken) - NAMED:,} more")
    if listing:
        lines.append(f"All of them: {os.path.relpath(listing)}")
    return "\n".join([*lines, "Replace or remove them, or train without them: data.on_error=skip"])


def write(looked: Findings, path: Path) -> None:
    """Write the unreadable images of a set to a file, one a line: split, name and reason separated by tabs."""
    rows = ((one.split, one.name, one.reason) for one in looked.broken)
    lines = [LISTING, *("\t".join(map(terminal.printable, row)) for row in rows)]
    files.write_text(path, "\n".join(lines) + "\n")


@dataclass
class _Part:
    """The result of checking some images of a split."""

    indices: np.ndarray
    facts: np.ndarray
    broken: list[tuple[int, str]]


def _levels(pictures: int, level: int) -> np.ndarray:
    """How closely each of these images is checked, uint8 [N]."""
    levels = np.full(pictures, level, np.uint8)
    levels[np.linspace(0, pictures - 1, min(SAMPLE, pictures)).astype(int)] = DECODED
    return levels


def _parts(pictures: Pictures, unknown: np.ndarray, levels: np.ndarray, max_pixels: int) -> Iterator[_Part]:
    """Check the unknown images in several threads: decoders and file access release the GIL."""
    step = _AT_ONCE[int(levels.min(initial=DECODED))]
    ranges = (unknown[begin : begin + step] for begin in range(0, len(unknown), step))
    threads = min(device.cores(), MOST_THREADS)
    pool = ThreadPoolExecutor(threads, "check")
    try:
        running: set[Future[_Part]] = set()
        while True:
            for indices in itertools.islice(ranges, 2 * threads - len(running)):
                running.add(pool.submit(_part, pictures, indices, levels[indices], max_pixels))
            if not running:
                return
            ready, running = wait(running, return_when=FIRST_COMPLETED)
            for future in ready:
                yield future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _part(pictures: Pictures, indices: np.ndarray, levels: np.ndarray, max_pixels: int) -> _Part:
    facts, broken = np.zeros(len(indices), facts_of.FACTS), []
    briefly = np.flatnonzero(levels == ENDS)
    facts[briefly[np.fromiter(facts_of.seem_whole(pictures, indices[briefly]), bool)]] = facts_of.WHOLE
    for row in np.flatnonzero(facts["level"] < levels):
        index = int(indices[row])
        try:
            facts[row] = facts_of.decoded(facts_of.read(pictures, index), max_pixels)
        except Unreadable as error:
            broken.append((index, error.reason))
        except (DataError, OSError) as error:
            broken.append((index, getattr(error, "strerror", None) or str(error)))
    return _Part(indices, facts, broken)

"""The pictures that a command line names, one after another: files, folders, globs, or a list on standard input."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterable, Iterator

from ..errors import ConfigError, DataError
from ..images import FORMATS, is_hidden, is_picture

#: In place of a name: there is one a line on standard input.
LIST = "-"


def find(places: list[str]) -> Iterator[str]:
    """Paths of the pictures, each once; those of a folder in the order of their names, and nothing hidden in it.

    A file that is named itself is taken whatever its name is. Nothing is remembered of a single folder or a list,
    which may be of any length. A name that nothing has is among the pictures, for it to be said of each that it cannot
    be read. Errors: DataError, at once, for a place without pictures and where nothing is there; ConfigError.
    """
    if LIST in places:
        if len(places) > 1:
            raise ConfigError("'-' reads the names from standard input: give no others beside it.")
        return _listed()
    missing = {place for place in places if not os.path.lexists(place) and not glob.has_magic(place)}
    if missing.issuperset(places):
        missing.clear()
    groups = [iter([place]) if place in missing else _at(place) for place in places]
    if len(groups) == 1:
        return groups[0]
    # What a glob names can be in a folder that is named as well.
    seen: set[str] = set()
    return (path for path in itertools.chain(*groups) if not (path in seen or seen.add(path)))  # type: ignore[func-returns-value]


def _at(place: str) -> Iterator[str]:
    paths = _walk(place) if os.path.isdir(place) else iter([place] if os.path.exists(place) else _matches(place))
    first = next(paths, None)
    if first is None:
        suffixes = ", ".join(sorted(FORMATS))
        raise DataError(f"{place}: no image was found. Give files, folders or globs ({suffixes}).")
    return itertools.chain([first], paths)


def _matches(pattern: str) -> Iterable[str]:
    """What a glob names, and what is in folders that it names."""
    matches = sorted(glob.glob(pattern, recursive=True))
    paths = itertools.chain(*(_walk(match) if os.path.isdir(match) else [match] for match in matches))
    return dict.fromkeys(paths)


def _walk(folder: str, above: tuple[tuple[int, int], ...] = ()) -> Iterator[str]:
    """Links are followed, but for those that lead back to a folder above them."""
    try:
        status = os.stat(folder)
        if (identity := (status.st_dev, status.st_ino)) in above:
            return
        with os.scandir(folder) as entries:
            seen = sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)
    except OSError:
        # Named with what else cannot be read.
        yield folder
        return
    for entry in seen:
        if entry.is_dir():
            yield from _walk(entry.path, (*above, identity))
        # A link to nothing is named with what else cannot be read; a pipe would be waited for.
        elif is_picture(entry.name) and (entry.is_file() or entry.is_symlink()):
            yield entry.path


def _listed() -> Iterator[str]:
    # A name need not be text.
    with open(0, errors="surrogateescape", closefd=False) as stream:
        yield from filter(None, (line.rstrip("\n") for line in stream))

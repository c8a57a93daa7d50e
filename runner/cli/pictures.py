"""Yields the pictures that a command line names: files, folders, globs, or a list on standard input."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterable, Iterator

from ..errors import ConfigError, DataError
from ..images.formats import FORMATS, is_hidden, is_picture

#: In place of a name: names are on standard input, one a line.
LIST = "-"


def find(places: list[str]) -> Iterator[str]:
    """Paths of the pictures, each once; those of a folder in the order of their names, and nothing hidden in it.

    A file that is named itself is taken whatever its suffix. A single folder or a list may be of any length: nothing of
    it is remembered. Missing names are yielded too, so that each is reported. Errors: DataError, at once, for a folder
    or glob without pictures and for a missing path; ConfigError.
    """
    if LIST in places:
        if len(places) > 1:
            raise ConfigError("'-' reads the names from standard input and must be the only one.")
        return _listed()
    missing = {place for place in places if not os.path.lexists(place) and not glob.has_magic(place)}
    if missing.issuperset(places):
        missing.clear()
    groups = [iter([place]) if place in missing else _at(place) for place in places]
    if len(groups) == 1:
        return groups[0]
    # A file may match a glob and be in a named folder.
    seen: set[str] = set()
    return (path for path in itertools.chain(*groups) if not (path in seen or seen.add(path)))  # type: ignore[func-returns-value]


def _at(place: str) -> Iterator[str]:
    paths = _walk(place) if os.path.isdir(place) else iter([place] if os.path.exists(place) else _matches(place))
    first = next(paths, None)
    if first is None:
        suffixes = ", ".join(sorted(FORMATS))
        named = place or "''"
        raise DataError(f"{named}: no image was found. Give files, folders or globs ({suffixes}).")
    return itertools.chain([first], paths)


def _matches(pattern: str) -> Iterable[str]:
    """The matches of a glob, and the files in folders among them."""
    matches = sorted(glob.glob(pattern, recursive=True))
    paths = itertools.chain(*(_walk(match) if os.path.isdir(match) else [match] for match in matches))
    return dict.fromkeys(paths)


def _walk(folder: str, above: tuple[tuple[int, int], ...] = ()) -> Iterator[str]:
    """Files below a folder; links are followed unless they lead to a folder above them."""
    try:
        status = os.stat(folder)
        if (identity := (status.st_dev, status.st_ino)) in above:
            return
        with os.scandir(folder) as entries:
            seen = sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)
    except OSError:
        # Reported with the other unreadable files.
        yield folder
        return
    for entry in seen:
        if entry.is_dir():
            yield from _walk(entry.path, (*above, identity))
        # A broken link is reported with the other unreadable files; opening a pipe would block.
        elif is_picture(entry.name) and (entry.is_file() or entry.is_symlink()):
            yield entry.path


def _listed() -> Iterator[str]:
    # A name need not be text.
    with open(0, errors="surrogateescape", closefd=False) as stream:
        yield from filter(None, (line.rstrip("\n") for line in stream))

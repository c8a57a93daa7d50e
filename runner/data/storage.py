"""Access to shards: local files, or anything that fsspec reaches."""

from __future__ import annotations

import contextlib
import functools
import glob
import io
import math
import os
import re
import time
from collections.abc import Iterator
from typing import IO, Any

from .. import stored
from ..errors import DataError
from ..images import LARGEST_FILE

#: Shards that a process keeps open; retries of a remote read, and the seconds before each.
OPEN, PAUSES = 64, (0.5, 2.0, 8.0)
#: Attributes that change with a remote file, by the names that kinds of storage give them.
STAMPS = ("etag", "last-modified", "lastmodified", "mtime", "updated", "generation", "content-md5", "created")
#: `{000..127}`, as users of WebDataset name many shards.
RANGE = re.compile(r"\{(\d{1,18})\.\.(\d{1,18})\}")
#: Most shards that ranges may name.
MOST_SHARDS = 1_000_000


def is_remote(path: str) -> bool:
    """Whether a path is the URL of a remote file."""
    return "://" in path


def find(pattern: str, root: str | None, suffixes: tuple[str, ...]) -> list[str]:
    """The shards that a path, a folder, a glob or a range `{000..127}` names, relative to `root`.

    Errors: DataError if there is none.
    """
    if root and not is_remote(pattern):
        pattern = f"{root.rstrip('/')}/{pattern}" if is_remote(root) else os.path.join(root, pattern)
    if (count := math.prod(max(0, int(last) - int(first) + 1) for first, last in RANGE.findall(pattern))) > MOST_SHARDS:
        raise DataError(f"{pattern} names {count:,} shards, and at most {MOST_SHARDS:,} are read. Mend its range.")
    paths = [path for one in _ranges(pattern) for path in _matches(one.removeprefix("file://"), suffixes)]
    if not paths:
        raise DataError(f"{pattern} names no shards. Give a path, a folder, a glob such as 'train-*.tar', or a range.")
    if odd := [path for path in paths if not path.lower().endswith(suffixes)]:
        packed = ": a compressed archive cannot be read at random, unpack it to .tar" if ".tar." in odd[0] else ""
        raise DataError(f"{odd[0]} is not a shard ({', '.join(suffixes)}){packed}.")
    return list(dict.fromkeys(paths))


def _ranges(pattern: str) -> Iterator[str]:
    if (match := RANGE.search(pattern)) is None:
        yield pattern
        return
    width = len(match[1])
    for number in range(int(match[1]), int(match[2]) + 1):
        yield from _ranges(f"{pattern[: match.start()]}{number:0{width}}{pattern[match.end() :]}")


def _matches(pattern: str, suffixes: tuple[str, ...]) -> list[str]:
    if is_remote(pattern):
        if not re.search(r"[*?\[]", pattern.partition("://")[2]) or pattern.startswith("http"):
            return [pattern]
        with reaching(pattern):
            system, inner = _system(pattern)
            return [system.unstrip_protocol(path) for path in sorted(system.glob(inner))]
    if os.path.isdir(pattern):
        return sorted(path for path in glob.glob(f"{glob.escape(pattern)}/*") if path.lower().endswith(suffixes))
    # A missing shard of a range is an error; with a glob it would go unnoticed.
    if os.path.exists(pattern) or not glob.has_magic(pattern):
        return [pattern]
    return sorted(glob.glob(pattern))


def stamp(path: str) -> str:
    """What changes when a file does: its size and modification time. Errors: DataError for a missing file."""
    with reaching(path):
        if not is_remote(path):
            status = os.stat(path)
            return f"{status.st_size} {status.st_mtime_ns}"
        system, inner = _system(path)
        about = {str(key).lower(): value for key, value in system.info(inner).items()}
        return " ".join(str(about[key]) for key in ("size", *STAMPS) if key in about)


def opened(path: str) -> IO[bytes]:
    """A shard open for reading, with `seek`. Errors: DataError."""
    with reaching(path):
        if not is_remote(path):
            return stored.open_regular(path)
        system, inner = _system(path)
        return system.open(inner, "rb", block_size=4 << 20)


def read(path: str, offset: int, length: int) -> bytes:
    """Bytes of a shard; safe for several threads and processes. Errors: OSError, DataError."""
    if length > LARGEST_FILE:
        raise DataError(f"{path}: a picture has {length:,} bytes, and at most {LARGEST_FILE:,} are read.")
    if is_remote(path):
        content = _fetched(path, offset, length)
    else:
        status = os.stat(path)
        # Hold a reference while reading: if two threads open a shard at once, only one's stream stays in the cache.
        stream = _descriptor(path, status.st_ino, status.st_mtime_ns)
        content = os.pread(stream.fileno(), length, offset)
    if len(content) != length:
        raise DataError(
            f"{path}: {len(content)} bytes arrived instead of {length}. It has changed since it was "
            "indexed, or its server does not support range requests."
        )
    return content


@functools.lru_cache(maxsize=OPEN)
def _descriptor(path: str, _number: int, _written: int) -> io.FileIO:
    return open(stored.regular_descriptor(path), "rb", buffering=0)


def _fetched(path: str, offset: int, length: int) -> bytes:
    for pause in (*PAUSES, None):
        try:
            with reaching(path):
                system, inner = _system(path)
                return system.cat_file(inner, start=offset, end=offset + length)
        except DataError:
            if pause is None:
                raise
            time.sleep(pause)
    raise AssertionError


def _system(path: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it; fsspec gives each process its own."""
    try:
        import fsspec
    except ImportError as error:
        raise DataError(f"{path} needs fsspec, which is not installed: pip install fsspec aiohttp") from error
    return fsspec.core.url_to_fs(path)


@contextlib.contextmanager
def reaching(path: str) -> Iterator[None]:
    """Turn errors of reading a shard into DataError with its name, whatever its storage."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:
        if not is_remote(path):
            raise
        # Each kind of storage has errors of its own.
        raise DataError(f"{path} cannot be read: {type(error).__name__}: {error}.") from error

"""Writing, replacing and removing files: a reader never sees half of one, and nothing that is not ours is touched.

This is the only module that removes, renames or replaces anything; `tests/test_files.py` holds the others to it.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import itertools
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import ForeignPath

#: Marks a folder that is being written.
PARTIAL = ".runner-partial"
#: The longest file name, in bytes; characters of a name that are kept in that of its temporary file.
LONGEST_NAME, KEPT = 255, 56
#: Lone surrogates, which no encoding has.
HALF = re.compile("[\ud800-\udfff]")
#: Name of a file that is being written: `.<the beginning of its name>.<process>.part`.
UNFINISHED = re.compile(r"\..+\.\d+\.part")


def write_text(path: Path, text: str) -> None:
    """Replace a text file in one step; it is on the disk when this returns."""
    with partial_file(path) as partial, partial.open("x", encoding="utf-8", errors="backslashreplace") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def append(path: Path, content: bytes) -> None:
    """Append to an existing file, all or nothing. Errors: OSError, also for a link; nothing is added then."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        append_to(descriptor, content)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)


def append_to(descriptor: int, content: bytes) -> None:
    """Append to an open file, all or nothing. Errors: OSError; nothing is added then."""
    size = os.fstat(descriptor).st_size
    try:
        if os.write(descriptor, content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        os.ftruncate(descriptor, size)
        raise


@contextlib.contextmanager
def partial_file(target: Path) -> Iterator[Path]:
    """A temporary path next to `target` that is renamed to it at the end; removed on an error.

    Errors: OSError, with the name of the target where it has none.
    """
    partial = target.with_name(f".{target.name[:KEPT]}.{os.getpid()}.part")
    try:
        # Do not write through an existing file of that name, such as a planted link.
        remove_file(partial)
        yield partial
        os.replace(partial, target)
    except IsADirectoryError as error:
        raise ForeignPath(f"{target} is a folder, where a file is to be written. Move it away.") from error
    except OSError as error:
        error.filename = error.filename or str(target)
        raise
    finally:
        remove_file(partial)


def name_file(partial: Path, target: Path) -> None:
    """Give a complete file its name if that is not taken."""
    os.replace(partial, target)


def require_room(path: Path, size: int) -> None:
    """Errors: OSError if a disk has no room for a file of this many bytes."""
    if shutil.disk_usage(path.parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file in one step."""
    write_text(path, to_json(value, indent=2) + "\n")


def to_json(value: Any, indent: int | None = None) -> str:
    """A value as standard JSON that can be encoded.

    Lone surrogates (bytes of names that are not text) are escaped and round-trip. JSON has no NaN or infinity: they
    become "NaN", "Infinity" and "-Infinity", which `stored` reads as numbers where one is expected.
    """
    value = spelt(value)
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return text if text.isascii() or not HALF.search(text) else json.dumps(value, indent=indent, allow_nan=False)


def spelt(value: Any) -> Any:
    """The value with NaN and infinities replaced by texts."""
    match value:
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case dict():
            return {key: spelt(item) for key, item in value.items()}
        case list() | tuple():
            return [spelt(item) for item in value]
    return value


def writable(text: str) -> str:
    """A text that can be encoded: bytes of a name that are not text are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def inside(folder: Path, name: object) -> Path:
    """The path below `folder` of a name that was read from a file, a journal, a tag or a server.

    Every such name goes through here before anything is read, written or sent under it. `folder` itself may be a link;
    below it nothing is. Errors: ForeignPath for what is no relative path, leaves the folder, or is a symbolic link.
    """
    if not isinstance(name, str) or not name or "\0" in name or "\\" in name:
        raise ForeignPath(f"{folder} names the file {name!r}, which is not a path below it. It is left alone.")
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or not parts:
        raise ForeignPath(f"{folder} names the file {name!r}, which is outside of it. It is left alone.")
    path = folder
    for part in parts:
        path = path / part
        _refuse_link(path)
    return path


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise ForeignPath(
            f"{path} is a symbolic link, which may point anywhere. Put the file itself there, or remove the link."
        )


def refuse_links(folder: Path) -> None:
    """Errors: ForeignPath for the first symbolic link below a folder, which what reads or writes there would follow."""
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            _refuse_link(Path(place, name))


def contents(folder: Path) -> Iterator[Path]:
    """Every regular file below a folder, in order. Errors: ForeignPath for a symbolic link among them."""
    for path in sorted(folder.iterdir()):
        _refuse_link(path)
        if path.is_dir():
            yield from contents(path)
        elif path.is_file():
            yield path


def remove_file(path: Path) -> None:
    """Remove a file that this package named; a missing file or a folder is ignored."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)


def remove_named(folder: Path, names: Iterable[str]) -> bool:
    """Remove the files of these names, relative to the folder, then folders that became empty. Returns whether all is
    gone.

    Whatever else is in the folder stays, and so does the folder then; a link in place of a folder is not followed.
    """
    if folder.is_symlink() or not folder.is_dir():
        return not folder.is_symlink() and not folder.exists()
    below: set[Path] = set()
    for name in (*names, PARTIAL):
        path = folder / name
        parents = [parent for parent in path.parents if folder in parent.parents]
        if not any(parent.is_symlink() for parent in parents):
            remove_file(path)
            below.update(parents)
    for place in (*sorted(below, key=lambda path: -len(path.parts)), folder):
        remove_empty(place)
    return not folder.exists()


def remove_empty(folder: Path) -> None:
    """Remove a folder if it is empty."""
    with contextlib.suppress(OSError):
        folder.rmdir()


@contextlib.contextmanager
def partial_folder(target: Path) -> Iterator[Path]:
    """A temporary folder next to `target`; `put_in_place` gives it its name. Leftovers are removed at the end.

    It is `.<name>.<process>.part` and carries a mark, by which `remove_partials` recognizes leftovers of killed
    processes.
    """
    partial = target.with_name(f".{target.name[:KEPT]}.{os.getpid()}.part")
    _remove_marked(partial)
    partial.mkdir()
    try:
        (partial / PARTIAL).touch()
        yield partial
    finally:
        _remove_marked(partial)


def put_in_place(partial: Path, target: Path, mark: str, names: Iterable[str]) -> None:
    """Give a complete folder its name; an existing one is `<name>.old` next to it until then.

    Only a folder with the file `mark` in it, or an empty one, is replaced, and only the files of these names are
    removed: all others move into the new one. Errors: ForeignPath for any other folder, OSError.
    """
    refuse_foreign(target, mark)
    superseded = None
    if target.exists():
        superseded = _free_name(target.with_name(f"{target.name}.old"), names)
        os.replace(target, superseded)
    os.replace(partial, target)
    remove_file(target / PARTIAL)
    sync_folder(target.parent)
    if superseded and not remove_named(superseded, names):
        for path in list(superseded.iterdir()):
            if not (target / path.name).exists():
                os.replace(path, target / path.name)
        remove_empty(superseded)


def refuse_foreign(folder: Path, mark: str) -> None:
    """Refuse to replace a folder that this package did not write. Errors: ForeignPath."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ForeignPath(f"{folder} is in the way, and not a folder. Move it away, or name another place.")
    if folder.is_dir() and not (folder / mark).is_file() and any(folder.iterdir()):
        raise ForeignPath(
            f"{folder} holds files that this program did not write (there is no {mark}) and would be replaced. Move "
            "it away, or name another place."
        )


def refuse_overwriting(path: Path, mark: str) -> None:
    """Refuse to replace a file that another program wrote: `mark` is not near its beginning. Errors: ForeignPath."""
    if path.is_symlink() or path.exists():
        with contextlib.suppress(OSError):
            if not path.is_symlink() and mark.encode() in path.open("rb").read(4096):
                return
        raise ForeignPath(f"{path} exists, and was not written by this command. Move it away, or name another file.")


def refuse_irregular(path: Path) -> Path:
    """A path to write to. Errors: ForeignPath for a folder, a pipe or a device that has the name of a file."""
    if path.exists() and not path.is_file():
        raise ForeignPath(f"{path} is not a regular file, and would be overwritten. Move it away, then try again.")
    return path


def temporary_folder(prefix: str) -> Path:
    """A new temporary folder, removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def remove_partials(folder: Path) -> None:
    """Remove partial writes of killed processes from a folder: marked folders, and parts of small files."""
    for path in folder.glob(".*.part"):
        if path.is_dir():
            _remove_marked(path)
        elif UNFINISHED.fullmatch(path.name):
            remove_file(path)


def _remove_marked(folder: Path) -> None:
    if not folder.is_symlink() and (folder / PARTIAL).is_file():
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.is_dir():
        remove_empty(folder)


def _free_name(path: Path, names: Iterable[str]) -> Path:
    """`path`, cleared of what was superseded before; another name if it holds foreign files."""
    for number in itertools.count():
        candidate = path.with_name(f"{path.name}{number or ''}")
        if not candidate.is_symlink() and (not candidate.exists() or remove_named(candidate, names)):
            return candidate
    raise AssertionError


def cache_folder() -> Path:
    """The cache of what is compiled or measured once per user: `$XDG_CACHE_HOME/runner`, by default `~/.cache/runner`.

    A relative path is ignored, as that variable's specification demands. Errors: OSError without a home folder.
    """
    configured, home = os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~")
    if os.path.isabs(configured):
        return Path(configured) / "runner"
    if not os.path.isabs(home):
        raise FileNotFoundError(errno.ENOENT, "there is no home folder: HOME is not set, and the user has no entry")
    return Path(home) / ".cache" / "runner"

"""Downloading official files of data sets and published weights, when the user asks for it."""

from __future__ import annotations

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .. import files
from ..errors import DataError
from ..processes import locked

#: How often an interrupted download resumes before it is given up.
ATTEMPTS = 4
#: Answers of servers that are busy, and seconds until the first repetition, unless they say how many.
BUSY, WAIT_S, LONGEST_WAIT_S = (429, 500, 502, 503, 504), 1.0, 20.0
BLOCK = 1 << 20


@dataclass
class OfficialFile:
    """A file and its address."""

    name: str
    url: str
    md5: str | None
    """None if its publisher gives none."""


def require(root: Path, files: list[OfficialFile], download: bool) -> None:
    """Make sure that the files are below `root`.

    Errors: DataError naming the missing file and its remedy, or a file whose checksum is wrong.
    """
    for file in files:
        if (root / file.name).is_file():
            continue
        if not download:
            raise DataError(
                f"{root / file.name} is missing. Put it there (it is published at {file.url}), point data.root at its "
                "folder, or download it with data.download=true."
            )
        fetch(file, root)


def fetch(
    file: OfficialFile,
    root: Path,
    tell: Callable[[int, int], None] = lambda done, count: None,
    check: Callable[[Path], None] = lambda path: None,
) -> None:
    """Download a file into `root`, where it appears only when it is complete and its checksum is right.

    An interrupted download resumes where it stopped, also in a later run. `tell` is called with bytes, (done, all);
    `check` with the complete file, and raises ValueError if it is not what it should be. Errors: DataError.
    """
    target, partial = root / file.name, root / f".{file.name}.download"
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Processes that want the same file wait for the first of them.
        with locked(partial):
            if not target.is_file():
                _fetch(file, partial, tell)
                _verify(file, partial, check)
                files.name_file(partial, target)
            _forget(partial)
    except (OSError, ValueError, http.client.HTTPException) as error:
        part = partial.stat().st_size if partial.is_file() else 0
        if not part:
            _forget(partial)
        again = f" {part:,} bytes of it are kept: repeat the command to resume." if part else ""
        raise DataError(
            f"{file.url} cannot be fetched: {error}.{again} Try again, or download it by hand to {target}."
        ) from error


def _fetch(file: OfficialFile, partial: Path, tell: Callable[[int, int], None]) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _resume(file, partial, tell)
            break
        except (OSError, http.client.HTTPException) as error:
            if attempt == ATTEMPTS or not _may_pass(error, attempt, partial):
                raise


def _may_pass(error: Exception, attempt: int, partial: Path) -> bool:
    """Whether another attempt may succeed; waits for a server that is busy."""
    if not isinstance(error, urllib.error.HTTPError):
        return True
    if error.code == 416 and partial.stat().st_size:
        # The local part is longer than the remote file: it is another file.
        os.truncate(partial, 0)
        return True
    if error.code in BUSY:
        wait = error.headers.get("Retry-After", "")
        time.sleep(min(LONGEST_WAIT_S, float(wait) if wait.isdecimal() else attempt * WAIT_S))
        return True
    return False


def _verify(file: OfficialFile, partial: Path, check: Callable[[Path], None]) -> None:
    """Errors: DataError for a complete file that is not the published one; it is removed."""
    digest = md5_of(partial)
    if file.md5 and digest != file.md5:
        _forget(partial)
        raise DataError(f"{file.url} arrived damaged: MD5 {digest} instead of {file.md5}. Try again.")
    try:
        check(partial)
    except ValueError as error:
        _forget(partial)
        raise DataError(
            f"{file.url} was answered with something else: {error}. A login page or a proxy may have answered: "
            "open the address in a browser, and try again."
        ) from error


def _resume(file: OfficialFile, partial: Path, tell: Callable[[int, int], None]) -> None:
    """Download the rest of a file, or all of it where it may have changed since and has no checksum.

    Errors: OSError, HTTPException, also if the connection ends before the file does.
    """
    version = _version(partial)
    validator = version.read_text() if version.is_file() else ""
    done = partial.stat().st_size if validator or file.md5 else 0
    headers = {"Range": f"bytes={done}-"} | ({"If-Range": validator} if validator else {}) if done else {}
    request = urllib.request.Request(file.url, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as response, partial.open("r+b") as target:
        if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
            # Other bytes than wanted: the next attempt begins anew.
            target.truncate(0)
            raise ConnectionError("the server sent another part of the file than the one it was asked for")
        if response.status != 206:
            done = 0
            target.truncate(0)
            tag = response.headers.get("ETag", "")
            # RFC 9110, 13.1.5: a weak tag is not allowed in If-Range.
            version.write_text(tag if tag.startswith('"') else response.headers.get("Last-Modified", ""))
        target.seek(done)
        length = response.headers.get("Content-Length")
        whole = done + int(length) if length else None
        while block := response.read(BLOCK):
            target.write(block)
            done += len(block)
            tell(done, whole or done)
    if whole is not None and done < whole:
        raise ConnectionError(f"the connection ended after {done:,} of {whole:,} bytes")


def _version(partial: Path) -> Path:
    """The file with the server's name for the version that a partial download is of."""
    return partial.with_name(f"{partial.name}.version")


def _forget(partial: Path) -> None:
    for path in (partial, _version(partial)):
        files.remove_file(path)


def md5_of(path: Path) -> str:
    """The MD5 of a file, in hexadecimal digits."""
    return _hexdigest(hashlib.md5(usedforsecurity=False), path)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    return _hexdigest(hashlib.sha256(), path)


def _hexdigest(digest: hashlib._Hash, path: Path) -> str:
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()

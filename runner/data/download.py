"""Fetching the official files of a data set, when the user says so."""

from __future__ import annotations

import hashlib
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from .. import files
from ..errors import DataError


@dataclass
class OfficialFile:
    """A file of a data set and where it comes from."""

    name: str
    url: str
    md5: str


def require(root: Path, files: list[OfficialFile], download: bool) -> None:
    """Make sure that the files are below `root`.

    Errors: DataError naming the missing file and its remedy, or a file that arrives damaged.
    """
    for file in files:
        if (root / file.name).is_file():
            continue
        if not download:
            raise DataError(
                f"{root / file.name} is missing. Put it there (it is published at {file.url}), point data.root at the "
                "folder that has it, or let data.download=true fetch it."
            )
        fetch(file, root)


def fetch(file: OfficialFile, root: Path) -> None:
    """Download a file into `root`; it appears there only when its checksum is right."""
    root.mkdir(parents=True, exist_ok=True)
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with files.partial_file(root / file.name) as partial:
            with urllib.request.urlopen(file.url, timeout=60) as response, partial.open("xb") as target:
                while block := response.read(1 << 20):
                    digest.update(block)
                    target.write(block)
            if digest.hexdigest() != file.md5:
                raise DataError(
                    f"{file.url} arrived damaged: MD5 {digest.hexdigest()} instead of {file.md5}. Try again."
                )
    except OSError as error:
        raise DataError(f"{file.url} cannot be fetched: {error}. Download it by hand to {root / file.name}.") from error

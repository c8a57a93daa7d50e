"""Tar archives in WebDataset's layout: files that share their name up to the first dot are one sample."""

from __future__ import annotations

import json
import shlex
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from ..errors import DataError
from ..images.formats import is_hidden, is_picture
from . import label_texts, storage
from .classes import BETWEEN, BLANKS, Problems, listed

SUFFIXES = (".tar",)
#: Most bytes of a `.cls` or `.json`; a larger one is something else.
LARGEST_LABEL = 1 << 20
#: Bytes that are compared with zeros at a time.
BLOCK = 1 << 20
#: Most zeros behind the end; tar pads to some kilobytes.
LARGEST_PADDING = 64 << 20


@dataclass
class _Contents:
    """What the files of an archive are."""

    pictures: dict[str, list[tuple[str, int, int]]] = field(default_factory=dict)
    """Sample → (name, offset, length) of its images."""
    labels: dict[str, str] = field(default_factory=dict)
    """Sample → its label in `.cls` or `.json`."""
    others: dict[str, str] = field(default_factory=dict)
    """Sample → the other of the two, if it differs."""
    skipped: list[int] = field(default_factory=lambda: [0, 0])
    """Hidden or system files, and what is not a file."""
    has_labels: bool = False
    """Whether there is a `.cls` or `.json`, with a label or without."""


def pictures(
    path: str, _: str, key: str, problems: Problems
) -> tuple[list[tuple[str, int, int, str]], list[str], list[int]]:
    """(name, offset, length, label) of each sample's image; no class names; how many files were skipped, hidden or
    system files and what is not a file, such as links.

    The label is the text of `.cls`, or the value of `key` in `.json`; lists are joined with `BETWEEN`. Nothing is
    unpacked. Errors: DataError for an archive that is truncated or damaged, or has folders in place of labels.
    """
    contents = _contents(path, key)
    _refuse_class_folders(path, contents)
    for sample in contents.labels:
        if sample not in contents.pictures:
            problems.add(f"{path}: {sample}", "a label, but no picture")
    entries: list[tuple[str, int, int, str]] = []
    for sample, members in contents.pictures.items():
        # Next to `x.jpg`, `x.mask.png` is not another image.
        plain = [one for one in members if one[0].removeprefix(sample).count(".") == 1] or members
        label, other = contents.labels.get(sample), contents.others.get(sample)
        if len(plain) > 1:
            problems.add(f"{path}: {sample}", f"{len(plain)} pictures of one name, which ends at its first dot")
        elif label is None:
            problems.add(f"{path}: {sample}", f"a picture, but neither a .cls nor a .json with '{key}'")
        elif other is not None:
            told = " and ".join(sorted(f"'{one.replace(BETWEEN, ', ')}'" for one in (label, other)))
            problems.add(f"{path}: {sample}", f"its .cls and the '{key}' of its .json differ: {told}")
        else:
            entries.append((*plain[0], label))
    return entries, [], contents.skipped


def _contents(path: str, key: str) -> _Contents:
    contents = _Contents()
    with storage.reaching(path), storage.opened(path) as stream:
        for member in _members(path, stream):
            name = member.name.removeprefix("./")
            folder, slash, base = name.rpartition("/")
            if any(is_hidden(part) for part in name.split("/") if part.strip(".")):
                contents.skipped[0] += not member.isdir()
                continue
            if not member.isreg() or member.issparse():
                contents.skipped[1] += not member.isdir()
                continue
            stem, _, suffix = base.partition(".")
            sample, suffix = f"{folder}{slash}{stem}", suffix.lower()
            if is_picture(base):
                contents.pictures.setdefault(sample, []).append((name, member.offset_data, member.size))
            elif suffix in ("cls", "json"):
                contents.has_labels = True
                stream.seek(member.offset_data)
                label = _label(stream.read(min(member.size, LARGEST_LABEL)), suffix, key)
                if label and contents.labels.setdefault(sample, label) != label:
                    contents.others[sample] = label
    return contents


def _refuse_class_folders(path: str, contents: _Contents) -> None:
    """Errors: DataError for an archive of pictures in folders without any label."""
    folders = {sample.rpartition("/")[0].rpartition("/")[2] for sample in contents.pictures} - {""}
    if len(folders) > 1 and not contents.has_labels:
        raise DataError(
            f"{path} has pictures and no labels, neither .cls nor .json. If its folders are the classes "
            f"({listed(sorted(folders))}), unpack it: tar -xf {shlex.quote(path)} -C DIR, then train with "
            "data=image_folder data.root=DIR"
        )


def _label(content: bytes, suffix: str, key: str) -> str:
    """The label in a `.cls` or `.json`; empty if it has none."""
    try:
        value = content.decode() if suffix == "cls" else json.loads(content)[key]
        text = label_texts.of_list(value) or "" if isinstance(value, list) else _text(value)
        # JSON can escape lone surrogates, which cannot be encoded.
        text.encode()
    except (ValueError, RecursionError, LookupError, TypeError):
        return ""
    return text


def _text(value: Any) -> str:
    """A name or number as text; empty for anything else."""
    return str(value).strip(BLANKS) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


def _members(path: str, stream: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    """The members of an archive, reading only the headers. Errors: DataError if its end is missing or damaged."""
    try:
        with tarfile.open(fileobj=stream, mode="r:", errors="surrogateescape") as tar:
            # Python 3.10 would look for the next one of an archive without members before its beginning.
            member = tar.next() if tar.firstmember else None  # type: ignore[attr-defined]
            while member is not None:
                # tarfile would otherwise keep every header in memory.
                tar.members.clear()  # type: ignore[attr-defined]
                yield member
                member = tar.next()
            end = tar.offset
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DataError(f"{path} is damaged or cut off: {error}. Make it again, or fetch it again.") from error
    # Python treats a damaged header, or a missing end, as the end.
    stream.seek(end)
    rest = stream.read(BLOCK)
    if len(rest) < tarfile.BLOCKSIZE:
        raise DataError(
            f"{path} is cut off: the empty blocks at its end are missing. Make it again, or fetch it again."
        )
    while rest:
        if stream.tell() - end > LARGEST_PADDING:
            raise DataError(
                f"{path} ends at byte {end:,} and goes on with more than {LARGEST_PADDING >> 20} MB of zeros: it was "
                "not written whole. Make it again, or fetch it again."
            )
        if rest.strip(b"\0"):
            raise DataError(
                f"{path} has more after byte {end:,}, where a header is damaged, or where an archive ends that cat "
                "put together with others: join them with tar --concatenate, or keep them apart."
            )
        rest = stream.read(BLOCK)

"""Listing the folders and images in folders, and counting what is skipped."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping

from ..errors import DataError
from ..images.formats import is_hidden, is_picture

#: Most skipped files of a reason that are named.
NAMED = 5
#: Reasons to skip a file.
HIDDEN, NO_PICTURE = "hidden or system names", "files that are not images"
#: Photos that Pillow does not read, or not safely.
UNREAD = (
    ".heic", ".heif", ".avif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".psd", ".svg",
)  # fmt: skip
#: A folder's device and inode, which identify it whatever links lead to it.
Identity = tuple[int, int]


class Skipped(Counter[str]):
    """Why files were skipped → how many; the first of each are named."""

    def __init__(self, *counts: Mapping[str, int]) -> None:
        super().__init__(*counts)
        self.paths: dict[str, list[str]] = {}

    def add(self, reason: str, folder: str, name: str) -> None:
        """Count a file of a folder."""
        self[reason] += 1
        paths = self.paths.setdefault(reason, [])
        if len(paths) < NAMED:
            paths.append(os.path.join(folder, name))


def unread(suffix: str) -> str:
    """The reason to skip photos of a format that is not read."""
    return f"{suffix} files, which are not read: convert them to JPEG or PNG"


def scan(folder: str, skipped: Skipped) -> tuple[list[str], list[str]]:
    """Sorted names of the folders and image files in a folder; all others are counted and, the first, named.

    Errors: DataError for a folder that cannot be listed.
    """
    folders: list[str] = []
    pictures: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if is_hidden(name):
                    skipped.add(HIDDEN, folder, name)
                elif entry.is_dir():
                    folders.append(name)
                # The check of images reports broken links; opening a pipe would block.
                elif is_picture(name) and (entry.is_file() or entry.is_symlink()):
                    pictures.append(name)
                else:
                    suffix = os.path.splitext(name)[1].lower()
                    skipped.add(unread(suffix) if suffix in UNREAD else NO_PICTURE, folder, name)
    except OSError as error:
        raise DataError(
            f"{folder or 'data.root'} cannot be listed: {error.strerror}. data=image_folder expects "
            "data.root/train/<class>/<pictures> or data.root/<class>/<pictures>."
        ) from error
    return sorted(folders), sorted(pictures)


def walk(folder: str, skipped: Skipped, prefix: str = "", above: tuple[Identity, ...] = ()) -> Iterator[str]:
    """Sorted paths of all images below a folder, relative to it; links are followed.

    Errors: DataError for a folder that cannot be listed, and for a link that leads back to a folder above it.
    """
    folders, pictures = scan(folder, skipped)
    if folders:
        status = os.stat(folder)
        above = (*above, (status.st_dev, status.st_ino))
    # Folders sort as their name with a slash, so that paths of files come out sorted.
    for name in sorted([*pictures, *(f"{name}/" for name in folders)]) if folders else pictures:
        if not name.endswith("/"):
            yield prefix + name
            continue
        inner = os.path.join(folder, name[:-1])
        status = os.stat(inner)
        if (status.st_dev, status.st_ino) in above:
            raise DataError(f"{inner} is a link that leads back to a folder above it, without end. Remove the link.")
        yield from walk(inner, skipped, prefix + name, above)


def folders_in(folder: str) -> list[str]:
    """Sorted names of the folders in a folder; none if it cannot be listed."""
    with contextlib.suppress(DataError):
        return scan(folder, Skipped())[0]
    return []


def has_images(folder: str, deep: bool = True) -> bool:
    """Whether there is an image in a folder or, with `deep`, below it. Links below it are not followed."""
    inner: list[str] = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if is_picture(entry.name) and not is_hidden(entry.name) and not entry.is_dir():
                return True
            if deep and entry.is_dir(follow_symlinks=False) and not is_hidden(entry.name):
                inner.append(entry.path)
    return any(map(has_images, inner))

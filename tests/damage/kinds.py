"""What can happen to a file of a run directory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

#: Stands outside of the run directory; what it says must never be shown, and it must never change.
SECRET = "a secret of somebody else"


def _write(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[len(content) // 2] ^= 4
    path.write_bytes(content)


def _zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + "\nÄöü\n".encode("latin-1"))


def _replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _replace_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.anchor / secret_beside(path))


def secret_beside(path: Path) -> Path:
    """The file with the secret, beside the case's folder."""
    return next(parent for parent in path.absolute().parents if (parent / "secret").is_file()) / "secret"


#: Name → what does it. A pipe stands for what cannot be read: rights do not stop root.
DAMAGES: dict[str, Callable[[Path], None]] = {
    "empty": _write(b""),
    "half": _halve,
    "bit flipped": _flip,
    "list": _write(b"[]\n"),
    "number": _write(b"123\n"),
    "object": _write(b"{}\n"),
    "null lines": _write(b"null\nnull\n"),
    "NULs": _zero,
    "latin-1": _lengthen,
    "nested deep": _write(b"[" * 100_000 + b"]" * 100_000),
    "folder": _replace_by_folder,
    "pipe": _replace_by_pipe,
    "link outside": _replace_by_link,
    "missing": Path.unlink,
}

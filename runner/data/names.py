"""Many strings in two arrays instead of as many objects, so that forked processes share their memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np


@dataclass
class Names:
    """Strings (file names), concatenated."""

    text: np.ndarray
    """uint8 [bytes]: their UTF-8; bytes of file names that are not UTF-8 stay as they are."""
    ends: np.ndarray
    """int64 [N + 1]: the offset of each, and the end of the last one."""

    @classmethod
    def of(cls, strings: Iterable[str]) -> Names:
        """Names from strings."""
        parts = [string.encode("utf-8", "surrogateescape") for string in strings]
        ends = np.zeros(len(parts) + 1, dtype=np.int64)
        np.cumsum([len(part) for part in parts], out=ends[1:])
        return cls(np.frombuffer(b"".join(parts), dtype=np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, index: int) -> str:
        begin, end = self.ends[index : index + 2] if index >= 0 else self.ends[index - 1 :][:2]
        return self.text[begin:end].tobytes().decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("utf-8", "surrogateescape") for name in self.encoded())

    def encoded(self, indices: np.ndarray | slice = slice(None)) -> Iterator[bytes]:
        """The bytes of all names or of those at indices, int64 [n]; faster than one by one."""
        text, begins, ends = self.text.data, self.ends[:-1][indices], self.ends[1:][indices]
        return (text[begin:end].tobytes() for begin, end in zip(begins.tolist(), ends.tolist(), strict=True))

    def select(self, indices: np.ndarray) -> Names:
        """The names at these indices, int64 [n]."""
        ends = np.zeros(len(indices) + 1, dtype=np.int64)
        np.cumsum(np.diff(self.ends)[indices], out=ends[1:])
        return Names(np.frombuffer(b"".join(self.encoded(indices)), dtype=np.uint8), ends)

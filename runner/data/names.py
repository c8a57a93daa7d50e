"""Many strings without as many objects: processes that are forked share them for good."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np


@dataclass
class Names:
    """Strings, as file systems have them, one behind the other."""

    text: np.ndarray
    """uint8 [bytes]: their UTF-8; bytes of file names that are none stay as they are."""
    ends: np.ndarray
    """int64 [N + 1]: where each begins, and after the last one where that ends."""

    @classmethod
    def of(cls, strings: Iterable[str]) -> Names:
        """Names that are these strings."""
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
        return (self[index] for index in range(len(self)))

    def select(self, indices: np.ndarray) -> Names:
        """The names at these places, int64 [n]."""
        lengths = np.diff(self.ends)[indices]
        ends = np.zeros(len(indices) + 1, dtype=np.int64)
        np.cumsum(lengths, out=ends[1:])
        # Of every byte where it stands in the old text.
        places = np.arange(ends[-1]) + np.repeat(self.ends[:-1][indices] - ends[:-1], lengths)
        return Names(self.text[places], ends)

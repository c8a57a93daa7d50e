"""Classifying images with an exported network, as training saw them. Imports Paddle only for Paddle's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .. import images
from . import engines, manifest


class Deployed:
    """A file of an export folder in its engine, ready for images."""

    def __init__(self, folder: Path, path: str | None = None, threads: int = 1) -> None:
        """Open the recommended file, or that of a path. Errors: CheckpointError, ConfigError."""
        self.manifest = manifest.read(folder)
        self.file = self.manifest.file(path)
        self.engine = engines.open_(folder, self.file, threads)
        # The arithmetic of `data.Normalize`: in another order the last bits differ.
        self.scales = np.array([1 / (255 * std) for std in self.manifest.std], dtype=np.float32)
        self.shifts = np.array(
            [-mean / std for mean, std in zip(self.manifest.mean, self.manifest.std, strict=True)], dtype=np.float32
        )

    def __call__(self, pictures: Sequence[str | Path | bytes | Image.Image], batch_size: int = 64) -> np.ndarray:
        """Probabilities of image files, their contents or Pillow images: float32 [N, classes].

        Errors: DataError naming what is no image.
        """
        parts = [np.empty((0, len(self.manifest.classes)), dtype=np.float32)]
        for begin in range(0, len(pictures), batch_size):
            decoded = np.stack([self._decoded(picture) for picture in pictures[begin : begin + batch_size]])
            parts.append(softmax(self.engine(self.normalize(decoded))))
        return np.concatenate(parts)

    def normalize(self, decoded: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, C] to float32 [N, C, H, W], (x / 255 - mean) / std."""
        channels = decoded.transpose(0, 3, 1, 2).astype(np.float32)
        return channels * self.scales[:, None, None] + self.shifts[:, None, None]

    def _decoded(self, picture: str | Path | bytes | Image.Image) -> np.ndarray:
        return images.decode(picture, self.manifest.preparation)


def softmax(logits: np.ndarray) -> np.ndarray:
    """float32 [N, classes] to probabilities of the same shape."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)

"""Pipelines of torchvision's transforms (v2): of tensors, and of Pillow's images as timm composes them."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

# The wheel on PyPI has operators for a PyTorch with CUDA. No transform needs them, so another one does as well.
with mock.patch("torch.library.register_fake", return_value=lambda function: function):
    from torchvision.transforms import v2

MEAN = STD = [0.5, 0.5, 0.5]


def pipeline(kind: str, way: str) -> Any:
    """What happens to one image: of `kind` 224 or 32, a tensor or a Pillow image (`way`), to a normalised tensor."""
    side, bilinear = int(kind), v2.InterpolationMode.BILINEAR
    if kind == "224":
        first = [v2.RandomResizedCrop(side, antialias=True), v2.RandomHorizontalFlip()]
        first += [v2.TrivialAugmentWide(interpolation=bilinear)]
    else:
        first = [v2.RandomCrop(side, padding=4), v2.RandomHorizontalFlip()]
        first += [v2.RandAugment(2, 9, interpolation=bilinear)]
    made = [v2.PILToTensor()] if way == "pillow" else []
    last = [v2.RandomErasing(0.25)] if kind == "224" else []
    return v2.Compose([*first, *made, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD), *last])


class Pictures(Dataset):
    """Images uint8 [N, H, W, 3], changed one by one."""

    def __init__(self, images: np.ndarray, kind: str, way: str) -> None:
        self.images, self.change, self.way = images, pipeline(kind, way), way

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        image = self.images[index]
        if self.way == "pillow":
            return self.change(Image.fromarray(image))
        return self.change(torch.from_numpy(image).permute(2, 0, 1))


def batches(images: np.ndarray, kind: str, way: str, batch: int, workers: int) -> DataLoader:
    """Shuffled batches, made by processes with a thread each."""
    torch.set_num_threads(1)
    return DataLoader(Pictures(images, kind, way), batch, shuffle=True, num_workers=workers, persistent_workers=True)

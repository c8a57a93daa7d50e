"""Data sets: reading them, splitting them, batching, and the augmentation and normalisation of images."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..images import Preparation, decode
from ..images.resampling import resize_all
from .classes import listed
from .labels import stratified_split
from .matching import ClassMismatch, ExpectedClasses
from .samplers import epoch_order
from .sources import load, preparation
from .splits import FilesOnDisk, ImageFiles, Images, Pictures, Source, Split

if TYPE_CHECKING:
    from .loaders import Batch, EvalLoader, Loaders, TrainLoader, build
    from .transforms import Normalize

__all__ = [
    "Batch",
    "ClassMismatch",
    "EvalLoader",
    "ExpectedClasses",
    "FilesOnDisk",
    "ImageFiles",
    "Images",
    "Loaders",
    "Normalize",
    "Pictures",
    "Preparation",
    "Source",
    "Split",
    "TrainLoader",
    "build",
    "decode",
    "epoch_order",
    "listed",
    "load",
    "preparation",
    "resize_all",
    "stratified_split",
]

#: Names that are imported on first use, and their modules: those load Paddle, which reading a set does not need.
_WITH_PADDLE = dict.fromkeys(("Batch", "EvalLoader", "Loaders", "TrainLoader", "build"), "loaders")
_WITH_PADDLE |= {"Normalize": "transforms"}


def __getattr__(name: str) -> Any:
    if name not in _WITH_PADDLE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return vars(importlib.import_module(f".{_WITH_PADDLE[name]}", __name__))[name]

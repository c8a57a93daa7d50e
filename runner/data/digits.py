"""The handwritten digits bundled with scikit-learn (UCI Optical Recognition of Handwritten Digits, 1998)."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from .. import config as cfg
from ..errors import DataError
from ..images.resampling import resize_all
from .labels import stratified_split
from .splits import Images, Source


def load(config: cfg.Digits) -> Source:
    """1,797 images of ten digits, divided into training and test images by `split_seed`."""
    with gzip.open(_file(), "rt") as stream:
        table = np.loadtxt(stream, delimiter=",", dtype=np.int64)
    grey = np.round(table[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    everything = Images(resize_all(grey, config.size), table[:, -1])
    train, test = stratified_split(everything.labels, config.test_fraction, config.split_seed)
    return Source("digits", [str(digit) for digit in range(10)], everything.select(train), everything.select(test))


def _file() -> Path:
    # `find_spec` does not import scikit-learn, which would take a second.
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError("data=digits is read from scikit-learn, which is not installed: pip install scikit-learn")
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not path.is_file():
        raise DataError(f"{path} is missing: this scikit-learn has no digits. Reinstall it: pip install scikit-learn")
    return path

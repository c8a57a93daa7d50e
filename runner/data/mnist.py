"""MNIST (LeCun et al., 1998) and Fashion-MNIST (Xiao et al., 2017) from their official IDX files."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np

from .. import config as cfg
from .. import stored
from ..errors import DataError
from ..images.resampling import resize_all
from . import download
from .splits import Images, Source

HOMES = {
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist",
    "fashion_mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
}
CHECKSUMS = {
    "mnist": {
        "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
    },
}
#: Most bytes of a file, packed and unpacked; the largest official one has 47 million.
LARGEST = 1 << 28
CLASSES = {
    "mnist": [str(digit) for digit in range(10)],
    "fashion_mnist": [
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ],
}  # fmt: skip


def load(config: cfg.Mnist | cfg.FashionMnist) -> Source:
    """60,000 training and 10,000 test images; the files may be gzipped or not."""
    root = Path(config.root)
    require(config, config.download)
    train, test = (
        Images(
            resize_all(_read(root, f"{split}-images-idx3-ubyte", 3)[..., None], config.size),
            _read(root, f"{split}-labels-idx1-ubyte", 1).astype(np.int64),
        )
        for split in ("train", "t10k")
    )
    return Source(config.kind, CLASSES[config.kind], train, test)


def require(config: cfg.Mnist | cfg.FashionMnist, may_download: bool) -> None:
    """Check that all files exist. Errors: DataError."""
    root = Path(config.root)
    missing = [name for name in CHECKSUMS[config.kind] if not (root / name).is_file()]
    official = [
        download.OfficialFile(f"{name}.gz", f"{HOMES[config.kind]}/{name}.gz", CHECKSUMS[config.kind][name])
        for name in missing
    ]
    download.require(root, official, may_download)


def _read(root: Path, name: str, dimensions: int) -> np.ndarray:
    """The array of an IDX file. Errors: DataError if it is damaged."""
    path = root / name if (root / name).is_file() else root / f"{name}.gz"
    try:
        content = stored.read_regular(path, LARGEST)
        if path.suffix == ".gz":
            content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(LARGEST)
        magic, *shape = struct.unpack_from(f">{dimensions + 1}I", content)
        if magic != 0x0800 + dimensions:
            raise ValueError(f"it begins with {magic:#x}, not with {0x0800 + dimensions:#x}")
        return np.frombuffer(content, dtype=np.uint8, offset=4 * (dimensions + 1)).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}. Remove it and fetch it again (data.download=true).") from error

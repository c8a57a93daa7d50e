"""Files as PyTorch writes them, made without it, instruction by instruction."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np

KINDS = {"f4": "FloatStorage", "f2": "HalfStorage", "i8": "LongStorage", "f8": "DoubleStorage"}
MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def whole(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def tuple_of(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def dict_of(**values: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in values.items()) + b"u"


def dict_from(values: dict[str, bytes]) -> bytes:
    return dict_of(**values)


def storage(key: str, kind: str, count: int, *view: bytes) -> bytes:
    return tuple_of(text("storage"), name("torch", kind), text(key), text("cpu"), whole(count), *view) + b"Q"


def tensor(stored: bytes, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    hooks = name("collections", "OrderedDict") + b")R"
    sides = (tuple_of(*map(whole, size)), tuple_of(*map(whole, stride)))
    return name("torch._utils", "_rebuild_tensor_v2") + tuple_of(stored, whole(offset), *sides, b"\x89", hooks) + b"R"


def tensor_of(key: str, array: np.ndarray, *view: bytes) -> bytes:
    strides = tuple(step // array.itemsize for step in array.strides)
    kind = KINDS[array.dtype.str[1:]]
    return tensor(storage(key, kind, array.size, *view), 0, array.shape, strides)


def program(content: bytes) -> bytes:
    return b"\x80\x02" + content + b"."


def write_zip(path: Path, content: bytes, storages: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program(content))
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
        archive.writestr("archive/version", "3\n")
    return path


def save(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """A state dict, as `torch.save` writes it since 1.6."""
    content = dict_from({key: tensor_of(key, array) for key, array in arrays.items()})
    return write_zip(path, content, {key: array.tobytes() for key, array in arrays.items()})


def save_legacy(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """The same as it was written before."""
    keys = b"](" + b"".join(map(text, arrays)) + b"e"
    parts = [
        program(b"\x8a\x0a" + MAGIC), program(b"M\xe9\x03"), program(dict_of(little_endian=b"\x88")),
        program(dict_from({key: tensor_of(key, array, b"N") for key, array in arrays.items()})), program(keys),
    ]  # fmt: skip
    data = [struct.pack("<q", array.size) + array.tobytes() for array in arrays.values()]
    path.write_bytes(b"".join([*parts, *data]))
    return path

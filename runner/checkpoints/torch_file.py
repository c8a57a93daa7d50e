"""Reading PyTorch's files without PyTorch: nothing in a file is imported or called.

Since PyTorch 1.6 a file is a zip archive of one pickle and the bytes of every storage; before, several pickles followed
by the storages. Tensors are recorded while the pickle is read, and created once their storage is known to be complete.
Everything else in a checkpoint (an optimizer, a program's arguments) is skipped.
"""

from __future__ import annotations

import math
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from .. import stored
from ..data.unpickling import MOST_DIMENSIONS, Machine, Name, Reader, Recorded

#: The magic number of files from before 1.6.
MAGIC = 0x1950A86A20F9469CFC6C
_ORDERED = "collections.OrderedDict"
_TENSORS = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_TYPED = "torch._tensor._rebuild_from_type_v2"
#: Storage → its NumPy type; bfloat16 is the upper half of a float32.
_DTYPES = {
    "torch.FloatStorage": "f4", "torch.DoubleStorage": "f8", "torch.HalfStorage": "f2", "torch.BFloat16Storage": "u2",
    "torch.LongStorage": "i8", "torch.IntStorage": "i4", "torch.ShortStorage": "i2", "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1", "torch.BoolStorage": "b1",
}  # fmt: skip
_HALVES = "torch.BFloat16Storage"
_KNOWN = {_ORDERED, *_TENSORS, *_PARAMETERS, _TYPED, *_DTYPES}


class Opaque:
    """Placeholder for anything but a tensor, number, text or a container of these."""


@dataclass
class _Storage(Recorded):
    kind: str
    key: str
    count: int


@dataclass
class _Tensor:
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def load(path: Path) -> Any:
    """The contents of a file: NumPy arrays, numbers, text, and lists and dicts of them; `Opaque` for everything else.

    Memory stays near the file's size. Errors: `pickle.UnpicklingError` for a file that is damaged or not PyTorch's,
    OSError.
    """
    with stored.open_regular(path) as stream:
        try:
            return _from_zip(stream) if zipfile.is_zipfile(stream) else _from_pickles(stream)
        except (ValueError, LookupError, TypeError, EOFError, struct.error, zipfile.BadZipFile) as error:
            raise pickle.UnpicklingError(f"it is damaged ({error})") from error
        except (NotImplementedError, RuntimeError) as error:
            raise pickle.UnpicklingError(f"it is an archive that PyTorch does not write ({error})") from error


def _from_zip(stream: IO[bytes]) -> Any:
    with zipfile.ZipFile(stream) as archive:
        pickles = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise pickle.UnpicklingError("it is a zip archive that PyTorch did not write")
        root = pickles[0].removesuffix("data.pkl")
        size = stream.seek(0, 2)
        order = ">" if _member(archive, f"{root}byteorder", size, b"little") == b"big" else "<"
        with archive.open(_stored(archive, pickles[0], size)) as inner:
            content = _Machine(Reader(inner)).run()
        return _materialize(content, order, size, lambda storage: _member(archive, f"{root}data/{storage.key}", size))


def _member(archive: zipfile.ZipFile, name: str, size: int, default: bytes | None = None) -> bytes:
    if default is not None and name not in archive.namelist():
        return default
    return archive.read(_stored(archive, name, size))


def _stored(archive: zipfile.ZipFile, name: str, size: int) -> zipfile.ZipInfo:
    """A file of the archive; compressed ones are refused, because a small one could unpack to more than the memory."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > size:
        raise pickle.UnpicklingError(f"it has a compressed {name}, which PyTorch does not write")
    return info


def _from_pickles(stream: IO[bytes]) -> Any:
    size = stream.seek(0, 2)
    header, start = [], 0
    for _ in range(3):
        header.append(_Machine(Reader(stream, start)).run())
        start = stream.tell()
        if header[0] != MAGIC:
            raise pickle.UnpicklingError("it does not begin as a file of PyTorch does")
    machine = _Machine(Reader(stream, start))
    content = machine.run()
    keys = _Machine(Reader(stream, stream.tell())).run()
    places = {}
    order = "<" if not isinstance(header[2], dict) or header[2].get("little_endian", True) else ">"
    for key in keys if isinstance(keys, list) else []:
        storage = machine.storages.get(key)
        if storage is None:
            raise pickle.UnpicklingError(f"it has a storage {key!r:.40} that no tensor has")
        (count,) = struct.unpack(f"{order}q", stream.read(8))
        places[key] = (stream.tell(), count * np.dtype(_DTYPES[storage.kind]).itemsize)
        if count < 0 or sum(places[key]) > size:
            raise pickle.UnpicklingError("it is truncated inside tensor data")
        stream.seek(sum(places[key]))

    def read(storage: _Storage) -> bytes:
        place, length = places[storage.key]
        stream.seek(place)
        return stream.read(length)

    return _materialize(content, order, size, read)


def _materialize(content: Any, order: str, size: int, read: Callable[[_Storage], bytes]) -> Any:
    """The content with arrays in place of recorded tensors; at most twice the file's `size` in bytes is created."""
    kept: dict[str, np.ndarray] = {}
    left = 2 * size

    def array(tensor: _Tensor) -> np.ndarray:
        nonlocal left
        storage, dtype = tensor.storage, np.dtype(order + _DTYPES[tensor.storage.kind])
        left -= math.prod(tensor.size) * dtype.itemsize
        if storage.key not in kept:
            left -= storage.count * dtype.itemsize
            if left >= 0:
                kept[storage.key] = np.frombuffer(read(storage), dtype)
        if left < 0:
            raise pickle.UnpicklingError("it has too many tensors of the same storage")
        numbers = kept[storage.key]
        last = tensor.offset + sum((side - 1) * step for side, step in zip(tensor.size, tensor.stride, strict=True))
        if math.prod(tensor.size) and last >= len(numbers):
            raise pickle.UnpicklingError("it has a tensor that is larger than its storage")
        strides = [step * dtype.itemsize for step in tensor.stride]
        view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.size, strides)
        return widened(view) if storage.kind == _HALVES else np.array(view, dtype.newbyteorder("="), order="C")

    def walk(value: Any) -> Any:
        match value:
            case _Tensor():
                return array(value)
            case dict():
                return {key: walk(inner) for key, inner in value.items()}
            case list():
                return [walk(inner) for inner in value]
        return value

    return walk(content)


def widened(halves: np.ndarray) -> np.ndarray:
    """bfloat16, whose bits are uint16, as float32 of the same shape."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


class _Machine(Machine):
    """The stack machine for PyTorch's pickles: it records tensors, and replaces what it does not know by `Opaque`."""

    actions: ClassVar[dict[str, Callable[[Any, Any], None]]] = Machine.actions | {
        "BINPERSID": lambda machine, _: machine.persistent(),
        "NEWOBJ": lambda machine, _: machine.unknown(2),
        "NEWOBJ_EX": lambda machine, _: machine.unknown(3),
        "EMPTY_SET": lambda machine, _: machine.unknown(0),
        "ADDITEMS": lambda machine, _: machine.marked(),
        "FROZENSET": lambda machine, _: (machine.marked(), machine.unknown(0)),
        "LONG4": lambda machine, number: machine.stack.append(number),
    }

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self.storages: dict[str, _Storage] = {}

    def unknown(self, count: int) -> None:
        """Replace the last `count` values by `Opaque`."""
        self.last(count)
        self.stack.append(Opaque())

    def persistent(self) -> None:
        """A storage, of which the pickle holds only a description."""
        match self.stack.pop():
            case ("storage", Name(kind), str() as key, _, int() as count, *view) if kind in _DTYPES and count >= 0:
                if any(one is not None for one in view):
                    raise pickle.UnpicklingError("it has a view of a storage, as PyTorch 0.1 wrote it")
                self.stack.append(self.storages.setdefault(key, _Storage(kind, key, count)))
            case _:
                self.stack.append(Opaque())

    def name(self, module: str, name: str) -> None:
        full = f"{module}.{name}"
        self.stack.append(Name(full) if full in _KNOWN else Opaque())

    def reduce(self) -> None:
        function, arguments = self.last(2)
        self.stack.append(self._called(function, arguments))

    def _called(self, function: Any, arguments: Any) -> Any:
        match function, arguments:
            case Name(name), (_Storage() as storage, int() as offset, tuple() as size, tuple() as stride, *_) if (
                name in _TENSORS
            ):
                sides = (offset, *size, *stride)
                if len(size) != len(stride) or len(size) > MOST_DIMENSIONS or not all(map(_is_side, sides)):
                    raise pickle.UnpicklingError("it has a tensor whose shape is not a shape")
                return _Tensor(storage, offset, size, stride)
            case Name(name), (_Tensor() as tensor, *_) if name in _PARAMETERS:
                return tensor
            case Name(name), (Name(inner), _, tuple() as below, *_) if name == _TYPED:
                return self._called(Name(inner), below)
            case Name(name), () if name == _ORDERED:
                return {}
        return Opaque()

    def build(self) -> None:
        # A dict's state is PyTorch's `_metadata`.
        self.stack.pop()

    def get(self, index: int) -> None:
        value = self.memo[index]
        self.stack.append(Opaque() if isinstance(value, (list, dict)) else value)

    def extend(self, values: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(_replace_recorded(value) for value in values)

    def update(self, values: list[Any]) -> None:
        if isinstance(self.stack[-1], dict):
            # An optimizer's state has integers as keys.
            named = [(key, _replace_recorded(value)) for key, value in zip(values[::2], values[1::2], strict=True)]
            super().update([part for pair in named if isinstance(pair[0], str) for part in pair])


def _replace_recorded(value: Any) -> Any:
    return Opaque() if isinstance(value, Recorded) else value


def _is_side(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 48

"""Parquet: the columns of a list, and images stored as bytes in a column, as in Hugging Face's data sets."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, nearest
from . import label_texts, storage
from .classes import BLANKS, Problems

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SUFFIXES = (".parquet", ".pq")
#: Bytes of row groups that a process caches, and the most that one may have: an image is read with its whole row group.
KEPT, LARGEST_GROUP = 128 << 20, 1 << 30
#: Row groups that this process has cached, the latest at the end; by file, its state, column and number.
_groups: OrderedDict[tuple[str, str, str, int], pa.ChunkedArray] = OrderedDict()


def pictures(
    path: str, image_column: str, label_column: str, problems: Problems
) -> tuple[list[tuple[str, int, int, str]], list[str], list[int]]:
    """(name, row, length, label) of each image, class names if the file has them, and that nothing was skipped.

    The image column is binary, or has the fields `bytes` and, for names, `path`. Each row group is read once. Errors:
    DataError for a file or column that cannot be read.
    """
    with _naming(path):
        import pyarrow.compute as pc

        file = _opened(path)
        fields = _fields(file, path, image_column)
        _require(file, path, label_column, "data.label_column")
        classes = _class_names(file, label_column)
        entries: list[tuple[str, int, int, str]] = []
        for group in range(file.num_row_groups):
            content = _column(file, path, group, image_column, fields[0])
            names = (
                _column(file, path, group, image_column, "path").to_pylist()
                if "path" in fields
                else [None] * len(content)
            )
            labels = _texts(_column(file, path, group, label_column), classes, f"{path}: column '{label_column}'")
            for name, length, label in zip(names, pc.binary_length(content).to_pylist(), labels, strict=True):
                row = len(entries)
                if not length or not label:
                    what = f"no label in '{label_column}'" if length else f"no bytes in '{image_column}'"
                    problems.add(f"{path}: row {row}", what)
                entries.append((name or f"row {row}", row, length or 0, label))
        return entries, classes or [], [0, 0]


def read(path: str, image_column: str, row: int) -> bytes:
    """The image in a row, counted from 0 over all row groups. Errors: DataError, OSError."""
    with _naming(path):
        state = "" if storage.is_remote(path) else storage.stamp(path)
        file, field, ends = _shard(path, state, image_column, os.getpid())
        number = int(np.searchsorted(ends, row, side="right"))
        key = (path, state, image_column, number)
        if (group := _groups.pop(key, None)) is None:
            group = _column(file, path, number, image_column, field)
        _groups[key] = group
        while len(_groups) > 1 and sum(kept.nbytes for kept in list(_groups.values())) > KEPT:
            _groups.popitem(last=False)
        return group[row - (int(ends[number - 1]) if number else 0)].as_py()


@functools.lru_cache(maxsize=storage.OPEN)
def _shard(path: str, _state: str, image_column: str, _process: int) -> tuple[pq.ParquetFile, str | None, np.ndarray]:
    """An open file, the field that contains its images, and the row at which each of its row groups ends."""
    file = _opened(path)
    counts = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    return file, _fields(file, path, image_column)[0], np.cumsum(counts)


def rows(path: str, columns: list[str]) -> Iterator[tuple[int, list[str]]]:
    """(0, names of the columns), then (number from 1, its texts) of each row; case is ignored. Errors: DataError."""
    with _naming(path):
        file, wanted = _opened(path), {name.lower() for name in columns}
        names = [name for name in file.schema_arrow.names if name.lower() in wanted]
        yield 0, names if wanted == {name.lower() for name in names} else file.schema_arrow.names
        number = 0
        for group in range(file.num_row_groups):
            texts = [
                _texts(_column(file, path, group, name), _class_names(file, name), f"{path}: column '{name}'")
                for name in names
            ]
            for fields in zip(*texts, strict=True):
                number += 1
                yield number, list(fields)


def _opened(path: str) -> pq.ParquetFile:
    """A file, whose columns are read on demand. Errors: DataError if it is not Parquet, or PyArrow is missing."""
    with _naming(path):
        import pyarrow.parquet as pq

        storage.opened(path).close()
        # PyArrow reads local files by position, so forked processes do not disturb each other.
        return pq.ParquetFile(storage.opened(path) if storage.is_remote(path) else path, pre_buffer=False)


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Errors: DataError with the name of a file that cannot be read, or that PyArrow is missing."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise DataError(f"{path} needs PyArrow, which is not installed: pip install pyarrow") from error
    with storage.reaching(path):
        try:
            yield
        except (pa.ArrowException, ValueError, LookupError, TypeError, ArithmeticError) as error:
            # PyArrow 25 does not check names and texts of a damaged file before it makes them Python's.
            raise DataError(f"{path} is damaged, or not Parquet: {error}. Make it again, or fetch it again.") from error


def _column(file: pq.ParquetFile, path: str, group: int, name: str, field: str | None = None) -> pa.ChunkedArray:
    """The values of a column, or of a field of it, in a row group. Errors: DataError."""
    import pyarrow.compute as pc

    leaf = name if field is None else f"{name}.{field}"
    about = file.metadata.row_group(group)
    # What is known of a column aborts the process if it is damaged (PyArrow 25), so it is looked at only if need be.
    if about.total_byte_size > LARGEST_GROUP:
        sizes = [about.column(number) for number in range(about.num_columns)]
        size = sum(chunk.total_uncompressed_size for chunk in sizes if chunk.path_in_schema == leaf)
        if size > LARGEST_GROUP:
            raise DataError(
                f"{path}: its row group {group} has {size >> 20:,} MB of '{leaf}', which is read with each picture. "
                "Write it with fewer rows a group: row_group_size=100."
            )
    with _naming(path):
        values = file.read_row_group(group, columns=[leaf], use_threads=False).column(0)
    return values if field is None else pc.struct_field(values, field)


def _fields(file: pq.ParquetFile, path: str, name: str) -> list[Any]:
    """`[None]` for a binary column; for one with fields their names, `bytes` first. Errors: DataError otherwise."""
    import pyarrow as pa

    kind = _require(file, path, name, "data.image_column").type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return [None]
    fields = [field.name for field in kind] if pa.types.is_struct(kind) else []
    if "bytes" not in fields:
        raise DataError(f"{path}: column '{name}' has {kind}, and pictures are bytes, or a field named bytes.")
    return sorted(fields, key=lambda field: field != "bytes")


def _require(file: pq.ParquetFile, path: str, name: str, key: str) -> pa.Field:
    """Check that a file has a column. Errors: DataError with those that exist."""
    names = file.schema_arrow.names
    if names.count(name) != 1:
        raise DataError(f"{path} has no column '{name}' ({key}).{nearest(name, names)} Columns: {', '.join(names)}.")
    return file.schema_arrow.field(name)


def _texts(column: pa.ChunkedArray, classes: list[str] | None, where: str) -> list[str]:
    """The values of a column as text, class indices as their names; empty for nulls.

    Errors: DataError for lists that are not labels.
    """
    texts = []
    for value in column.to_pylist():
        if (text := _text(value, classes)) is None:
            raise DataError(f"{where} has {str(value)[:80]}; a list in it has to be of classes, names or numbers.")
        texts.append(text)
    return texts


def _text(value: Any, classes: list[str] | None) -> str | None:
    """A value as text, empty for a missing one; None for a list that is not labels."""
    match value:
        case list() if classes is not None:
            known = [one for one in value if one is not None]
            return (
                label_texts.of_list([classes[one] for one in known]) if set(known) <= {*range(len(classes))} else None
            )
        case list():
            return label_texts.of_list(value)
        case int() if classes is not None:
            return classes[value] if 0 <= value < len(classes) else ""
        case bytes():
            return value.decode("utf-8", "surrogateescape")
        case None:
            return ""
        case float() if math.isnan(value):
            return ""
    return str(value).strip(BLANKS)


def _class_names(file: pq.ParquetFile, name: str) -> list[str] | None:
    """Class names of a column of integers or lists of them, if the file's metadata have them as Hugging Face's do."""
    import pyarrow as pa

    kind = file.schema_arrow.field(name).type
    try:
        feature = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"][name]
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            kind, feature = kind.value_type, feature[0] if isinstance(feature, list) else feature["feature"]
        noted = feature["names"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    is_list = isinstance(noted, list) and all(isinstance(one, str) and one for one in noted)
    return noted if is_list and pa.types.is_integer(kind) else None

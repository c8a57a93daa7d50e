"""Parsing lists of images: the path, label and split of each line, and which lines are invalid."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from .. import config as cfg
from .. import stored
from ..errors import DataError, nearest
from ..images.formats import is_picture
from . import label_texts, parquet
from .classes import BETWEEN, BLANKS, Problems, read_names

#: Most bytes of a list: it is read as a whole, and takes several times as much memory.
LARGEST_LIST = 4 << 30
#: Line endings of Unix, Windows and old spreadsheets.
LINES = re.compile(r"\r\n|\r|\n")
#: A quoted field, with doubled quotes inside.
QUOTED = re.compile(r'"(?:[^"]|"")*"')


@dataclass
class Rows:
    """The contents of a list, one entry an image."""

    source: str
    """Path of the list."""
    paths: list[str] = field(default_factory=list)
    """Paths of the images, as they are written in the list."""
    labels: list[str] = field(default_factory=list)
    """Name or number of the class; several labels, and the numbers of a soft one, are joined with `BETWEEN`."""
    splits: list[str] = field(default_factory=list)
    """Values of the split column; empty without one."""
    groups: list[str] = field(default_factory=list)
    """Values of the group column; empty without one."""
    lines: list[int] = field(default_factory=list)
    """Line number of each entry, from 1; Parquet: row number."""
    several: bool = False
    """Whether images may have several labels."""
    names: list[str] | None = None
    """Class names if the list itself has them."""

    def where(self, place: int) -> str:
        """The file and line of an entry."""
        return f"{self.source}:{self.lines[place]}"

    def each(self, text: str) -> list[str]:
        """The labels of an entry."""
        return label_texts.single(text) if self.several else [text]

    def select(self, places: np.ndarray) -> Rows:
        """The entries at these indices."""
        part = replace(self)
        for name in ("paths", "labels", "splits", "groups", "lines"):
            values = getattr(self, name)
            setattr(part, name, [values[place] for place in places] if values else [])
        return part


def read(path: str, config: cfg.FileList, problems: Problems) -> Rows:
    """The list at a path; invalid lines are added to the problems.

    Errors: DataError if it cannot be read, or is lines without columns where the config names some.
    """
    suffix = os.path.splitext(path)[1].lower()
    match suffix:
        case ".parquet" | ".pq":
            rows = _table(path, parquet.rows(path, _columns(config)), config, problems)
        case ".csv" | ".tsv":
            rows = _table(path, _csv(path, problems), config, problems)
        case _:
            for key in ("label_columns", "split_column", "group_column"):
                if getattr(config, key):
                    raise DataError(f"{path} has no columns, and data.{key} names some. Use CSV, TSV or Parquet.")
            rows = _lines(path, config, problems)
    if not config.label_columns:
        _separate(rows, config, problems)
    root = config.root or os.path.dirname(path)
    rows.paths = [_path(text, root) for text in rows.paths]
    if not rows.paths and not problems.count:
        raise DataError(f"{path} names no pictures.")
    return rows


def found(path: str, root: str | None) -> str:
    """The path of a list: as given, or else below `data.root`."""
    below = os.path.join(root or "", path)
    return below if root and not os.path.exists(path) and os.path.exists(below) else path


def label_names(config: cfg.FileList | cfg.Shards) -> list[str] | None:
    """The class names in `data.label_file`, if there is one. Errors: DataError."""
    if config.label_file is None:
        return None
    path = found(config.label_file, config.root)
    return read_names(text(path), path)


def refuse_missing(path: str) -> None:
    """Errors: DataError for a file that `read_bytes` would refuse."""
    with _reading(path):
        stored.open_regular(path, LARGEST_LIST).close()


def read_bytes(path: str) -> bytes:
    """The content of a file. Errors: DataError if it cannot be read."""
    with _reading(path):
        return stored.read_regular(path, LARGEST_LIST)


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}. It is looked for here, then in data.root."
        ) from error


def text(path: str) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte-order mark.

    Errors: DataError with the line that is neither.
    """
    content = read_bytes(path)
    try:
        decoded = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}:{line}: not UTF-8 text. Save the file as UTF-8.") from error
    before, zero, _ = decoded.partition("\0")
    if zero:
        line = before.count("\n") + 1
        raise DataError(f"{path}:{line}: a zero byte, which text does not have. Save the file as UTF-8.")
    return decoded


def _lines(path: str, config: cfg.FileList, problems: Problems) -> Rows:
    """Lines `path label`, separated by a tab or else by the last space, so that paths may contain spaces.

    Multi-label: with nothing after the tab the image has no label.
    """
    rows = Rows(path)
    for number, line in enumerate(LINES.split(text(path)), 1):
        if not line.strip(BLANKS):
            continue
        fields = [part[1:-1].replace('""', '"') if QUOTED.fullmatch(part) else part for part in _fields(line)]
        is_labelled = len(fields) == 2 and (fields[1] or config.many)
        if not is_labelled or not fields[0] or ("." in fields[1] and is_picture(fields[1])):
            problems.add(f"{path}:{number}", f"not a path and a label: {line.strip(BLANKS)[:80]!r}")
            continue
        rows.paths.append(fields[0])
        rows.labels.append(fields[1])
        rows.lines.append(number)
    return rows


def _fields(line: str) -> list[str]:
    """The path and the label of a line, without blanks around them; the label is empty after a tab at the end."""
    content = line.strip(BLANKS)
    if "\t" in content:
        fields = content.split("\t")
    elif "\t" in line.lstrip(BLANKS) and (" " not in content or is_picture(content.rstrip('"'))):
        fields = [content, ""]
    else:
        fields = [*content.rpartition(" ")[::2]]
    return [field.strip(BLANKS) for field in fields]


def _separate(rows: Rows, config: cfg.FileList, problems: Problems) -> None:
    """Replace labels such as `sea;sky`, or `0,1,1` for each of three classes, by the names, joined with `BETWEEN`."""
    separator = config.label_separator
    entries = label_texts.vectors(rows.labels, separator) if separator else None
    if entries is None:
        rows.labels = [label_texts.separate(text, separator) for text in rows.labels]
        rows.several = any(BETWEEN in label for label in rows.labels)
        return
    rows.several, rows.names = True, label_texts.vector_names(entries, label_names(config), rows.source)
    for place, entry in enumerate(entries):
        if (label := label_texts.flagged(entry, rows.names)) is None:
            told = label_texts.not_a_vector(rows.labels[place], rows.names)
            problems.add(rows.where(place), f"{told}; data.label_separator=null takes labels as they are")
        else:
            rows.labels[place] = label


def _path(text: str, root: str) -> str:
    r"""A path in a list: `~` is the home folder, `./` is dropped, `\` in lists made on Windows becomes `/`.

    A file with exactly that name below the root takes precedence, whatever its characters.
    """
    if ("\\" in text or text.startswith("~/")) and not os.path.lexists(os.path.join(root, text)):
        text = text.replace("\\", "/")
        return os.path.expanduser(text) if text.startswith("~/") else text.removeprefix("./")
    return text.removeprefix("./")


def _csv(path: str, problems: Problems) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of every non-empty line; the first may be a header."""
    content = text(path)
    if (delimiter := _delimiter(path, content)) is None:
        lines = ((number, line.strip(BLANKS)) for number, line in enumerate(LINES.split(content), 1))
        yield from ((number, re.split(f"[{BLANKS}]+", line)) for number, line in lines if line)
        return
    # The csv module does not accept blanks after a closing quote. Whole fields are matched: one may contain quotes.
    around = rf"{delimiter}\r\n"
    content = re.sub(rf"(?<![^{around}])( *{QUOTED.pattern}) *(?=[{around}]|\Z)", r"\1", content)
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    line = 0
    try:
        for fields in reader:
            # A quoted field may span lines: an entry is named by its first.
            line, first = reader.line_num, line + 1
            if any(map(str.strip, fields)):
                yield first, [field.strip(BLANKS) for field in fields]
    except csv.Error as error:
        problems.add(f"{path}:{line + 1}", f"{error}; what follows was not read")


def head(path: str) -> list[list[str]]:
    """The fields of the first two lines of a `.csv` or `.tsv`. Errors: DataError if it cannot be read."""
    return [fields for _, fields in itertools.islice(_csv(path, Problems()), 2)]


def _delimiter(path: str, content: str) -> str | None:
    """The separator of fields: the most frequent of comma, semicolon and tab in the first line; None for spaces."""
    if path.lower().endswith(".tsv"):
        return "\t"
    first = re.sub(r'"[^"]*"', "", LINES.split(content.lstrip(), maxsplit=1)[0])
    best = max(",;\t", key=first.count)
    return best if best in first else None


def _table(path: str, entries: Iterator[tuple[int, list[str]]], config: cfg.FileList, problems: Problems) -> Rows:
    """The columns of a table that the config names.

    If it names them by numbers, from 0, there is no header; columns of Parquet always have names.
    """
    rows, keys = Rows(path, names=config.label_columns or None, several=bool(config.label_columns)), _keys(config)
    wanted = _columns(config)
    line, header = next(entries, (0, []))
    has_names = path.lower().endswith(parquet.SUFFIXES)
    if header and not has_names and all(name.isdecimal() for name in wanted):
        entries, header = itertools.chain([(line, header)], entries), [str(number) for number in range(len(header))]
    remedy = "" if has_names else ", without a header by its number from 0"
    places = [_place(header, name, path, f"{key}{remedy}") for key, name in zip(keys, wanted, strict=True) if header]
    of_labels = [header[place] for place in places[1 : 1 + len(config.label_columns)]]
    if len(set(of_labels)) < len(of_labels):
        raise DataError(f"{path}: data.label_columns names a column twice. Its columns: {', '.join(of_labels)}.")
    for line, fields in entries:
        if len(fields) != len(header):
            problems.add(f"{path}:{line}", f"{len(fields)} fields, where the first line has {len(header)}")
            continue
        picture, *labels = (fields[place] for place in places)
        group = [labels.pop()] if config.group_column else []
        split = [labels.pop()] if config.split_column else []
        label = _label(labels, config)
        if not picture or label is None or group == [""]:
            what = (
                "not numbers of at least 0, one of them above it"
                if config.labels is cfg.Labels.soft
                else "neither 0 nor 1"
            )
            wrong = "no path" if not picture else f"{what}: {', '.join(labels)}"
            problems.add(f"{path}:{line}", "no group" if picture and label is not None else wrong)
            continue
        rows.paths.append(picture)
        rows.labels.append(label)
        rows.splits += split
        rows.groups += group
        rows.lines.append(line)
    return rows


def _columns(config: cfg.FileList) -> list[str]:
    labels = config.label_columns or [config.label_column]
    return [config.path_column, *labels, *filter(None, (config.split_column, config.group_column))]


def _keys(config: cfg.FileList) -> list[str]:
    """The key that names each of the columns."""
    labels = ["data.label_columns"] * len(config.label_columns) or ["data.label_column"]
    others = [f"data.{key}" for key in ("split_column", "group_column") if getattr(config, key)]
    return ["data.path_column", *labels, *others]


def _place(header: list[str], name: str, path: str, how: str) -> int:
    """The index of a column by its name; case is ignored if that is unambiguous. `how` to name it, for the error."""
    exact = [place for place, column in enumerate(header) if column == name]
    places = exact or [place for place, column in enumerate(header) if column.lower() == name.lower()]
    if len(places) != 1:
        columns = f"Columns: {', '.join(header)}."
        if places:
            raise DataError(f"{path} has several columns '{name}'. {columns} Give each a name of its own.")
        raise DataError(f"{path} has no column '{name}'.{nearest(name, header)} {columns} Name it in {how}.")
    return places[0]


def _label(fields: list[str], config: cfg.FileList) -> str | None:
    """The label in the columns of one image, as in `Rows.labels`; None for what is not one."""
    if config.labels is cfg.Labels.soft:
        return label_texts.shares(fields)
    return label_texts.flagged(fields, config.label_columns) if config.label_columns else fields[0]

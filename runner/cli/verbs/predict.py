"""Classes and probabilities for pictures."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import itertools
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich import box
from rich.table import Table

from ... import files
from ...deploy import engines
from ...deploy.picture_forms import require_files
from ...errors import ConfigError, DataError, DiskError, ForeignPath
from ...files import to_json
from ...terminal import counted, printable, screen
from .. import pictures
from ..classifier import classifier_of
from .arguments import bounded, separate

if TYPE_CHECKING:
    from ...deploy.predict import Answer, Classifier

#: Rows of a table; longer output is split into several.
PAGE = 1000
#: Most unreadable pictures that the final message names; `--format csv` and `jsonl` name all of them.
NAMED = 1000
#: What is between the labels of an image, as in `data=files`.
BETWEEN = ";"
#: Decimals of a probability; further ones are rounding errors.
DIGITS = 6
#: What a spreadsheet takes for the beginning of a formula, unless it is a number.
FORMULA, NUMBER = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"), re.compile(r"[+-]\d+(\.\d+)?")
#: Suffix of an output file → its format.
SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".json": "jsonl"}


def main(arguments: list[str]) -> int:
    """`predict RUN IMAGES… [--engine NAME] [--network NAME] [--top N] [--format F] [--output FILE] [key=value …]`."""
    options = _parse(arguments)
    paths = pictures.find(options.images)
    classifier = classifier_of(options.run, options.overrides, options.engine, options.network)
    require_files(classifier.preparation)
    from ...deploy import predict

    with _output(options.output) as stream:
        answers = _Counted(predict.answers(classifier, paths))
        best = _Best(classifier, options.top)
        _write(answers, best, options.format, stream)
    if answers.errors:
        left_out = answers.broken - len(answers.errors)
        lines = [*answers.errors, *([f"… and {left_out:,} more"] if left_out else [])]
        raise DataError(
            f"{answers.broken:,} of {counted(answers.count, 'picture')} could not be read:\n" + "\n".join(lines)
        )
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="runner predict",
        description="Classify pictures with a run's network, or with a file that was exported from it.",
    )
    parser.add_argument("run", metavar="RUN", help="run directory, MLflow run id or folder of an export")
    parser.add_argument(
        "images", nargs="+", metavar="IMAGES",
        help="files, folders (searched through) or 'globs'; - for a list on standard input, one a line; and key=value "
        "as in runner eval, such as trust=true",
    )  # fmt: skip
    parser.add_argument(
        "--engine", choices=tuple(engines.INSTALL),
        help="run the recommended exported file with it, such as an int8 one, not the trained network in Paddle",
    )  # fmt: skip
    parser.add_argument("--network", help="which network of the run (that of deploy.network)")
    parser.add_argument(
        "--top", type=bounded(int, 1, 1_000_000), metavar="N",
        help="classes an image (3; multi-label: all of them)",
    )  # fmt: skip
    parser.add_argument("--format", choices=("table", "csv", "jsonl"), help="jsonl: one JSON object a line (table)")
    parser.add_argument("--json", action="store_const", const="jsonl", dest="format", help="the same as --format jsonl")
    parser.add_argument("--output", metavar="FILE", help="a new file to write to, .csv or .jsonl")
    options = parser.parse_intermixed_args(arguments)
    options.images, options.overrides = separate(options.images)
    if not options.images:
        parser.error("the following arguments are required: IMAGES")
    if options.output:
        options.format = options.format or SUFFIXES.get(Path(options.output).suffix.lower())
        if options.format not in ("csv", "jsonl"):
            raise ConfigError(f"--output {options.output}: name the format: --format csv or --format jsonl")
    return options


@contextlib.contextmanager
def _output(path: str | None) -> Iterator[TextIO]:
    """The output stream. Errors: ForeignPath for an existing file, DiskError."""
    if path is None:
        yield sys.stdout
        return
    try:
        raw = _WholeRows(path, "x")
    except FileExistsError as error:
        raise ForeignPath(f"{path} already exists. Remove it, or name another --output.") from error
    except OSError as error:
        raise DiskError(f"{path} cannot be written: {error.strerror}. Name another --output.") from error
    # Names that are not text are escaped, as JSON has it.
    with raw, io.TextIOWrapper(raw, "utf-8", errors="backslashreplace", newline="") as stream:  # type: ignore[type-var]
        yield stream


class _WholeRows(io.FileIO):
    """A file of whole rows, also where its disk is full: what is written at once is there, or nothing of it."""

    def write(self, data: Any) -> int:
        """Errors: OSError with the file's name."""
        try:
            files.append_to(self.fileno(), data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.name) from error
        return len(data)


class _Counted:
    """Iterates answers; counts them and keeps messages about the first unreadable pictures."""

    def __init__(self, answers: Iterable[Answer]) -> None:
        self.answers, self.count, self.broken, self.errors = answers, 0, 0, list[str]()

    def __iter__(self) -> Iterator[Answer]:
        for answer in self.answers:
            self.count += 1
            if answer.error:
                self.broken += 1
                if self.broken <= NAMED:
                    self.errors.append(answer.error)
            yield answer


class _Best:
    """The answer to a picture: its most probable classes or, if multi-label, all its labels."""

    def __init__(self, classifier: Classifier, top: int | None) -> None:
        self.classes, self.thresholds = classifier.classes, classifier.thresholds
        self.unknown_below = classifier.unknown_below
        self.top = min(top or (3 if self.thresholds is None else len(self.classes)), len(self.classes))

    def __call__(self, answer: Answer) -> list[tuple[str, float]]:
        """(class, probability to six digits), the most probable first; empty if there is no answer."""
        if answer.probabilities is None:
            return []
        from ...deploy.predict import named

        best = named(answer.probabilities, self.classes, self.thresholds, self.unknown_below)[: self.top]
        return [(name, round(probability, DIGITS)) for name, probability in best]


def _write(answers: Iterable[Answer], best: _Best, format: str | None, stream: TextIO) -> None:
    match format:
        case "jsonl":
            for answer in answers:
                stream.write(f"{to_json(_described(answer, best))}\n")
        case "csv":
            rows = csv.writer(_CsvLines(stream))
            rows.writerow(["image", *_columns(best), "error"])
            for answer in answers:
                rows.writerow([_path(str(answer.picture)), *_cells(answer, best), _path(answer.error)])
        case _:
            rows_left = iter(answers)
            while page := list(itertools.islice(rows_left, PAGE)):
                screen().print(_table(page, best))


class _CsvLines:
    """Rows of a CSV file that end as lines do. A name with a carriage return is quoted only if rows end with one."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, row: str) -> int:
        return self.stream.write(f"{row.removesuffix(csv.excel.lineterminator)}\n")


def _columns(best: _Best) -> list[str]:
    if best.thresholds is not None:
        return ["labels", "probabilities"]
    more = [f"{name}_{place}" for place in range(2, best.top + 1) for name in ("class", "probability")]
    return ["class", "probability", *more]


def _cells(answer: Answer, best: _Best) -> list[Any]:
    """The values of `_columns`; several labels as in `data=files`, `cat;dog`, or JSON lists if a label has a `;`."""
    if best.thresholds is not None:
        if any(BETWEEN in name for name in best.classes):
            lists = [to_json(list(part)) for part in zip(*best(answer), strict=True)]
            return lists or ["" if answer.error else "[]"] * 2
        return [BETWEEN.join(part) for part in zip(*_texts(best(answer)), strict=True)] or ["", ""]
    return [cell for one in _texts(best(answer)) for cell in one] or [""] * 2 * best.top


def _texts(best: list[tuple[str, float]]) -> list[tuple[str, str]]:
    # Some programs read scientific notation as text.
    return [(_label(name), f"{probability:.{DIGITS}f}") for name, probability in best]


def _path(text: str) -> str:
    """A path, or an error that begins with one, that no spreadsheet takes for a formula."""
    return f"./{text}" if text.startswith(FORMULA) else text


def _label(name: str) -> str:
    """The name of a class that no spreadsheet takes for a formula; a number such as -1 is none."""
    return f"'{name}" if name.startswith(FORMULA) and not NUMBER.fullmatch(name) else name


def _described(answer: Answer, best: _Best) -> dict[str, Any]:
    if answer.error:
        return {"image": str(answer.picture), "error": answer.error}
    classes = [{"class": name, "probability": probability} for name, probability in best(answer)]
    return {"image": str(answer.picture), "classes": classes}


def _table(answers: Iterable[Answer], chosen: _Best) -> Table:
    table, top = Table(box=box.SIMPLE_HEAD, pad_edge=False), chosen.top
    if chosen.thresholds is not None:
        for heading in ("image", "labels"):
            table.add_column(heading, overflow="fold")
        for answer in answers:
            labels = ", ".join(f"{name} {probability:.3f}" for name, probability in chosen(answer)) or "no label"
            table.add_row(*map(printable, (str(answer.picture), "cannot be read" if answer.error else labels)))
        return table
    for heading in ("image", "class", "probability", *(["then"] if top > 1 else [])):
        table.add_column(heading, justify="right" if heading == "probability" else "left", overflow="fold")
    for answer in answers:
        best = chosen(answer)
        cells = [best[0][0], f"{best[0][1]:.3f}"] if best else ["cannot be read", ""]
        others = ", ".join(f"{name} {probability:.3f}" for name, probability in best[1:])
        table.add_row(*map(printable, (str(answer.picture), *cells, *([others] if top > 1 else []))))
    return table

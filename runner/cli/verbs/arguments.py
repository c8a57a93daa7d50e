"""Types of verbs' arguments: bounded numbers, paths of pages; others are errors with exit code 2."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ...config import Config, Mlflow
from ...config.addresses import require_store
from ...config.keys import expanded
from ...errors import UNWRITABLE, ConfigError

Number = TypeVar("Number", int, float)
#: The option of verbs that names where MLflow's runs are.
URI = "--uri "


def bounded(kind: type[Number], least: float, most: float) -> Callable[[str], Number]:
    """An argparse type: an int or a float between two inclusive bounds."""

    def parse(text: str) -> Number:
        words = f"must be {'an integer' if kind is int else 'a number'} from {least:,} to {most:,}"
        try:
            number = kind(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text[:40]}: {words}") from error
        # NaN is not between any two numbers.
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text[:40]}: {words}")
        return number

    return parse


def add_uri(parser: argparse.ArgumentParser) -> None:
    """Add the option that names where MLflow's runs are. Its value raises ConfigError where nothing can be there."""

    def store_of(text: str) -> str:
        require_store(uri := expanded(text), URI)
        return uri

    parser.add_argument(
        URI.strip(), type=store_of, default=Mlflow.uri, help="where MLflow run ids are looked up (%(default)s)"
    )


def page_path(path: Path) -> Path:
    """The path of a page. Errors: ConfigError for another kind of file."""
    if path.suffix != ".html":
        raise ConfigError(f"--output {path}: a page ends with .html, such as --output {path.with_suffix('.html')}")
    return path


def make_folder(path: Path) -> None:
    """Make the folder that a page is in. Errors: ConfigError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in UNWRITABLE:
            raise
        raise ConfigError(f"--output {path}: {error.strerror}. Name another place.") from error


def separate(words: list[str]) -> tuple[list[str], list[str]]:
    """Separate names from `key=value` overrides; the name of an existing file is a name, not an override."""
    keys = {"trust", *Config.__dataclass_fields__}
    is_override = [word.partition("=")[0].partition(".")[0] in keys and "=" in word for word in words]
    overrides = [word for word, holds in zip(words, is_override, strict=True) if holds and not os.path.exists(word)]
    return [word for word in words if word not in overrides], overrides


def listed(parse: Callable[[str], Number]) -> Callable[[str], list[Number]]:
    """An argparse type: comma-separated numbers, each once."""
    return lambda text: list(dict.fromkeys(map(parse, text.split(","))))

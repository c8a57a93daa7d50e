"""Types of numeric arguments, each with its bounds: what is outside of them ends in one message and exit code 2."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

Number = TypeVar("Number", int, float)


def bounded(kind: type[Number], least: float, most: float) -> Callable[[str], Number]:
    """An argparse type: an int or a float between two bounds, which belong to it."""

    def parse(text: str) -> Number:
        words = f"must be a {'whole ' if kind is int else ''}number from {least:,} to {most:,}"
        try:
            number = kind(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text[:40]}: {words}") from error
        # NaN is not between any two numbers.
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text[:40]}: {words}")
        return number

    return parse


def listed(parse: Callable[[str], Number]) -> Callable[[str], list[Number]]:
    """An argparse type: comma-separated numbers, each once."""
    return lambda text: list(dict.fromkeys(map(parse, text.split(","))))

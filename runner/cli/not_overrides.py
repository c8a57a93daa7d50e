"""Words among overrides that are none, and what was probably meant by them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from .. import terminal
from ..config.keys import expanded
from ..errors import ConfigError
from .config_dir import choices


def refuse(words: Sequence[str]) -> None:
    """Errors: ConfigError for the first word without a value that removes nothing either."""
    for word in words:
        if "=" not in word and not word.startswith("~"):
            raise error_of(word, words)


def error_of(word: str, words: Sequence[str] = ()) -> ConfigError:
    """The error for a word that is not an override, with the override that was meant; `words`: all that were typed."""
    hint = did_you_mean(word, words) or " Write KEY=VALUE without spaces around =, such as mode=cls"
    return ConfigError(f"{word} is not an override.{hint}")


def did_you_mean(word: str, words: Sequence[str] = ()) -> str:
    """` Did you mean …?` with the overrides that were meant by a word; empty if nothing is like it."""
    meant = _parts_of_a_path(word, words) or _folder(word) or _choice(word)
    return f" Did you mean {terminal.words(meant)}?" if meant else ""


def _parts_of_a_path(word: str, words: Sequence[str]) -> list[str]:
    """`KEY=PATH` if a path that exists was typed with blanks but without quotes; else empty."""
    place = words.index(word) if word in words else 0
    begin = next((number for number in range(place - 1, -1, -1) if "=" in words[number]), place)
    key, _, first = words[begin].partition("=") if begin < place else ("", "", "")
    for end in range(len(words), place, -1) if key else ():
        path = " ".join([first, *words[begin + 1 : end]])
        if os.path.exists(expanded(path)):
            return [terminal.override(key, path)]
    return []


def _folder(word: str) -> list[str]:
    return ["data=image_folder", terminal.override("data.root", word)] if os.path.isdir(expanded(word)) else []


def _choice(word: str) -> list[str]:
    """`GROUP=CHOICE` of a choice that one group alone has; else empty."""
    groups = [group for group, names in choices().items() if word in names]
    return [f"{groups[0]}={word}"] if len(groups) == 1 else []

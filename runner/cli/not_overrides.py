"""Words among overrides that are none, and what was probably meant by them."""

from __future__ import annotations

import itertools
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
    key, parts, place = _value_around(word, words)
    known = [" ".join(parts[:end]) for end in range(len(parts), place, -1)] if key else []
    path = next((text for text in known if os.path.exists(expanded(text))), None)
    if path:
        return f" Did you mean {terminal.words([terminal.override(key, path)])}?"
    meant = _folder(word) or _choice(word)
    hint = f" Did you mean {terminal.words(meant)}?" if meant else ""
    parts, behind = parts[: place + 1], [*words[words.index(word) + 1 :], ""] if key else []
    if not key or behind[0] == "=" or any(part.startswith(("-", "~")) for part in parts[1:]):
        return hint
    if parts[0].endswith(","):
        several = "".join(parts)
        return f"{hint} Write several values without spaces: {terminal.words([f'{key}={several}'])}"
    whole = terminal.words([terminal.override(key, " ".join(parts))])
    return f"{hint} If it belongs to the value before it, quote them together: {whole}"


def _value_around(word: str, words: Sequence[str]) -> tuple[str, list[str], int]:
    """The key of the override that a word may have been typed for without quotes, all parts of its value, and which of
    them the word is. An empty key: there is none.
    """
    place = words.index(word) if word in words else 0
    begin = next((number for number in range(place - 1, -1, -1) if "=" in words[number]), None)
    if begin is None:
        return "", [], 0
    key, _, first = words[begin].partition("=")
    parts = list(itertools.takewhile(lambda part: "=" not in part, words[begin + 1 :]))
    return key, [first, *parts], place - begin


def _folder(word: str) -> list[str]:
    return ["data=image_folder", terminal.override("data.root", word)] if os.path.isdir(expanded(word)) else []


def _choice(word: str) -> list[str]:
    """`GROUP=CHOICE` of a choice that one group alone has; else empty."""
    groups = [group for group, names in choices().items() if word in names]
    return [f"{groups[0]}={word}"] if len(groups) == 1 else []

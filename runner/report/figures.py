"""Plots with names as labels: no formulas are parsed, and letters of any alphabet get a font, if there is one."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

#: matplotlib's default font.
FIRST = "DejaVu Sans"
#: Placeholder fonts, which have a box, or nothing, for every letter.
WITHOUT_LETTERS = ("Last Resort", "LastResort", "Adobe Blank")


@contextlib.contextmanager
def plain_texts(text: str) -> Iterator[None]:
    """Within the context matplotlib draws text literally: no formulas, and fonts for the letters of `text`."""
    import warnings

    import matplotlib

    fonts, _ = _fonts(text)
    settings: Any = {"text.parse_math": False, "text.usetex": False, "font.family": fonts}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # `boxes` reports letters without a font.
        warnings.simplefilter("ignore")
        yield


def boxes(text: str) -> str:
    """A note for the user on letters that are drawn as boxes, since no installed font has them; else empty."""
    _, missing = _fonts(text)
    if not missing:
        return ""
    few = missing[:8] + ("…" if len(missing) > 8 else "")
    return (
        f"no font here has {few}: plots show boxes in their place. Install one, such as the package fonts-noto-cjk, "
        "and remove ~/.cache/matplotlib"
    )


@functools.lru_cache(maxsize=8)
def _fonts(text: str) -> tuple[list[str], str]:
    """The fewest fonts that together can draw a text, and the letters that no font has."""
    missing = {letter for letter in text if not letter.isascii() and not letter.isspace()}
    names = [FIRST]
    for name, path in _installed() if missing else []:
        if covered := missing & _letters(path):
            names.append(name)
            missing -= covered
    return list(dict.fromkeys(names)), "".join(sorted(missing))


def _installed() -> list[tuple[str, str]]:
    """Name and file of every font, those without serifs first."""
    from matplotlib import font_manager

    fonts = {font.name: font.fname for font in font_manager.fontManager.ttflist}
    usable = [(name, path) for name, path in fonts.items() if not name.startswith(WITHOUT_LETTERS)]
    return sorted(usable, key=lambda one: (one[0] != FIRST, "Serif" in one[0], "Mono" in one[0], one[0]))


def _letters(path: str) -> set[str]:
    from matplotlib.ft2font import FT2Font

    # A font file that is damaged, or was removed, has no letters.
    with contextlib.suppress(OSError, RuntimeError):
        return set(map(chr, FT2Font(path).get_charmap()))
    return set()

"""Pictures whose texts are names: no formulas in them, in whatever alphabet there is a font for."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

#: The font that matplotlib brings.
FIRST = "DejaVu Sans"
#: Fonts that have a box, or nothing, for every letter.
WITHOUT_LETTERS = ("Last Resort", "LastResort", "Adobe Blank")


@contextlib.contextmanager
def plain_texts(text: str) -> Iterator[None]:
    """Within the context what matplotlib writes is text: `$` begins no formula, the letters of `text` have a font."""
    import warnings

    import matplotlib

    fonts, _ = _fonts(text)
    settings: Any = {"text.parse_math": False, "text.usetex": False, "font.family": fonts}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # `boxes` says what no font has.
        warnings.simplefilter("ignore")
        yield


def boxes(text: str) -> str:
    """What a person should know of letters that are drawn as boxes, since no font here has them; else empty."""
    _, missing = _fonts(text)
    if not missing:
        return ""
    few = missing[:8] + ("…" if len(missing) > 8 else "")
    return (
        f"no font here has {few}: pictures show boxes in their place. Install one, such as the package fonts-noto-cjk, "
        "and remove ~/.cache/matplotlib"
    )


@functools.lru_cache(maxsize=8)
def _fonts(text: str) -> tuple[list[str], str]:
    """Fonts in which a text can be drawn, as few as are needed, and what of it no font has."""
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

    # A file that is damaged, or was removed, has none.
    with contextlib.suppress(OSError, RuntimeError):
        return set(map(chr, FT2Font(path).get_charmap()))
    return set()

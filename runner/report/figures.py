"""Pictures whose texts are names: no formulas in them, in whatever alphabet there is a font for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

#: Fonts that have letters which the first one lacks, where they are installed.
FONTS = (
    "DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei", "Droid Sans Fallback", "Microsoft YaHei", "PingFang SC", "Hiragino Sans",
    "Noto Sans Arabic", "Noto Sans Devanagari", "Noto Emoji", "Symbola",
)  # fmt: skip


@contextlib.contextmanager
def plain_texts() -> Iterator[None]:
    """Within the context what matplotlib writes is text: `$` begins no formula, other alphabets are drawn."""
    import warnings

    import matplotlib
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    fonts = [name for name in FONTS if name in installed] or ["sans-serif"]
    settings: Any = {"text.parse_math": False, "text.usetex": False, "font.family": fonts}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # A letter that no font has is drawn as a box.
        warnings.simplefilter("ignore")
        yield

"""What MkDocs does to the pages: formulas become MathML."""

from __future__ import annotations

import re
from typing import Any

from latex2mathml.converter import convert

#: `$$…$$` on lines of its own, `$…$` within one.
BLOCK, INLINE = re.compile(r"\$\$(.+?)\$\$", re.DOTALL), re.compile(r"(?<![\w$`])\$([^$\n`]+)\$(?![\w$])")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A page's Markdown with its formulas written out; those outside code alone."""
    parts = re.split(r"(```.*?```|`[^`\n]+`|^    [^\n]*$)", markdown, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if number % 2 else _formulas(part) for number, part in enumerate(parts))


def _formulas(text: str) -> str:
    text = BLOCK.sub(lambda found: f"\n<p>{convert(found[1].strip(), display='block')}</p>\n", text)
    return INLINE.sub(lambda found: convert(found[1]), text)

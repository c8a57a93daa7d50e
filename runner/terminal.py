"""Terminal output: commands that paste safely, and names shown safely whatever they contain."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import re
import select
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

#: Text that an override takes without quotes and as text.
PLAIN = re.compile(r"[A-Za-z_./][\w./-]*(?: +[\w./-]+)*", re.ASCII)
#: Words that mean something else without quotes.
MEANING = {"true", "false", "null", "nan", "inf"}
#: What cannot be shown on a line: control characters, lone surrogates, bytes of names that are not text.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
#: What a shell reads within double quotes, or a terminal obeys.
READ_IN_QUOTES = re.compile(rf"[\"$`\\!]|{UNPRINTABLE.pattern}")
#: What a shell is given as bytes: a terminal would obey it, or has no character for it. A line's end is one in quotes.
OBEYED = re.compile(rf"(?:(?!\n){UNPRINTABLE.pattern})+")
#: Control characters, such as the start of an escape sequence, except newlines and tabs.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def command(*words: object) -> str:
    """A command of this package that pastes into a shell: `command("export", run)`. Each word arrives as it is."""
    return " ".join(["python -m runner", *(_word(str(word)) for word in words)])


def words(overrides: list[str]) -> str:
    """Overrides that paste into a shell, one after another."""
    return " ".join(map(_word, overrides))


def place(path: Path | str) -> str:
    """A path as an argument of a command: relative where it is below this folder, and never taken for an option."""
    text = os.path.relpath(path)
    if text.startswith(os.pardir):
        return str(path)
    return f"./{text}" if text.startswith("-") else text


def override(key: str, value: object) -> str:
    """`key=value` as Hydra's grammar takes it, whatever text the value is."""
    text = str(value)
    if PLAIN.fullmatch(text) and text.lower() not in MEANING:
        return f"{key}={text}"
    return f"{key}={quoted(text)}"


def quoted(text: str, looks_up: bool = False) -> str:
    """A text in quotes of Hydra's grammar: a backslash counts before a quote alone, and `${` only with `looks_up`."""
    if not looks_up:
        text = re.sub(r"\\*\$\{", lambda match: "\\" * (2 * match[0].count("\\") + 1) + "${", text)
    text = re.sub(r"(\\*)('|$)", lambda match: 2 * match[1] + ("\\'" if match[2] else ""), text)
    return f"'{text}'"


def pasted(key: str, value: object) -> str:
    """`key=value` for Hydra, quoted once more for a shell."""
    return _word(override(key, value))


def _word(text: str) -> str:
    if not text:
        return "''"
    if "'" in text and not READ_IN_QUOTES.search(text):
        # shlex writes each quote in it as '"'"', which nobody can read.
        return f'"{text}"'
    # Every second part is what is to be given as bytes.
    parts = enumerate(re.split(f"({OBEYED.pattern})", text))
    return "".join(_bytes(part) if number % 2 else shlex.quote(part) for number, part in parts if part)


def _bytes(text: str) -> str:
    """A text as only printf can write it in every shell. `$(…)` drops ends of lines: none is in it."""
    return "\"$(printf '" + "".join(f"\\{byte:03o}" for byte in os.fsencode(text)) + "')\""


def printable(text: str) -> str:
    """A text on one line, for a picture, a table or a page: what cannot be shown is `�`."""
    return UNPRINTABLE.sub("�", text)


def visible(text: str) -> str:
    """The message with `�` in place of control characters: names can hold whole escape sequences."""
    return CONTROL.sub("�", text)


def say(text: str) -> None:
    """Print a message at once."""
    print(visible(text), flush=True)


def screen() -> Console:
    """Where results are printed: as wide as the terminal; wide enough for any table where there is none.

    Text is never parsed as markup and control characters are removed; `styled` adds a style.
    """
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class Screen(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=visible(segment.text))

    width = None if sys.stdout.isatty() else 10_000
    return Screen(markup=False, emoji=False, highlight=False, width=width)


def styled(text: str, style: str) -> Text:
    """A text in a style of rich's, such as `bold`."""
    from rich.text import Text

    return Text(text, style)


def counted(count: float, thing: str, things: str = "") -> str:
    """`1 image`, `2,000 images`, `0.5 epochs`; `things`: the plural, where it is not formed by an `s`."""
    number = f"{count:g}" if isinstance(count, float) else f"{count:,}"
    return f"{number} {word_for(count, thing, things or f'{thing}s')}"


def images_of(splits: Mapping[str, int]) -> str:
    """`1,000 train, 1 test image`: the images of each split."""
    if not splits:
        return "no images"
    *others, (last, count) = splits.items()
    return ", ".join([*(f"{number:,} {split}" for split, number in others), counted(count, f"{last} image")])


def word_for(count: float, one: str, several: str) -> str:
    """The word that agrees with a number of things: `word_for(count, "is", "are")`."""
    return one if count == 1 else several


def duration(seconds: float) -> str:
    """`1:05:09`, `5:09`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


#: Seconds until progress is shown, and between two lines of it.
PROGRESS_AFTER_S, PROGRESS_EVERY_S = 2.0, 15.0


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Within the context, show the progress of something once it takes long: call it with (done, all).

    On a terminal that is one line, cleared at the end; elsewhere a line now and then.
    """
    began = shown = time.monotonic()
    on_screen = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    is_shown = False

    def tell(done: int, every: int) -> None:
        nonlocal shown, is_shown
        now = time.monotonic()
        if now - began < PROGRESS_AFTER_S or (is_shown and now - shown < (0.2 if on_screen else PROGRESS_EVERY_S)):
            return
        shown, is_shown = now, True
        left = duration((now - began) / max(1, done) * (every - done))
        text = visible(f"{what}: {done:,} of {every:,}, {left} left")
        print(f"\r{text}\x1b[K" if on_screen else text, end="" if on_screen else "\n", flush=True)

    try:
        yield tell
    finally:
        if is_shown and on_screen:
            print("\r\x1b[K", end="", flush=True)


#: A reader that closed the pipe, as `| head` does, or a closed terminal: not worth a message.
LEFT = (errno.EPIPE, errno.EIO)


def protect_streams() -> None:
    """Give the process standard streams that take everything. To be called before any file is opened."""
    _open_all()
    codecs.register_error("runner.escape", _escape)
    for name in ("stdout", "stderr"):
        old, number = getattr(sys, name), 1 if name == "stdout" else 2
        raw = Output(number, "wb", closefd=False)
        each_line = name == "stderr" or raw.isatty()
        encoding = getattr(old, "encoding", None) or "utf-8"
        buffer = io.BufferedWriter(raw)
        setattr(sys, name, io.TextIOWrapper(buffer, encoding, "runner.escape", line_buffering=each_line))


def lost_output() -> OSError | None:
    """Why standard output could not be written in full, if a user should know: a full disk, not a closed pipe."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    error = getattr(raw, "error", None)
    return None if error is None or error.errno in LEFT else error


class Output(io.FileIO):
    """A standard stream whose reader may leave, and whose disk may be full: the rest is dropped."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write what can be written."""
        try:
            # A stream that another program has set not to block.
            while (written := super().write(data)) is None:
                select.select([], [self.fileno()], [])
            return written
        except OSError as error:
            self.error = error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)


def _open_all() -> None:
    """Where a standard stream is closed (`>&-`) the next file that is opened gets its number, and what is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
        os.set_inheritable(number, True)


def _escape(error: UnicodeError) -> tuple[str, int]:
    """What an encoding does not have, as JSON escapes it; bytes of a file's name that are not text come out as such."""
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2)), error.end

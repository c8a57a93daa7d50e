"""What a run looks like on a real pseudo-terminal, and where there is none."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

from tests.conftest import TINY
from tests.e2e.processes import ENVIRONMENT, run

RUN = [*TINY[1:], "data.limit=200", "data.batch_size=8", "train.epochs=3", "schedule.warmup_epochs=1", "tracking=none",
       "train.log_every=2"]  # fmt: skip


def on_a_terminal(arguments, cwd, columns):
    """(exit code, what the terminal was sent) of a command on a terminal of so many columns."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "runner", *arguments], cwd=cwd, stdin=terminal, stdout=terminal, stderr=terminal,
        env={name: value for name, value in ENVIRONMENT.items() if name not in ("COLUMNS", "NO_COLOR", "CI")}
        | {"TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(terminal)
    received = b""
    while True:
        try:
            block = os.read(controller, 1 << 16)
        except OSError:
            break
        if not block:
            break
        received += block
    os.close(controller)
    return process.wait(60), received.decode()


def plain(text):
    """The text without control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.mark.parametrize("columns", [44, 80, 140])
def test_a_terminal_shows_a_bar_with_loss_accuracy_rate_speed_and_time_left_that_fits(tmp_path, columns):
    code, sent = on_a_terminal([*RUN, "hydra.run.dir=run"], tmp_path, columns)
    assert code == 0, sent
    frames = [line.strip() for line in re.split(r"[\r\n]+", plain(sent)) if "/75" in line and "%" not in line]
    bars = [frame for frame in frames if frame.startswith("epoch")]
    assert bars
    full = [bar for bar in bars if re.search(r"loss \d", bar)]
    assert any(re.search(r"\d+:\d\d", bar) for bar in full), bars
    for name in ("loss", "top-1", "lr", "images/s")[: {44: 1, 80: 2, 140: 4}[columns]]:
        assert any(name in bar for bar in full), full[-1]
    assert max(map(len, bars)) <= columns
    assert "\x1b[?25h" in sent, "the cursor is shown again"
    assert "test top-1" in sent


def test_without_a_terminal_there_are_plain_lines_and_no_control_characters(tmp_path):
    done = run(*RUN, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    assert re.search(r"step 25/75 · epoch 1/3 · val student top-1", done.stdout)
    assert "test top-1" in done.stdout


def test_a_stop_on_a_terminal_leaves_it_usable(tmp_path):
    code, sent = on_a_terminal(
        [*RUN[:-2], "tracking=none", "loss=custom", "loss.target=tests.samples:explode_at_third_step"], tmp_path, 100
    )
    assert code == 4
    assert "Traceback" not in sent
    assert sent.count("\x1b[?25l") == sent.count("\x1b[?25h")

"""Makes the README's pictures from real runs: `python docs/pictures.py [--out docs/images]`.

`run.png` and `result.png` are a terminal in the middle and at the end of a run; `mlflow_compare.png` and
`mlflow_chart.png` are MLflow on the runs of a small sweep. Everything happens in a temporary folder and on 127.0.0.1.
Needs Linux with tmux and Chromium, and about five minutes on two CPU cores.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

COLUMNS, LINES = 110, 26
TINY = "data.limit=800 data.batch_size=32 data.augment.crop_padding=0 schedule.warmup_epochs=1 train.epochs=8"
RUN = f"python -m runner mode=cls_distill model=mobilenet_v3_small_x0_5 optimizer.lr=0.01 {TINY}"
SWEEP = f"-m mode=cls,cls_distill optimizer=adamw,momentum model=mobilenet_v3_small_x0_35 {TINY}"
ENVIRONMENT = os.environ | {"LANG": "C.UTF-8", "COLORTERM": "truecolor", "MLFLOW_DISABLE_TELEMETRY": "true"}

LINE_HEIGHT = 20
PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; padding: 14px 18px; background: #16181d; }}
pre {{ margin: 0; color: #dcdfe4; font: 15px/20px "DejaVu Sans Mono", "Liberation Mono", monospace; }}
</style><pre>{code}</pre>"""


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description="Make the README's pictures from real runs.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    out = parser.parse_args().out.resolve()
    for tool in ("tmux", "chromium"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is missing: apt-get install -y {tool}")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        middle, end = terminal_run(Path(folder))
        draw(middle, out / "run.png")
        draw(end, out / "result.png")
        url = sweep(Path(folder))
        with server(Path(folder)) as port:
            url = re.sub(r":\d+", f":{port}", url, count=1)
            photograph(url, out / "mlflow_compare.png", 1400, 900)
    for path in sorted(out.glob("*.png")):
        print(f"{path.name}  {path.stat().st_size / 1000:.0f} kB")


def terminal_run(folder: Path) -> tuple[str, str]:
    """The screens, as ANSI text, of a terminal in the middle and at the end of a run typed into its shell."""
    tmux = ["tmux", "-u", "-f", os.devnull, "-L", f"pictures-{os.getpid()}"]
    shell = ENVIRONMENT | {"PS1": "$ ", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def call(*arguments: str) -> str:
        return subprocess.run(
            [*tmux, *arguments], env=shell, cwd=folder, check=True, timeout=20, capture_output=True, text=True
        ).stdout

    def screen_with(pattern: str, seconds: float) -> str:
        return wait_for(lambda: next(iter([s for s in [call("capture-pane", "-e", "-p")] if re.search(pattern, s)]), None), seconds)

    call("new-session", "-d", "-x", str(COLUMNS), "-y", str(LINES), "bash --norc --noprofile")
    try:
        call("send-keys", RUN, "Enter")
        return screen_with("epoch 5/8.*left|epoch 5/8.*images/s", 200), screen_with("Compare .*", 200)
    finally:
        call("kill-server")

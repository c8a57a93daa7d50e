"""Imports packages in a child process, which a broken one may crash."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
from typing import Any

from .. import child

#: Seconds a child has for its imports, enough for a slow disk.
IMPORTS_S = 60


def ask(modules: list[str]) -> dict[str, dict[str, Any]]:
    """Import modules in a child, in this order, and return its findings; modules after a crash are missing."""
    command = child.command("runner.cli.import_probe", *modules)
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=IMPORTS_S)
        code, stdout = done.returncode, done.stdout
        end = f"the process ended with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"
    except subprocess.TimeoutExpired as error:
        end, stdout = f"no answer in {IMPORTS_S} s", error.stdout or b""
    answers: dict[str, dict[str, Any]] = {modules[0]: {"file": None, "error": end}}
    for values in map(json.loads, stdout.splitlines()):
        answers.setdefault(values["module"], {"error": end}).update(values)
    return answers


def answer() -> None:
    """In the child: import the modules of the command line and report before and after each."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # packages may print
    for name in sys.argv[1:]:
        values: dict[str, Any] = {"module": name}
        try:
            spec = importlib.util.find_spec(name)
            print(json.dumps(values | {"file": spec and spec.origin}), file=answers, flush=True)
            module = importlib.import_module(name)
            values |= {"error": ""} | (compute(module) if name == "paddle" else {})
        except BaseException as error:
            values["error"] = textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" …")
        print(json.dumps(values), file=answers, flush=True)
        if name == "paddle" and values["error"]:
            break
    os._exit(0)  # Paddle's teardown takes 0.4 s


def compute(paddle: Any) -> dict[str, Any]:
    """The device that Paddle computes on. Errors: RuntimeError for a wrong result."""
    cuda = paddle.version.cuda() if paddle.device.is_compiled_with_cuda() else ""
    count = paddle.device.cuda.device_count() if cuda else 0
    paddle.device.set_device("gpu" if count else "cpu")
    ones = paddle.ones([64, 64], "float32")
    if (total := float((ones @ ones).sum())) != 64**3:
        raise RuntimeError(f"a matrix product adds up to {total}, not {64**3}")
    names = [paddle.device.cuda.get_device_name(number) for number in range(count)]
    return {"device": paddle.device.get_device(), "cuda": cuda, "gpus": names}


if __name__ == "__main__":
    answer()

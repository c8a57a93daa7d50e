"""What is installed, which device is used, and what to do about the rest. Imports neither Paddle nor MLflow."""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from ... import config as cfg
from ... import processes, terminal
from ...config import networks
from .. import import_probe

#: Package → the versions pyproject.toml asks for, and the module it is needed for. Dependencies come first: a crashing
#: import is blamed on the module that was asked for.
REQUIRED = {
    "numpy": (">=1.24,<2", "numpy"), "setuptools": ("<81", "pkg_resources"), "six": ("", "six"),
    "decorator": ("", "decorator"), "requests": ("", "requests"), "pyyaml": (">=6", "yaml"),
    "pillow": (">=10.1", "PIL"), "rich": (">=13", "rich"), "safetensors": (">=0.4.3", "safetensors"),
    "omegaconf": (">=2.3,<2.4", "omegaconf"),
    "hydra-core": (">=1.3.2,<1.4", "hydra"), "matplotlib": (">=3.7", "matplotlib"), "jinja2": (">=3.1", "jinja2"),
    "scikit-learn": (">=1.3", "sklearn"),
    "scipy": (">=1.8", "scipy"), "mlflow": (">=3.10,<4", "mlflow"), "paddleslim": (">=2.6,<3", "paddleslim"),
    "onnx": (">=1.16", "onnx"), "onnxruntime": (">=1.17", "onnxruntime"), "paddle2onnx": (">=2.0,<3", "paddle2onnx"),
}  # fmt: skip
PADDLE = ">=3.1,<4"
PADDLECLAS = ">=2.6,<2.7"
CPU = f"pip install 'paddlepaddle{PADDLE}'"
GPU = f"pip install 'paddlepaddle-gpu{PADDLE}' -i https://www.paddlepaddle.org.cn/packages/stable/cu126/"
INSTALL = {"paddlepaddle": CPU, "paddlepaddle-gpu": GPU}
UNINSTALL = "pip uninstall -y paddlepaddle paddlepaddle-gpu"
VERIFY = "nothing was verified on a GPU yet: `make test-gpu` in a clone tries everything on it (docs/gpu.md)"
OUTPUTS, STORE = Path("outputs"), Path("outputs/mlflow.db")
COLORS = {"ok": "green", "warn": "yellow", "missing": "red"}


@dataclass
class Finding:
    """The result of a check."""

    name: str
    status: str
    """ok, warn (it works, not as well as it could) or missing (a requirement is not met)."""
    found: str
    remedy: str = ""


def main(arguments: list[str]) -> int:
    """`doctor [--json]`; returns 2 if a requirement is not met."""
    description = "Say what is installed, which device is used, and how to fix the rest."
    parser = argparse.ArgumentParser(prog="runner doctor", description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    findings = [finding for check in CHECKS for finding in check()]
    problems = sum(finding.status == "missing" for finding in findings)
    if options.json:
        print(json.dumps({"problems": problems, "findings": [asdict(finding) for finding in findings]}))
    else:
        show(findings)
        print(terminal.counted(problems, "problem") if problems else "Ready: python -m runner")
    return 2 if problems else 0


def show(findings: list[Finding]) -> None:
    """Print the findings as a table (as lines if rich is missing), then the remedies."""
    try:
        from rich import box, table, text

        from ...terminal import screen
    except ImportError:
        print("".join(f"{finding.status:<8}{finding.name}: {finding.found}\n" for finding in findings))
    else:
        rows = table.Table("check", "status", box=box.SIMPLE_HEAD, pad_edge=False)
        rows.add_column("found", overflow="fold")
        for finding in findings:
            rows.add_row(finding.name, text.Text(finding.status, COLORS[finding.status]), text.Text(finding.found))
        screen().print(rows)
    remedies = [f"{finding.name}: {finding.remedy}" for finding in findings if finding.remedy]
    print("".join(f"{number}. {remedy}\n" for number, remedy in enumerate(remedies, 1)), end="\n" * bool(remedies))


def python() -> Iterator[Finding]:
    """The interpreter, and whether it is the one this package was installed into."""
    good = (3, 10) <= sys.version_info[:2] <= (3, 12)
    remedy = "" if good else "install this package into an environment with Python 3.10, 3.11 or 3.12"
    yield Finding("Python", "ok" if good else "missing", f"{platform.python_version()}, {sys.executable}", remedy)
    if installed("paddle-runner") is None:
        remedy = "where its pyproject.toml is: pip install -e '.[cpu]', which brings all that follows"
        yield Finding("paddle-runner", "warn", "not installed in this Python, only found by it", remedy)


def paddle() -> Iterator[Finding]:
    """Exactly one of Paddle's packages."""
    match [package for package in INSTALL if installed(package)]:
        case []:
            yield Finding("paddlepaddle", "missing", "not installed", f"{CPU} (CPU), or for an NVIDIA GPU {GPU}")
        case [package]:
            yield requirement(package, PADDLE, "paddle", INSTALL[package])
        case both:
            problem = f"{' and '.join(both)} overwrite each other's files"
            yield Finding("paddlepaddle", "missing", problem, f"{UNINSTALL}, then only one: {CPU}, or {GPU}")


def device() -> Iterator[Finding]:
    """Where Paddle computes."""
    answer = imported()["paddle"]
    if answer["error"]:
        return
    gpus, cuda = answer["gpus"], answer["cuda"]
    cards = "" if gpus else graphics_cards()
    if gpus:
        yield Finding("device", "ok", f"{answer['device']} of {len(gpus)} ({', '.join(gpus)}), CUDA {cuda}", VERIFY)
    elif cuda:
        summary = f"cpu, with a build for CUDA {cuda} that sees no GPU; nvidia-smi: {cards or 'none'}"
        mend = "check the driver and CUDA_VISIBLE_DEVICES" if cards else "install NVIDIA's driver"
        yield Finding("device", "warn", summary, f"{mend}; for the CPU alone: {UNINSTALL}; {CPU}")
    elif cards:
        summary = f"cpu, with a build without CUDA; not used: {cards}"
        mend = f"{VERIFY}, in an environment of its own; to train on it: {UNINSTALL}; {GPU}"
        yield Finding("device", "warn", summary, mend)
    else:
        yield Finding("device", "ok", "cpu, with a build without CUDA")


def sweeps() -> Iterator[Finding]:
    """Whether jobs of a sweep are forked, without imports."""
    answer = imported()["paddle"]
    if not answer["error"]:
        reason = "a build for CUDA" if answer["cuda"] else processes.cannot_fork_workers()
        yield Finding("workers of sweeps", "ok", f"each is started ({reason})" if reason else "forked, without imports")


def packages() -> Iterator[Finding]:
    """The other requirements."""
    for package, (versions, module) in REQUIRED.items():
        yield requirement(package, versions, module, f"pip install '{package}{versions}'")


def compiler() -> Iterator[Finding]:
    """The compiler of the CPU kernels and the ReLU operator."""
    if words := processes.compiler():
        yield Finding("C++ compiler", "ok", str(shutil.which(words[0])))
    else:
        remedy = "for training several times as fast on a CPU install g++ (Debian: apt-get install g++)"
        yield Finding("C++ compiler", "warn", f"no {' or '.join(processes.compilers())} on PATH", remedy)


def machine(cgroup: Path = Path("/sys/fs/cgroup")) -> Iterator[Finding]:
    """Cores and memory, within the container's limits."""
    cores = usable = os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if sys.platform == "linux":
        usable = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):
        quota, period = map(int, (cgroup / "cpu.max").read_text().split())
        usable = min(usable, math.ceil(quota / period))
    with contextlib.suppress(OSError, ValueError):
        memory = min(memory, int((cgroup / "memory.max").read_text()))
    remedy = f"train.threads={usable}" if usable < cores else ""
    summary = f"{usable} of {cores} cores usable, {cores} threads by default"
    yield Finding("processor", "warn" if remedy else "ok", summary, remedy)
    yield room("memory", memory, 2 << 30, "in all", "lower data.batch_size, or raise train.accumulate")


def disks() -> Iterator[Finding]:
    """The folder that runs are written to."""
    folder = OUTPUTS if OUTPUTS.exists() else Path()
    try:
        tempfile.TemporaryFile(dir=folder).close()
        free = shutil.disk_usage(folder).free
        remedy = "make room, or write to another disk: hydra.run.dir=DIR"
        yield room("outputs", free, 2 << 30, f"free in {folder.resolve()}", remedy)
    except OSError as error:
        problem = f"{folder.resolve()} cannot be written: {error.strerror}"
        yield Finding("outputs", "missing", problem, "make it writable, or work in another folder")


def tracking() -> Iterator[Finding]:
    """The embedded MLflow store, if any, and MLflow's variable, which may hold a password."""
    if STORE.exists() and STORE.stat().st_size:
        uri = f"{STORE.resolve().as_uri()}?mode=ro"
        try:
            with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=2)) as database:
                [[runs]] = database.execute("SELECT COUNT(*) FROM runs")
            yield Finding("MLflow store", "ok", f"{STORE}, runs: {runs}")
        except sqlite3.Error as error:
            remedy = f"while nothing is training, move {STORE} away, then fill a new one: python -m runner sync"
            yield Finding("MLflow store", "missing", f"{STORE} cannot be read: {error}", remedy)
    for variable, (key, _) in cfg.VARIABLES.items():
        if os.environ.get(variable):
            yield Finding("tracking", "warn", f"{variable} is set and not used", f'say {key}="${variable}" instead')


def paddleclas() -> Iterator[Finding]:
    """PaddleClas for `model=paddleclas/…`, which is optional."""
    version = installed("paddleclas")
    if version is None:
        yield Finding("paddleclas", "ok", "not installed; model=paddleclas/… needs it")
    elif fits(version, PADDLECLAS):
        yield Finding("paddleclas", "ok", version)
    else:
        yield Finding("paddleclas", "warn", f"{version}, not {PADDLECLAS}", networks.INSTALL_PADDLECLAS)


CHECKS = (python, paddle, device, sweeps, packages, paddleclas, compiler, machine, disks, tracking)


def requirement(package: str, versions: str, module: str, install: str) -> Finding:
    """Whether a package is installed, in the right version, and can be imported."""
    version, answer = installed(package), imported().get(module)
    if version is None:
        return Finding(package, "missing", "not installed", install)
    if not fits(version, versions):
        return Finding(package, "missing", f"{version}, not {versions}", install)
    if answer is None:
        return Finding(package, "warn", f"{version}, not tried, because an import before it failed")
    if not answer["error"]:
        return Finding(package, "ok", version)
    file, home = answer["file"], Path(str(metadata.distribution(package).locate_file(""))).resolve()
    if file and home not in Path(file).resolve().parents:
        remedy = f"{file} hides the installed {module}: rename it, or take its folder off PYTHONPATH"
    else:
        remedy = f"pip uninstall -y {package}; {install}  (all of the error: python -c 'import {module}')"
    return Finding(package, "missing", f"{version}, import {module}: {answer['error']}", remedy)


def room(name: str, size: int, least: int, what: str, remedy: str) -> Finding:
    """Whether there are enough bytes of something."""
    few = size < least
    return Finding(name, "warn" if few else "ok", f"{size / 2**30:.1f} GB {what}", remedy if few else "")


def installed(package: str) -> str | None:
    """The version of a package; None if it is not installed."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def fits(version: str, versions: str) -> bool:
    """Whether a version fits a specifier such as `>=1.3,<2`."""
    return SpecifierSet(versions).contains(version, prereleases=True)


def graphics_cards() -> str:
    """Names of the GPUs NVIDIA's driver sees."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        stdout = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
        return ", ".join(stdout.strip().splitlines())
    return ""


@functools.cache
def imported() -> dict[str, dict[str, Any]]:
    """Module → its `file`, its `error` ("" for none) and, of Paddle, the result of `import_probe.compute`; from two
    children."""
    on_paddle = ["paddleslim", "paddle2onnx"]
    others = [module for _, module in REQUIRED.values() if module not in on_paddle]
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(import_probe.ask, (["paddle", *on_paddle], others))
    return first | second

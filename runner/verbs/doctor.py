"""What is installed, which device is used, and what to do about the rest. Imports neither Paddle nor MLflow."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import json
import math
import os
import platform
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

#: Package → the versions pyproject.toml asks for, and the module it is needed for.
REQUIRED = {
    "numpy": (">=1.24,<2", "numpy"), "hydra-core": (">=1.3.2,<1.4", "hydra"), "omegaconf": (">=2.3,<2.4", "omegaconf"),
    "mlflow": (">=3.10,<4", "mlflow"), "safetensors": (">=0.4.3", "safetensors"), "scikit-learn": (">=1.3", "sklearn"),
    "matplotlib": (">=3.7", "matplotlib"), "pillow": (">=9.5", "PIL"), "pyyaml": (">=6", "yaml"),
    "rich": (">=13", "rich"), "setuptools": ("<81", "pkg_resources"), "decorator": ("", "decorator"),
    "six": ("", "six"), "requests": ("", "requests"), "paddleslim": (">=2.6,<3", "paddleslim"),
}  # fmt: skip
PADDLE = ">=3.1,<4"
#: Either package of Paddle → how it is installed.
INSTALL = {
    "paddlepaddle": f"pip install 'paddlepaddle{PADDLE}'",
    "paddlepaddle-gpu": f"pip install 'paddlepaddle-gpu{PADDLE}' "
    "-i https://www.paddlepaddle.org.cn/packages/stable/cu126/",
}
CPU, GPU = INSTALL.values()
UNINSTALL = "pip uninstall -y paddlepaddle paddlepaddle-gpu"
OUTPUTS, STORE, SHARED_MEMORY = Path("outputs"), Path("outputs/mlflow.db"), Path("/dev/shm")
COLORS = {"ok": "green", "warn": "yellow", "missing": "red"}
#: Seconds a child has for its imports, from a slow disk as well.
IMPORTS_S = 60


@dataclass
class Finding:
    """What a check found."""

    name: str
    status: str
    """ok, warn (it works, not as well as it could) or missing (a requirement is not met)."""
    found: str
    remedy: str = ""


def main(arguments: list[str]) -> int:
    """`doctor [--json]`; returns 2 where a requirement is not met."""
    parser = argparse.ArgumentParser(
        prog="runner doctor", description="Say what is installed, which device is used, and how to mend the rest."
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    findings = [finding for check in CHECKS for finding in check()]
    problems = sum(finding.status == "missing" for finding in findings)
    if options.json:
        print(json.dumps({"problems": problems, "findings": [asdict(finding) for finding in findings]}))
    else:
        show(findings)
        print(f"{problems} problem{'s' * (problems > 1)}" if problems else "Ready: python -m runner")
    return 2 if problems else 0


def show(findings: list[Finding]) -> None:
    """Print the findings as a table (as lines where rich is what is missing), and then the remedies."""
    try:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        from ..progress import screen
    except ImportError:
        print("".join(f"{finding.status:<8}{finding.name}: {finding.found}\n" for finding in findings))
    else:
        table = Table("check", "status", box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("found", overflow="fold")
        for finding in findings:
            table.add_row(finding.name, Text(finding.status, COLORS[finding.status]), Text(finding.found))
        screen().print(table)
    remedies = [f"{finding.name}: {finding.remedy}" for finding in findings if finding.remedy]
    print("".join(f"{number}. {remedy}\n" for number, remedy in enumerate(remedies, 1)))


def python() -> Iterator[Finding]:
    """The interpreter."""
    good = (3, 10) <= sys.version_info[:2] <= (3, 12)
    remedy = "" if good else "install this package into an environment with Python 3.10, 3.11 or 3.12"
    yield Finding("Python", "ok" if good else "missing", f"{platform.python_version()}, {sys.executable}", remedy)


def paddle() -> Iterator[Finding]:
    """Exactly one of Paddle's packages."""
    match [package for package in INSTALL if installed(package)]:
        case []:
            yield Finding("paddlepaddle", "missing", "not installed", f"{CPU} (CPU), or for an NVIDIA GPU {GPU}")
        case [package]:
            yield requirement(package, PADDLE, "paddle", f"{UNINSTALL}; {INSTALL[package]}")
        case both:
            found = f"{' and '.join(both)} overwrite each other's files"
            yield Finding("paddlepaddle", "missing", found, f"{UNINSTALL}, then only one: {CPU}, or {GPU}")


def device() -> Iterator[Finding]:
    """Where Paddle computes."""
    answer = imported()["paddle"]
    if answer["error"]:
        return
    gpus, cuda = answer["gpus"], answer["cuda"]
    if gpus:
        yield Finding("device", "ok", f"{answer['device']} of {len(gpus)} ({', '.join(gpus)}), CUDA {cuda}")
        return
    cards = graphics_cards()
    if cuda:
        found = f"cpu, with a build for CUDA {cuda} that sees no GPU; nvidia-smi: {cards or 'none'}"
        mend = "check the driver and CUDA_VISIBLE_DEVICES" if cards else "install NVIDIA's driver"
        yield Finding("device", "warn", found, f"{mend}; for the CPU alone: {UNINSTALL}; {CPU}")
    elif cards:
        found = f"cpu, with a build without CUDA; not used: {cards}"
        yield Finding("device", "warn", found, f"to train on the GPU: {UNINSTALL}; {GPU}")
    else:
        yield Finding("device", "ok", "cpu")


def packages() -> Iterator[Finding]:
    """What is needed besides Paddle."""
    for package, (versions, module) in REQUIRED.items():
        yield requirement(package, versions, module, f"pip install '{package}{versions}'")


def compiler() -> Iterator[Finding]:
    """What compiles the ReLU operator."""
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    if found := [path for command in wanted if (path := shutil.which(command.split()[0]))]:
        yield Finding("C++ compiler", "ok", found[0])
    else:
        remedy = "for model.custom_relu=true, and only for it, install g++ (Debian: apt-get install g++)"
        yield Finding("C++ compiler", "warn", f"no {' or '.join(wanted)} on PATH", remedy)


def machine(cgroup: Path = Path("/sys/fs/cgroup")) -> Iterator[Finding]:
    """Cores and memory, of a container its share."""
    cores = usable = os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if sys.platform == "linux":
        usable = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):
        quota, period = map(int, (cgroup / "cpu.max").read_text().split())
        usable = min(usable, math.ceil(quota / period))
    with contextlib.suppress(OSError, ValueError):
        memory = min(memory, int((cgroup / "memory.max").read_text()))
    found = f"{usable} of {cores} cores usable, {cores} threads by default"
    remedy = f"train.threads={usable}" if usable < cores else ""
    yield Finding("processor", "warn" if remedy else "ok", found, remedy)
    yield room("memory", memory, 2 << 30, "in all", "lower data.batch_size, or raise train.accumulate")


def disks() -> Iterator[Finding]:
    """What runs are written to, and what workers of data=image_folder hand images over in."""
    folder = OUTPUTS if OUTPUTS.exists() else Path()
    try:
        tempfile.TemporaryFile(dir=folder).close()
        free = shutil.disk_usage(folder).free
        remedy = "make room, or write to another disk: hydra.run.dir=DIR"
        yield room("outputs", free, 2 << 30, f"free in {folder.resolve()}", remedy)
    except OSError as error:
        found = f"{folder.resolve()} cannot be written: {error.strerror}"
        yield Finding("outputs", "missing", found, "make it writable, or work in another folder")
    if SHARED_MEMORY.is_dir():
        free = shutil.disk_usage(SHARED_MEMORY).free
        remedy = "for data=image_folder raise it (Docker: --shm-size=1g), or do without: data.workers=0"
        yield room("shared memory", free, 256 << 20, f"free in {SHARED_MEMORY}", remedy)


def tracking() -> Iterator[Finding]:
    """The embedded MLflow store, where there is one, and MLflow's variable, which may hold a password."""
    if STORE.exists() and STORE.stat().st_size:
        uri = f"{STORE.resolve().as_uri()}?mode=ro"
        try:
            with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=2)) as database:
                [[runs]] = database.execute("SELECT COUNT(*) FROM runs")
            yield Finding("MLflow store", "ok", f"{STORE}, runs: {runs}")
        except sqlite3.Error as error:
            remedy = f"while nothing is training, move {STORE} away, then fill a new one: python -m runner sync"
            yield Finding("MLflow store", "missing", f"{STORE} cannot be read: {error}", remedy)
    if os.environ.get("MLFLOW_TRACKING_URI"):
        yield Finding("tracking", "warn", "MLFLOW_TRACKING_URI is set and not used", "say tracking.uri=URI instead")


CHECKS = (python, paddle, device, packages, compiler, machine, disks, tracking)


def requirement(package: str, versions: str, module: str, install: str) -> Finding:
    """Whether a package is there, of the right version, and can be imported."""
    version, answer = installed(package), imported().get(module)
    if version is None:
        return Finding(package, "missing", "not installed", install)
    if not fits(version, versions):
        return Finding(package, "missing", f"{version}, not {versions}", install)
    if answer is None:
        return Finding(package, "warn", f"{version}, not tried because of what failed before it")
    if not answer["error"]:
        return Finding(package, "ok", version)
    file, home = answer["file"], Path(str(metadata.distribution(package).locate_file(""))).resolve()
    if file and home not in Path(file).resolve().parents:
        remedy = f"{file} hides the installed {module}: rename it, or take its folder off PYTHONPATH"
    else:
        remedy = f"{install} --force-reinstall; all of the error: python -c 'import {module}'"
    return Finding(package, "missing", f"{version}, import {module}: {answer['error']}", remedy)


def room(name: str, size: int, least: int, what: str, remedy: str) -> Finding:
    """Whether there are at least so many bytes of something."""
    return Finding(name, *(("ok", found, "") if size >= least else ("warn", found, remedy)))


def installed(package: str) -> str | None:
    """The version of a package; None where it is not installed."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def fits(version: str, versions: str) -> bool:
    """Whether a version is one of those written like `>=1.3,<2`."""

    def numbers(text: str) -> list[int]:
        return [int(digits) for digits in re.findall(r"\d+", text)]

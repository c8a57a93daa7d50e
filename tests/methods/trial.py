"""One method in one mode with one network: trained, resumed, exported; or refused before training."""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from runner.__main__ import command
from runner.checkpoints.state import MODEL
from runner.deploy import manifest
from runner.kernels.autotune import autotuning_off
from tests.methods.names import NETWORKS, overrides
from tests.zoo.table import WORKS

#: Two steps an epoch, two epochs; it is stopped within the second one, behind a cut at its beginning.
RUN = [
    "data=synthetic", "data.train_images=8", "data.val_fraction=0", "data.test_images=8", "data.batch_size=4",
    "train.epochs=2", "schedule=constant", "optimizer.lr=1e-4", "train.log_every=2", "train.threads=1",
    "train.plots=false", "tracking=none", "launch.inline=true", "deploy.bench_s=0",
]  # fmt: skip
STEPS, STOPPED = 4, 3
REFUSED = 2


def cell(network: str, mode: str, method: str) -> str:
    """What the table says of a combination."""
    words = [*RUN, *overrides(network, mode, method), f"checkpoint.init_from={trained(network)}"]
    words += [f"mode.teacher_from={trained(network)}"] if mode == "cls_teacher" else []
    with tempfile.TemporaryDirectory() as folder:
        whole, parts = Path(folder, "whole"), Path(folder, "parts")
        code, said = run(*words, f"train.max_steps={STEPS}", f"hydra.run.dir={whole}")
        if code:
            is_early = code == REFUSED and not (whole / "checkpoints").exists()
            return f"{'refused' if is_early else 'failed'}: {said}"
        for steps in (STOPPED, STEPS):
            more = [f"train.max_steps={steps}", f"hydra.run.dir={parts}", "checkpoint.resume=auto"]
            code, said = run(*words, *more)
            if code:
                return f"failed: {said}"
        gc.collect()
        return differing(whole, parts) or exported(whole) or WORKS


@functools.cache
def trained(network: str) -> str:
    """A run without any method, which others begin with and are taught by."""
    folder = tempfile.mkdtemp(prefix="methods-")
    words = [*RUN, f"model={network}", *NETWORKS[network][0], f"train.max_steps={STEPS}", "deploy.formats=[]"]
    code, said = run(*words, f"hydra.run.dir={folder}/run")
    assert code == 0, said
    return f"{folder}/run"


def run(*words: str) -> tuple[int, str]:
    """The exit code of a command in this process, and its last message on one line."""
    said = io.StringIO()
    with autotuning_off(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = command(list(words))
    return code, " ".join(said.getvalue().split())[-400:]


def differing(whole: Path, parts: Path) -> str:
    """Tensors of any checkpoint at the end that differ in a bit; empty if none does."""
    for place in (whole / "checkpoints").iterdir():
        if place.name not in ("quantized", f"step-{STEPS:08}"):
            continue
        ours, theirs = load_file(place / MODEL), load_file(parts / "checkpoints" / place.name / MODEL)
        if names := [name for name in theirs.keys() | ours.keys() if not np.array_equal(ours[name], theirs[name])]:
            return f"failed: {len(names)} tensors differ after a resumption, such as {names[0]}"
    return ""


def exported(whole: Path) -> str:
    """What is wrong with the exported files; empty if nothing is."""
    files = manifest.read(whole / "export").files
    if any(file.agreement is None for file in files if file.engine):
        return "failed: a file was not compared"
    return "" if {file.precision for file in files} <= {"float32", "int8"} and files else "failed: no file"

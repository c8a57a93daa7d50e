"""One method in one mode with one network: trained, resumed, exported; or refused before training."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
from safetensors.numpy import load_file

from runner.__main__ import command
from runner.checkpoints.state import MODEL
from runner.deploy import manifest, network_latency, quantization
from runner.kernels.autotune import autotuning_off
from runner.models import macs
from runner.runs.journal import RESULT
from tests.findings import WORKS, unfaithful
from tests.methods.names import METHODS, NETWORKS, overrides

#: Two steps an epoch, two epochs; it is stopped within the second one, behind a cut at its beginning.
RUN = [
    "data=synthetic", "data.train_images=8", "data.val_fraction=0", "data.test_images=8", "data.batch_size=4",
    "train.epochs=2", "schedule=constant", "optimizer.lr=1e-4", "train.log_every=2", "train.threads=1",
    "train.plots=false", "tracking=none", "launch.inline=true", "deploy.bench_s=0", "deploy.formats=[onnx]",
]  # fmt: skip
STEPS, STOPPED = 4, 3
#: Signal-to-noise ratio of the logits of a quantized network's files in dB, at least: they have 18 and more.
QUANTIZED_DB = 15.0
LAST, REFUSED = f"step-{STEPS:08}", 2


def cell(network: str, mode: str, method: str, folder: Path) -> str:
    """What the table says of a combination; `folder` keeps trained networks for others."""
    begin = trained(network, folder)
    words = [*RUN, *overrides(network, mode, method, begin), f"checkpoint.init_from={begin}"]
    with tempfile.TemporaryDirectory() as place:
        whole, parts = Path(place, "whole"), Path(place, "parts")
        code, message = run(*words, f"train.max_steps={STEPS}", f"hydra.run.dir={whole}")
        if code:
            is_early = code == REFUSED and not (whole / "checkpoints").exists()
            return f"{'refused' if is_early else 'failed'}: {message.replace(str(begin), 'RUN')}"
        # Files are those of the whole run; those that latencies are measured on have to be written.
        formats = [] if any("budget=latency" in word for word in words) else ["deploy.formats=[]"]
        for steps in (STOPPED, STEPS):
            more = [f"train.max_steps={steps}", f"hydra.run.dir={parts}", "checkpoint.resume=auto", *formats]
            code, message = run(*words, *more)
            if code:
                return f"failed: {message}"
        gc.collect()
        problem = differing(whole, parts) or missing(method, whole, begin)
        return f"failed: {problem}" if problem else WORKS


def trained(network: str, folder: Path) -> Path:
    """A run without any method, which others begin with and are taught by."""
    directory = folder / network
    if not (directory / RESULT).exists():
        words = [*RUN, f"model={network}", *NETWORKS[network][0], f"train.max_steps={STEPS}", "deploy.formats=[]"]
        code, message = run(*words, f"hydra.run.dir={directory}")
        assert code == 0, message
    return directory


def run(*words: str) -> tuple[int, str]:
    """The exit code of a command in this process, and its last line of errors.

    The latency that pruning measures is the number of MACs, or two runs could lose different filters.
    """
    errors = io.StringIO()
    with (
        autotuning_off(),
        mock.patch.object(network_latency, "engine", lambda network, shape, _threads: macs(network, shape)),
        mock.patch.object(network_latency, "medians", lambda engines, *_: [float(one) for one in engines]),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(errors),
    ):
        code = command(list(words))
    return code, (errors.getvalue().strip().splitlines() or [""])[-1]


def differing(whole: Path, parts: Path) -> str:
    """Tensors of a checkpoint at the end that differ in a bit; empty if none does."""
    ends = [place.name for place in (whole / "checkpoints").iterdir() if place.name in ("quantized", LAST)]
    if LAST not in ends:
        return f"there is no {LAST}"
    for name in ends:
        if not (parts / "checkpoints" / name / MODEL).exists():
            return f"the resumed run has no {name}"
        ours, theirs = (load_file(place / "checkpoints" / name / MODEL) for place in (parts, whole))
        others = sorted(ours.keys() ^ theirs.keys())
        others += [key for key in theirs if key in ours and not np.array_equal(ours[key], theirs[key])]
        if others:
            return f"{len(others)} tensors differ after a resumption, such as {others[0]}"
    return ""


def own_noise(whole: Path) -> float:
    """Signal-to-noise ratio in dB of a quantized network's logits against those of its float network.

    A deep network that has hardly learnt amplifies every rounding, of its files too.
    """
    described = quantization.read(whole / "export")
    assert described is not None
    return described.layers[-1].accumulated_snr_db or QUANTIZED_DB


def missing(method: str, whole: Path, begin: Path) -> str:
    """What a method should have left, and did not; empty if it has."""
    files = [file for file in manifest.read(whole / "export").files if file.engine]
    words = METHODS[method][0]
    quantizes = any(kind in words for kind in ("qat", "lsq", "ptq"))
    if problem := unfaithful(files, min(QUANTIZED_DB, own_noise(whole))) if quantizes else unfaithful(files):
        return problem
    if quantizes != any(file.precision == "int8" for file in files):
        return "there is no int8 file"
    before, after = (json.loads((place / RESULT).read_text())["final"]["macs"] for place in (begin, whole))
    return "" if ("fpgm" in words) == (after < before) else "there are as many MACs as before"

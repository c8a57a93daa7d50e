"""Weights from anywhere: a run, a `.safetensors` file, or a file of Paddle's or PyTorch's."""

from __future__ import annotations

import contextlib
import json
import pickle
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from .. import compression, files, runs, stored
from ..data import seen, unpickling
from ..errors import CheckpointError, Damaged
from ..runs.journal import CHECKPOINT_NAME, CHECKPOINTS, CONFIG
from . import onnx_file, reading, safetensors_file, state, state_dict, torch_file
from .preprocessing import Preprocessing
from .state import ANOTHER, EMA, MODEL, STATE

#: The one metadata key of exported files: several would have no defined order.
ABOUT = "runner.about"
#: The metadata of a pruned network in files of earlier versions.
PRUNED = "runner.pruned"


@dataclass
class Weights:
    """Named arrays from somewhere."""

    origin: str
    arrays: dict[str, np.ndarray]
    plan: dict[str, Any] = field(default_factory=dict)
    """Network → what was pruned from it; empty if nothing was pruned."""
    classes: list[str] | None = None
    """Names of the classes in the order of the logits; None if unknown, as for most files."""
    thresholds: dict[str, list[float]] = field(default_factory=dict)
    """Network → multi-label: the probability of each class from which it is predicted."""
    by_torch: bool | None = False
    """Whether weights of linear layers are [outputs, inputs], as in PyTorch; None if the file does not tell of all."""
    unsure: list[str] = field(default_factory=list)
    """Weights of linear layers that may be either way round, and are taken as [inputs, outputs]."""
    is_foreign: bool = False
    """Whether no run wrote the file, so that names may be those of another framework."""
    trained_on: seen.Keys | None = None
    """The images that they were trained on; None if unknown, as for most files."""
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    """How those images were preprocessed; empty if unknown, as for most files."""

    def without_quantization(self) -> Weights:
        """The weights alone, without quantization ranges and clips."""
        plain = {name: array for name, array in self.arrays.items() if not compression.slim.is_quantization(name)}
        return replace(self, arrays=plain)


def read(source: str | Path, pointer: str = "best") -> Weights:
    """Weights from a run directory, a checkpoint folder, or a `.safetensors`, `.pdparams`, `.onnx` or PyTorch file.

    From a run the checkpoint that `pointer` names is taken (`final`: what the run ended with, for `ptq` the quantized
    network; `best`; `last`), averaged weights before plain ones. Errors: CheckpointError naming what is missing or
    damaged.
    """
    path = Path(source)
    if path.is_file() and path.name in ("final", "best", "last"):
        path = path.with_name(reading.pointed(path.parent, path.name) or "")
    if path.is_dir():
        files.refuse_links(path)
    if (path / CHECKPOINTS).is_dir():
        path = path / CHECKPOINTS / _chosen(path, pointer)
    if (path / CONFIG).is_file():
        raise CheckpointError(f"{path} has no checkpoint: that run ended before its first one. Give another.")
    if CHECKPOINT_NAME.fullmatch(path.name) or (path.is_dir() and (path / STATE).exists()):
        return _of_checkpoint(path)
    if path.is_dir() or not path.exists():
        raise runs.no_weights(source)
    if path.suffix.lower() not in runs.WEIGHT_SUFFIXES:
        raise CheckpointError(f"{path} is not a file of weights. Give one ({runs.WEIGHT_FILES}), or a run.")
    try:
        stored.open_regular(path).close()
        return _of_file(path)
    except (SafetensorError, pickle.UnpicklingError, OSError, ValueError, TypeError, RecursionError) as error:
        why = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path} cannot be read as weights: {why}.") from error


def _of_file(path: Path) -> Weights:
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        with safe_open(path, "np") as opened:
            written = opened.metadata() or {}
        pruned, classes, preprocessed = _about(written)
        is_own, trained_on = ABOUT in written or PRUNED in written, None
        if path.name in (MODEL, EMA) and (path.parent / STATE).is_file():
            # Weights of another version's checkpoint are still usable.
            is_own = True
            with contextlib.suppress(CheckpointError):
                saved = reading.Saved(path.parent, state.read(path.parent))
                classes, trained_on = saved.state.classes, saved.trained_on()
        by_torch = False if is_own else {"pt": True, "pd": False}.get(written.get("format", ""))
        plan: dict[str, Any] = {"student": {}} if pruned else {}
        arrays = safetensors_file.load(path)
        return Weights(
            str(path), arrays, plan, classes, by_torch=by_torch, is_foreign=not is_own, trained_on=trained_on,
            preprocessing=preprocessed,
        )  # fmt: skip
    if suffix == ".onnx":
        arrays, by_torch = onnx_file.load(path)
        return Weights(str(path), arrays, by_torch=by_torch, is_foreign=True)
    if suffix == ".pdparams":
        with stored.open_regular(path) as stream:
            arrays, place = state_dict.arrays_of(unpickling.load(stream))
    else:
        arrays, place = state_dict.arrays_of(torch_file.load(path))
    by_torch = suffix != ".pdparams"
    return Weights(f"{path}{place and f' ({place})'}", arrays, by_torch=by_torch, is_foreign=True)


def metadata(pruned: bool, classes: list[str], preprocessed: Preprocessing) -> dict[str, str]:
    """The metadata of an exported file, which `read` understands."""
    return {ABOUT: json.dumps({"pruned": pruned, "classes": classes, "preprocessing": preprocessed})}


def _about(written: dict[str, str]) -> tuple[bool, list[str] | None, Preprocessing]:
    """(pruned, names of the classes, preprocessing). Errors: ValueError, TypeError for what no export wrote."""
    if ABOUT not in written:
        return written.get(PRUNED) == str(True), None, {}
    values = json.loads(written[ABOUT])
    stored.check(values, dict[str, Any], ABOUT)
    pruned, classes = values.get("pruned"), values.get("classes")
    stored.check(pruned, bool, "pruned")
    stored.check(classes, list[str], "classes")
    # Files of earlier versions lack it.
    preprocessed = values.get("preprocessing", {})
    stored.check(preprocessed, Preprocessing, "preprocessing")
    return pruned, classes, preprocessed


def _of_checkpoint(path: Path) -> Weights:
    saved = reading.verify(path)
    try:
        averages = load_file(path / EMA) if EMA in saved.state.digests else {}
        arrays, state = load_file(path / MODEL) | averages, saved.state
        thresholds, trained_on = state.progress.thresholds, saved.trained_on()
        return Weights(str(path), arrays, state.plan, state.classes, thresholds, trained_on=trained_on)
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        # The digests are correct, so the file was not damaged: no run wrote it.
        raise Damaged(f"{path} is damaged: {error}. {ANOTHER}") from error


def _chosen(run: Path, pointer: str) -> str:
    """The checkpoint that a pointer of a run names, or the next of `final`, `best` and `last` that exists.

    Errors: CheckpointError if there is none; Damaged if a complete run has lost one of them, since the next one would
    silently be another network.
    """
    order = ("final", "best", "last")
    noted = runs.checkpoints(run)
    for number, name in enumerate(order[order.index(pointer) :], start=order.index(pointer) + 1):
        checkpoint_name, place = reading.pointed(run / CHECKPOINTS, name), run / CHECKPOINTS / name
        if name in noted and checkpoint_name != noted[name]:
            others = f", or choose other weights explicitly: --weights {order[number]}" if number < len(order) else ""
            what = "is missing" if checkpoint_name is None else f"names {checkpoint_name}"
            raise Damaged(f"{place} {what}; the run wrote {noted[name]} in it. Bring it back{others}.")
        if checkpoint_name is not None:
            return checkpoint_name
    raise CheckpointError(f"{run} has no checkpoint yet. Give a run that has, or a file of weights.")

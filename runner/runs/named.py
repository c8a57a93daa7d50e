"""Names of runs and weights, in a config or on the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import config as cfg
from ..config.fields import WEIGHTS
from ..config.keys import walk
from ..errors import CheckpointError, ConfigError
from .journal import CHECKPOINTS

#: The form of MLflow's run ids.
RUN_ID = re.compile(r"[0-9a-f]{32}")
#: Endings of the names of readable files of weights: of PyTorch's, and all.
TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar")
WEIGHT_SUFFIXES = (".safetensors", ".pdparams", ".onnx", *TORCH_SUFFIXES)
#: The same in words.
WEIGHT_FILES = f".safetensors, .pdparams, .onnx, or PyTorch's {', '.join(TORCH_SUFFIXES[:-1])} or {TORCH_SUFFIXES[-1]}"


def no_weights(source: object) -> CheckpointError:
    """The error for missing weights."""
    return CheckpointError(
        f"{source}: no weights were found. Give a run (its directory or its MLflow run id), or a file: {WEIGHT_FILES}."
    )


def refuse_missing_weights(config: cfg.Config) -> None:
    """Refuse weights that are neither here nor in MLflow, without reading any.

    Errors: CheckpointError; ConfigError for `imagenet` where a key reads runs and files alone.
    """
    for key, part, source in _sources(config):
        if _is_published(part, source):
            continue
        if source == cfg.PUBLISHED and not (Path(source) / CHECKPOINTS).is_dir():
            raise ConfigError(_not_published(key, part))
        if not RUN_ID.fullmatch(source) and not Path(source).exists():
            raise no_weights(source)


def published(config: cfg.Config) -> Iterator[cfg.Model]:
    """The networks of a config that begin with the published weights of their architecture."""
    for _, part, source in _sources(config):
        if _is_published(part, source):
            yield part


def _is_published(part: Any, source: str) -> bool:
    return isinstance(part, cfg.Model) and source == cfg.PUBLISHED


def _not_published(key: str, part: Any) -> str:
    """Why a key does not take the word for published weights, and the key that does."""
    if isinstance(part, cfg.Teacher):
        teacher = key.removesuffix("_from")
        adds = "" if teacher == "mode.teacher" else "+"
        remedy = f"{adds}model@{teacher}=NAME {teacher}.weights={cfg.PUBLISHED}"
    else:
        remedy = f"model.weights={cfg.PUBLISHED}"
    return (
        f"{key}={cfg.PUBLISHED}: published weights are of an architecture, and this key takes a run or a file. Use "
        f"{remedy}"
    )


def _sources(config: cfg.Config) -> Iterator[tuple[str, Any, str]]:
    """(key, dataclass it is in, source) of all weights that a config names."""
    for key, value, part, field in walk(config):
        if field.metadata.get(WEIGHTS) and value:
            yield key, part, value

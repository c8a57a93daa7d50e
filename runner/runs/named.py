"""Names of runs and weights, in a config or on the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .. import config as cfg
from ..config.fields import WEIGHTS
from ..config.keys import walk
from ..errors import CheckpointError

#: The form of MLflow's run ids.
RUN_ID = re.compile(r"[0-9a-f]{32}")
#: Readable files of weights, in words.
WEIGHT_FILES = ".safetensors, .pdparams, .onnx, or PyTorch's .pth, .pt or .bin"


def no_weights(source: object) -> CheckpointError:
    """The error for missing weights."""
    return CheckpointError(
        f"{source}: no weights were found. Give a run (its directory or its MLflow run id), or a file: {WEIGHT_FILES}."
    )


def refuse_missing_weights(config: cfg.Config) -> None:
    """Refuse weights that are neither here nor in MLflow, without reading any. Errors: CheckpointError."""
    for source in _sources(config):
        if source != cfg.PUBLISHED and not RUN_ID.fullmatch(source) and not Path(source).exists():
            raise no_weights(source)


def _sources(config: cfg.Config) -> Iterator[str]:
    for _, value, _, field in walk(config):
        if field.metadata.get(WEIGHTS):
            yield from filter(None, value if isinstance(value, list) else [value])

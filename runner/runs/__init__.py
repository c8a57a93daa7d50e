"""Runs on disk: a run directory, its journal and its state; sweeps of them. Imports nothing above it."""

from .named import RUN_ID, WEIGHT_FILES, WEIGHT_SUFFIXES, no_weights
from .run import (
    State,
    began,
    checkpoints,
    close_lost,
    config_of,
    damaged,
    find,
    forget_refused,
    groups_of,
    is_running,
    mlflow_id,
    overrides,
    require_begun,
    state,
)

__all__ = [
    "RUN_ID",
    "WEIGHT_FILES",
    "WEIGHT_SUFFIXES",
    "State",
    "began",
    "checkpoints",
    "close_lost",
    "config_of",
    "damaged",
    "find",
    "forget_refused",
    "groups_of",
    "is_running",
    "mlflow_id",
    "no_weights",
    "overrides",
    "require_begun",
    "state",
]

"""Delivery state of a run per tracker: `mlflow.json`, and the same for other trackers."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from .. import stored
from ..errors import Damaged


class OfStore(TypedDict, total=False):
    """The delivery state of one destination: an MLflow store, a TensorBoard folder, or that of another tracker."""

    run_id: str
    experiment_id: str
    params_sent: bool
    offset: int
    mark: str
    ended: bool
    has_lost: bool


class Tracked(OfStore, total=False):
    """`mlflow.json`, and the same of another tracker."""

    uri: str
    key: str
    home: str
    said: str
    own: str
    beside: str | None
    others: dict[str, OfStore]
    rebuilt: str
    refused: str


def _is_whole(record: OfStore) -> bool:
    needed = {"experiment_id", "params_sent", "offset"} if "run_id" in record else set()
    return record.get("offset", 0) >= 0 and record.keys() >= needed


def read(path: Path) -> Tracked:
    """`mlflow.json` of a run, or the same of another tracker; empty if nothing was delivered. Errors: Damaged."""
    remedy = "Remove it; `python -m runner sync RUN` then delivers the run as a new one."
    record: Tracked = stored.read_json(path, Tracked, remedy) or Tracked()
    whole = "rebuilt" in record or "run_id" not in record or record.keys() >= {"key", "uri"}
    stores = [] if "rebuilt" in record else [record, *record.get("others", {}).values()]
    if not whole or not all(map(_is_whole, stores)):
        raise Damaged(f"{path} is damaged: a part of it is missing or impossible. {remedy}")
    return record

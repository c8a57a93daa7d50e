"""Addresses of MLflow's pages that show certain runs and no others."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import Damaged
from ..runs import sweep
from ..runs.journal import tracked

#: Where `runner ui` serves an embedded store unless it is told another port.
SERVED = "http://127.0.0.1:5000"
#: Runs up to which there is an address that names each of them.
MOST_COMPARED = 100


def base(uri: str) -> str:
    """Where a browser finds a store's pages; of an embedded one, while `runner ui` serves it."""
    return uri.rstrip("/") if uri.startswith("http") else SERVED


def comparison(address: str, run_ids: list[str], experiment_ids: list[str]) -> str:
    """The page that compares exactly these runs, with their parallel coordinates."""
    runs, experiments = (quote(json.dumps(ids, separators=(",", ":"))) for ids in (run_ids, experiment_ids))
    return f"{address}/#/compare-runs?runs={runs}&experiments={experiments}"


def charts(address: str, experiment_id: str, sweep_id: str) -> str:
    """The page with the list of a sweep's runs and their charts."""
    chosen = quote(f"tags.sweep_id = '{sweep_id}'")
    return f"{address}/#/experiments/{experiment_id}/runs?searchFilter={chosen}&compareRunsMode=CHART"


def tracked_jobs(directory: Path) -> tuple[list[dict[str, Any]], list[Damaged]]:
    """What MLflow has of each job of a sweep, and what is wrong with those of which that cannot be told."""
    records, damaged = [], []
    for job in sweep.jobs(directory):
        try:
            records.append(tracked(job))
        except Damaged as error:
            damaged.append(error)
    return records, damaged


def of_sweep(directory: Path, address: str | None = None) -> dict[str, str]:
    """What to call it → address, of the pages of a sweep's runs; nothing where they are not tracked.

    `address`: where the store is served, if that is known.
    """
    sent = [record for record in tracked_jobs(directory)[0] if "run_id" in record]
    if not sent:
        return {}
    address = address or base(sent[0]["uri"])
    experiments = sorted({record["experiment_id"] for record in sent})
    ids = [record["run_id"] for record in sent]
    # A longer address is of no use to anybody, nor is MLflow's page of so many columns.
    links = {"Compare": comparison(address, ids, experiments)} if len(ids) <= MOST_COMPARED else {}
    with contextlib.suppress(Damaged):
        if len(experiments) > 1:
            return links
        links = {"Charts": charts(address, experiments[0], sweep.read(directory).id), **links}
    return links

"""URLs of MLflow's pages for certain runs and no others."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from urllib.parse import quote

from ..errors import Damaged
from ..runs import sweep
from ..runs.journal import tracked
from ..runs.tracked import Tracked

#: The address at which `runner ui` serves an embedded store by default.
SERVED = "http://127.0.0.1:5000"
#: Most runs that a URL names.
MOST_COMPARED = 100


def base(uri: str) -> str:
    """The base URL of a store's pages; for an embedded one, while `runner ui` serves it."""
    return uri.rstrip("/") if uri.startswith("http") else SERVED


def comparison(address: str, run_ids: list[str], experiment_ids: list[str]) -> str:
    """The page that compares exactly these runs, with parallel coordinates."""
    runs, experiments = (quote(json.dumps(ids, separators=(",", ":"))) for ids in (run_ids, experiment_ids))
    return f"{address}/#/compare-runs?runs={runs}&experiments={experiments}"


def charts(address: str, experiment_id: str, sweep_id: str) -> str:
    """The page with a sweep's runs and their charts."""
    chosen = quote(f"tags.sweep_id = '{sweep_id}'")
    # Sorted by time, MLflow would fold the runs below the sweep's summary, and draw none of them.
    order = f"orderByKey={quote('tags.`mlflow.runName`')}&orderByAsc=true"
    return f"{address}/#/experiments/{experiment_id}/runs?searchFilter={chosen}&{order}&compareRunsMode=CHART"


def summary_page(address: str, record: Tracked) -> str:
    """The page of a sweep's summary."""
    return f"{address}/#/experiments/{record['experiment_id']}/runs/{record['run_id']}"


def tracked_jobs(directory: Path) -> tuple[list[Tracked], list[Damaged]]:
    """What MLflow has of each job of a sweep, and the errors of jobs for which that is unknown."""
    records, damaged = [], []
    for job in sweep.jobs(directory):
        try:
            records.append(tracked(job))
        except Damaged as error:
            damaged.append(error)
    return records, damaged


def of_sweep(directory: Path, address: str | None = None) -> dict[str, str]:
    """Title → URL of the pages of a sweep's runs; empty if they are not tracked.

    `address`: where the store is served, if that is known.
    """
    sent = [record for record in tracked_jobs(directory)[0] if "run_id" in record]
    if not sent:
        return {}
    address = address or base(sent[0]["uri"])
    experiments = sorted({record["experiment_id"] for record in sent})
    ids = [record["run_id"] for record in sent]
    # A longer URL is useless, and so is MLflow's page with as many columns.
    links = {"Compare": comparison(address, ids, experiments)} if len(ids) <= MOST_COMPARED else {}
    with contextlib.suppress(Damaged):
        if len(experiments) == 1:
            links = {"Charts": charts(address, experiments[0], sweep.read(directory).id), **links}
    with contextlib.suppress(Damaged):
        record = tracked(directory / sweep.SUMMARY_RUN)
        if "run_id" in record and record["uri"] == sent[0]["uri"]:
            links = {"Summary": summary_page(address, record), **links}
    return links

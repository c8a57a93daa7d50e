"""An embedded store: MLflow's SQLite file, with artefacts in a folder next to it. Imports no MLflow."""

from __future__ import annotations

import contextlib
import shlex
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlparse

from ..config.addresses import sqlite_uri
from .answers import Refused

#: The folder of artefacts next to the file.
ARTIFACTS = "mlartifacts"
#: Columns of MLflow's tables that contain absolute paths of artefacts.
LOCATIONS = (("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location"))


def artifacts_of(path: Path) -> Path:
    """The artefact folder of a store."""
    return path.resolve().parent / ARTIFACTS


def check(path: Path, schema: str | None = None) -> None:
    """Errors: Refused for a file that is not MLflow's store, or one with another `schema` than a given one.

    MLflow would turn the first into a store, and silently migrate an older one, which the MLflow that wrote it could
    then not open.
    """
    version: tuple[str] | None = None
    try:
        with contextlib.closing(_open(path)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if "alembic_version" in tables:
                version = database.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.DatabaseError as error:
        remedy = "Name another: tracking.uri=sqlite:///FILE"
        raise Refused(f"{path} is not a store of MLflow's: {error}. {remedy}") from error
    if tables and not tables >= {"alembic_version", "experiments", "runs"}:
        raise Refused(
            f"{path} is a database of another program ({', '.join(sorted(tables)[:3])}), and is left as it is. Name "
            "another file: tracking.uri=sqlite:///FILE"
        )
    if schema and version is not None and version[0] != schema:
        raise of_another_version(sqlite_uri(path))


def of_another_version(uri: str) -> Refused:
    """The message for a store that another version of MLflow wrote."""
    return Refused(
        f"{uri} was made by another version of MLflow than the one installed here. Of an older one: make a copy of it, "
        f"then: {shlex.join(['mlflow', 'db', 'upgrade', uri])}. Of a newer one: pip install -U mlflow"
    )


def follow_move(path: Path) -> None:
    """Update the paths of artefacts in a store that was moved together with them; MLflow would recreate the old folder.

    Nothing is changed if the old folder still exists, or if there is no such folder next to the store.
    """
    here = artifacts_of(path)
    if not here.is_dir():
        return
    with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(_open(path)) as database, database:
        for old in {root for (location,) in _locations(database) if (root := _root(location)) is not None}:
            if old == here.as_uri() or Path(unquote(urlparse(old).path)).exists():
                continue
            for table, column in LOCATIONS:
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                    (here.as_uri(), len(old) + 1, len(old) + 1, f"{old}/"),
                )


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=30)


def _locations(database: sqlite3.Connection) -> list[tuple[str]]:
    return database.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()


def _root(location: str) -> str | None:
    """The artefact folder in the path of an artefact; None if it does not have this layout."""
    root, separator, _ = (location or "").partition(f"/{ARTIFACTS}/")
    return f"{root}/{ARTIFACTS}" if separator and root.startswith("file://") else None

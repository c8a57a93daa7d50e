"""An embedded store: an SQLite file that MLflow keeps, with artefacts in a folder beside it. Imports no MLflow."""

from __future__ import annotations

import contextlib
import shlex
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlparse

from .answers import Refused

#: The folder of artefacts beside the file.
ARTIFACTS = "mlartifacts"
#: Where MLflow's tables have the absolute address of a folder of artefacts.
LOCATIONS = (("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location"))


def artifacts_of(path: Path) -> Path:
    """The folder that a store keeps artefacts in."""
    return path.resolve().parent / ARTIFACTS


def check(path: Path, schema: str) -> None:
    """Errors: Refused for a file that is not a store of MLflow's, which would become one, or one of another `schema`.

    MLflow would change an older one without a word, and the MLflow that wrote it could not open it any more.
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
    if version is not None and version[0] != schema:
        raise of_another_version(f"sqlite:///{path}")


def of_another_version(uri: str) -> Refused:
    """What is said of a store that another version of MLflow wrote."""
    return Refused(
        f"{uri} was made by another version of MLflow than the one installed here. Of an older one: make a copy of it, "
        f"then: {shlex.join(['mlflow', 'db', 'upgrade', uri])}. Of a newer one: pip install -U mlflow"
    )


def follow_move(path: Path) -> None:
    """Let the addresses of artefacts follow a store that was moved with them; MLflow would make the old folder again.

    Nothing is changed where the old folder still exists, or where no such folder stands beside the store.
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
    """The folder of artefacts in an address below it; None where it is not a folder of this layout."""
    root, separator, _ = (location or "").partition(f"/{ARTIFACTS}/")
    return f"{root}/{ARTIFACTS}" if separator and root.startswith("file://") else None

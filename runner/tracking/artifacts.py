"""The files that a store has of a run or a model, at a place that must belong to that run or model alone."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from .. import files
from ..errors import ForeignPath
from .answers import BYTES_PER_S, CALL_S, deadline

#: The form of MLflow's ids of runs and models.
IDENTITY = re.compile(r"(m-)?[0-9a-f]{32}")
#: Places that MLflow's client reaches with the tracking server's credentials, and those that stand for another place.
OWN, INDIRECT = ("mlflow-artifacts", "http", "https"), ("runs", "models")


class Artifacts:
    """The files of one run or model, accessed from this thread only, each call with a deadline.

    MLflow's client writes to whatever place a server names, and downloads in threads that a slow server never lets end.
    """

    def __init__(self, uri: str, location: str, identity: str) -> None:
        """Errors: ForeignPath for a place that does not belong to that run or model, or for an invalid id."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
        from mlflow.utils.uri import add_databricks_profile_info_to_artifact_uri

        refuse_foreign(uri, location, identity)
        location = add_databricks_profile_info_to_artifact_uri(location, uri)
        self._store: Any = get_artifact_repository(location, tracking_uri=uri)

    def send(self, path: Path, folder: str) -> None:
        """Upload a file, under its name, to a folder; empty: the top one."""
        with deadline(CALL_S + path.stat().st_size / BYTES_PER_S):
            self._store.log_artifact(str(path), folder or None)

    def send_folder(self, folder: Path, into: str = "") -> None:
        """Upload all regular files below a folder.

        Errors: ForeignPath if a link is among them; nothing is sent then.
        """
        for path in list(files.contents(folder)):
            self.send(path, "/".join(filter(None, (into, *path.parent.relative_to(folder).parts))))

    def send_named(self, directory: Path, name: str, folder: str) -> None:
        """Upload a file or folder of a run directory, if it still exists, to a folder.

        Names come from a journal, which somebody else may have written. Errors: ForeignPath for one that leads outside.
        """
        path = files.inside(directory, name)
        if folder:
            files.inside(directory, folder)
        if path.is_dir():
            self.send_folder(path, folder)
        elif path.is_file():
            self.send(path, folder)

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Path → bytes of the files in a folder."""
        with deadline(CALL_S):
            return {item.path: item.file_size or 0 for item in self._store.list_artifacts(folder or None)}

    def fetch(self, path: str, size: int, target: Path) -> None:
        """Download a file of about `size` bytes. Errors: OSError, also if there is no room for it."""
        if size > shutil.disk_usage(target.parent).free:
            raise OSError(f"{path} has {size:,} bytes, more than is free in {target.parent}")
        with deadline(CALL_S + size / BYTES_PER_S):
            self._store._download_file(path, str(target))


def refuse_foreign(uri: str, location: str, identity: str) -> None:
    """Refuse a place for a run's or model's files that is a folder of this machine, or a host, for other things.

    Errors: ForeignPath.
    """
    if not IDENTITY.fullmatch(identity):
        raise ForeignPath(f"{uri} names {identity!r}, which is the id of no run and no model. It is left alone.")
    place = urlparse(location)
    local = place.scheme in ("", "file") and identity not in Path(unquote(place.path)).parts
    elsewhere = place.scheme in OWN and place.netloc not in ("", urlparse(uri).netloc)
    if local or elsewhere or place.scheme in INDIRECT:
        raise ForeignPath(
            f"{uri} has the files of {identity} at {location}, which does not belong to that run alone. Nothing is "
            "sent there. Keep the experiment's artefacts on the server (mlflow server --serve-artifacts), or use "
            "another experiment: name=NAME"
        )

"""Where runs are sent: the addresses that this user trusts, and what each store has of a run.

An address is one of MLflow's URIs, or one of those in `config/tracking`. Imports no MLflow.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path
from typing import Any, cast

from .. import config as cfg
from .. import files, terminal
from ..config.addresses import sqlite_path, sqlite_uri
from ..config.tracking import CODE, FOLDER, RUN
from ..errors import ConfigError, Damaged
from ..runs.journal import MLFLOW, events, mark, tracked, tracked_file

#: Fields of a run's file that belong to one store; all others belong to the run.
OF_A_STORE = ("run_id", "experiment_id", "params_sent", "offset", "mark", "ended", "has_lost")


def folder_path(uri: str) -> Path | None:
    """The folder of an address; None if it is not a folder."""
    return Path(uri.removeprefix(FOLDER)) if uri.startswith(FOLDER) else None


def resolved(uri: str) -> str:
    """An address independent of the working directory."""
    if folder := folder_path(uri):
        return f"{FOLDER}{folder.resolve()}"
    path = sqlite_path(uri)
    options = uri.partition("?")[1:]
    return uri.rstrip("/") if path is None else sqlite_uri(path.resolve(), "".join(options))


def shown(uri: str, directory: str = "the run directory") -> str:
    """An address in its shortest form, for people."""
    if uri.startswith(RUN):
        return f"{directory}/{uri.removeprefix(RUN)}"
    return uri.removeprefix(FOLDER).removeprefix(CODE).partition("#")[0] if uri.startswith((FOLDER, CODE)) else uri


def remember(uri: str) -> None:
    """Remember that a command of this user sends runs to an address. If that cannot be stored, verbs need `--trust`."""
    if uri.startswith(RUN):
        return
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        path = _remembered()
        path.parent.mkdir(parents=True, exist_ok=True)
        if resolved(uri) not in _lines(path):
            with path.open("a", encoding="utf-8") as stream:
                stream.write(f"{resolved(uri)}\n")


def is_trusted(uri: str) -> bool:
    """Whether a command of this user has sent runs to an address.

    Always true for the default store of this working directory, and within the run directory itself.
    """
    if uri.startswith(RUN) or resolved(uri) == resolved(cfg.Mlflow.uri):
        return True
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        return resolved(uri) in _lines(_remembered())
    return False


def require_trust(directory: Path, uri: str, tracker: str = MLFLOW) -> None:
    """Refuse to send a run to an address that only the run itself names. Errors: ConfigError."""
    if is_trusted(uri):
        return
    if tracker != MLFLOW:
        what = "the code" if uri.startswith(CODE) else "the folder"
        raise ConfigError(
            f"{os.path.relpath(directory)} names {what} {shown(uri)} for its tracker '{tracker}', to which no command "
            "of yours has sent anything. If it is yours, confirm it: "
            f"{terminal.command('sync', terminal.place(directory), '--trust')}"
        )
    raise ConfigError(
        f"{os.path.relpath(directory)} names the store {uri}, to which no command of yours has sent anything. If "
        f"it is yours, confirm it: {terminal.command('sync', terminal.place(directory), '--uri', uri)}"
    )


def _remembered() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "runner" / "stores"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


class Delivery:
    """What is known of a run in its store: the file `mlflow.json`, or that of another tracker. Only this class uses it.

    A run is identified by a key that it gets at first. A directory that was copied while the first one still exists is
    another run; one that was moved is the same run.
    """

    def __init__(self, directory: Path, tracker: str = MLFLOW) -> None:
        self.directory, self.tracker = directory, tracker
        # Its fields are taken and put back by their names.
        self.values = cast("dict[str, Any]", tracked(directory, tracker))
        home = self.values.get("home")
        here = str(directory.resolve())
        if home not in (None, here) and self._is_copy_of(Path(home)):
            # Otherwise MLflow would merge the two runs.
            self.values = {name: self.values[name] for name in ("own", "said") if name in self.values}
        self.moved = home not in (None, here)
        self.values["home"] = here
        if "key" not in self.values:
            self.values["key"] = uuid.uuid4().hex

    def _is_copy_of(self, other: Path) -> bool:
        """Whether another directory is this run too, and not this directory under another path."""
        with contextlib.suppress(OSError, ValueError, Damaged):
            return tracked(other, self.tracker).get("key") == self.values.get("key") and not other.samefile(
                self.directory
            )
        return False

    @property
    def uri(self) -> str | None:
        """The store that the run was last sent to; None before that."""
        return self.values.get("uri")

    def trained_into(self, address: str) -> str:
        """The store of a command that trains this run with this `tracking.uri`.

        The same address means the same store, from whatever directory the command is started, and also if the run was
        moved together with its store.
        """
        own = self._own(address)
        return self._keep(address, own if is_trusted(own) else resolved(address))

    def sent_into(self, address: str) -> str:
        """The store for a command that was given only the run: the one it was trained into, and no other.

        Errors: ConfigError for one that only the run names.
        """
        own = self._own(address)
        require_trust(self.directory, own, self.tracker)
        return self._keep(address, own)

    def _own(self, address: str) -> str:
        own = self.values.get("own") if self.values.get("said") == address else None
        # A file of the run must not decide which code is imported.
        if not isinstance(own, str) or address.startswith((RUN, CODE)):
            return resolved(address)
        return self._moved_with(own) if self.moved else own

    def _keep(self, address: str, own: str) -> str:
        path = sqlite_path(own) or folder_path(own)
        beside = os.path.relpath(path, self.directory.resolve()) if path else None
        self.values |= {"said": address, "own": own, "beside": beside}
        return self.switch_to(own)

    def _moved_with(self, own: str) -> str:
        """The new place of a store that was moved with the run, if it is trusted."""
        path, beside = sqlite_path(own) or folder_path(own), self.values.get("beside")
        if path is not None and not path.exists() and isinstance(beside, str):
            place = Path(os.path.normpath(self.directory.resolve() / beside))
            moved = f"{FOLDER}{place}" if folder_path(own) else sqlite_uri(place)
            if place.exists() and is_trusted(moved):
                if self.uri == own:
                    self.values["uri"] = moved
                return moved
        return own

    def switch_to(self, uri: str) -> str:
        """Send the run to this store from now on; what is known of the previous one is kept for its return."""
        uri = resolved(uri)
        if uri != self.uri:
            others = dict(self.values.get("others", {}))
            if self.uri is not None:
                others[self.uri] = {name: self.values.pop(name) for name in OF_A_STORE if name in self.values}
            self.values |= {**others.pop(uri, {}), "uri": uri, "others": others}
        self.write()
        return uri

    def reset(self) -> None:
        """Start over in the current store, which has lost the run."""
        for name in OF_A_STORE:
            self.values.pop(name, None)
        self.write()

    @property
    def behind(self) -> bool:
        """Whether the journal is ahead of the store."""
        return next(events(self.directory, self.values.get("offset", 0)), None) is not None

    @property
    def is_of_another_journal(self) -> bool:
        """Whether the journal was cut by a power failure after it was read, and continued differently."""
        return "offset" in self.values and self.values.get("mark") != mark(self.directory, self.values["offset"])

    def read_to(self, offset: int) -> None:
        """Note how far the journal was delivered."""
        self.update(offset=offset, mark=mark(self.directory, offset))

    def update(self, **values: Any) -> None:
        """Change fields, and write them to the disk."""
        self.values |= values
        self.write()

    def write(self) -> None:
        """Write the file to the disk."""
        files.write_json(self.directory / tracked_file(self.tracker), self.values)

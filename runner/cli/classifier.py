"""The classifier of a run: its trained network, or an exported file in an engine."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from .. import device
from ..config import store
from ..config.rules import network_names
from ..deploy import engines, manifest
from ..errors import ConfigError, nearest
from ..files import refuse_links
from ..runs.journal import CONFIG
from ..tracking import lookup
from .open_run import open_run, uri_of

if TYPE_CHECKING:
    from ..deploy.predict import Classifier

#: The override that names a network, also of exported files.
NETWORK = "deploy.network="


def classifier_of(run: str, overrides: list[str], engine: str | None, network: str | None) -> Classifier:
    """The trained network, or an exported file if an engine or an export folder was named. Errors: CheckpointError,
    …"""
    if engine is not None and engine not in engines.INSTALL:
        raise ConfigError(
            f"engine={engine!r}: it is one of {', '.join(engines.INSTALL)}.{nearest(engine, engines.INSTALL)}"
        )
    folder = Path(run)
    if network is not None and (folder / CONFIG).is_file():
        _require_network(folder, network)
    exported = folder if (folder / manifest.MANIFEST).is_file() else folder / manifest.EXPORT
    if not engine and ((folder / CONFIG).is_file() or not (exported / manifest.MANIFEST).is_file()):
        directory, config = open_run(run, overrides)
        from ..worker import finished

        return finished.classifier(directory, config, network or config.deploy.network)
    exported = _exported(run, overrides, network)
    refuse_links(exported)
    from ..deploy import predict

    described = manifest.read(exported)
    file = described.of_engine(engine, exported) if engine else described.file()
    if file.engine == "paddle":
        with contextlib.suppress(ImportError):
            device.load_paddle(None)
    return predict.Deployed(exported, engine=engine)


def _exported(run: str, overrides: list[str], network: str | None) -> Path:
    """The folder of a network's export. Errors: CheckpointError; ConfigError for overrides that change no choice of
    it."""
    uri, others = uri_of(overrides)
    if unknown := [text for text in others if not text.startswith(NETWORK)]:
        raise ConfigError(f"{unknown[0]}: an exported file has no config. Remove it.")
    network = network or next((text.removeprefix(NETWORK) for text in others), None)
    places = [place for place in (Path(run), Path(run) / manifest.EXPORT) if (place / manifest.MANIFEST).is_file()]
    own = places[0] if places else lookup.directory_of(run, uri) / manifest.EXPORT
    exported = _of_network(own, network)
    if not (exported / manifest.MANIFEST).is_file():
        raise lookup.no_export(run, own.parent, uri, network)
    return exported


def _of_network(exported: Path, network: str | None) -> Path:
    """The folder of `export --network`, or the run's own export if it is of this network."""
    if network is None or ((exported / manifest.MANIFEST).is_file() and manifest.read(exported).network == network):
        return exported
    other = exported.parent / network / manifest.EXPORT
    if (exported.parent / CONFIG).is_file():
        _require_network(exported.parent, network)
    elif Path(network).name != network or not (other / manifest.MANIFEST).is_file():
        own = manifest.read(exported).network
        raise ConfigError(f"{exported} has no network '{network}'. It has: {own}")
    return other


def _require_network(directory: Path, network: str) -> None:
    """Errors: ConfigError for a network that the run does not train."""
    names = network_names(store.read(directory / CONFIG).mode)
    if network not in names:
        raise ConfigError(f"{directory} has no network '{network}'. It has: {', '.join(names)}")

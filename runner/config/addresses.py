"""Addresses of MLflow's stores (tracking URIs): which can be used, and the file of an embedded one."""

from __future__ import annotations

import functools
import re
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..errors import ConfigError, nearest
from .credentials import masked

SQLITE = "sqlite:///"
#: What most users write before an address; some verbs have an option for it.
KEY = "tracking.uri="
#: Schemes of stores in a database that a server keeps.
DATABASES = ("postgresql", "mysql", "mssql")
#: Names that are an address as they are: profiles of Databricks.
PROFILES = ("databricks", "databricks-uc", "uc")
#: Schemes that MLflow itself supports; plugins add others.
SCHEMES = ("http", "https", "sqlite", *DATABASES, *PROFILES)


@functools.cache
def _has_escapes() -> bool:
    """Whether the installed SQLAlchemy reads `%41` in the path of a file as `A`: from 2.1 on."""
    major, minor = metadata.version("sqlalchemy").split(".")[:2]
    return (int(major), int(minor)) >= (2, 1)


def sqlite_path(uri: str) -> Path | None:
    """The file of an embedded store, with `%41` as SQLAlchemy reads it; None for a server."""
    if not uri.startswith(SQLITE):
        return None
    path = uri.removeprefix(SQLITE).partition("?")[0]
    return Path(unquote(path) if _has_escapes() else path)


def sqlite_uri(path: Path, options: str = "") -> str:
    """The address of an embedded store whose `sqlite_path` is this, with its options (`?…`).

    Errors: ConfigError for a path that has none.
    """
    if _has_escapes():
        # A `%` that no digits follow stays: MLflow makes the folder of an address as it is written.
        escaped = re.sub("%(?=[0-9A-Fa-f]{2})", "%25", str(path)).replace("?", "%3F")
    elif "?" in (escaped := str(path)):
        raise ConfigError(
            f"{path}: the path of an MLflow store has a '?', which begins the options of its address for SQLAlchemy "
            "before 2.1. Use a folder without one, or: pip install 'sqlalchemy>=2.1' (Python 3.11 and later)"
        )
    return f"{SQLITE}{escaped}{options}"


def require_address(uri: str, key: str = KEY) -> None:
    """Refuse an address that no machine can send to; `key` is what the user wrote before it. Errors: ConfigError."""
    if problem := _problem(uri, key):
        raise ConfigError(f"{key}{masked(uri)}: {problem}")


def require_store(uri: str, key: str = KEY) -> None:
    """Refuse an address that this machine cannot send to: as `require_address`, or its database's driver is missing.

    Errors: ConfigError.
    """
    require_address(uri, key)
    if uri.partition("://")[0].partition("+")[0] not in DATABASES:
        return
    try:
        # The package is MLflow's.
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{key}{masked(uri)} needs SQLAlchemy, which is not installed: pip install sqlalchemy"
        ) from error
    try:
        make_url(uri).get_dialect().import_dbapi()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise ConfigError(f"{key}{masked(uri)}: {masked(str(error))}. Write SCHEME://HOST/DATABASE") from error
    except ImportError as error:
        raise ConfigError(
            f"{key}{masked(uri)} needs the database's driver, {error.name or error}, which is not installed: "
            "pip install it, or name another after the scheme, such as postgresql+psycopg2://HOST/DATABASE"
        ) from error


def _problem(uri: str, key: str) -> str | None:
    """Why nothing can be sent to an address."""
    scheme, separator, rest = uri.partition("://")
    if uri.partition(":")[0] in PROFILES:
        return None
    # MLflow 3 no longer supports plain folders.
    if not separator or not re.fullmatch(r"(?!file$)[a-z][a-z0-9.-]*(\+[a-z0-9_]+)?", scheme):
        file = masked(uri) if not separator and Path(uri).suffix else "outputs/mlflow.db"
        return f"MLflow keeps runs in a database or on a server, such as {key}{SQLITE}{file} or {key}http://HOST:5000"
    store = scheme.partition("+")[0]
    if store == "sqlite":
        return _embedded_problem(uri)
    if store in ("http", "https", *DATABASES):
        return _server_problem(uri, store)
    if store not in SCHEMES and not metadata.entry_points(group="mlflow.tracking_store", name=store):
        return (
            f"MLflow has no store {store}://.{nearest(store, SCHEMES)} Valid: {', '.join(SCHEMES)}, and those of "
            "MLflow's plugins that are installed"
        )
    return None if rest else f"it names no place. Write {store}://PLACE"


def _embedded_problem(uri: str) -> str | None:
    path = sqlite_path(uri)
    is_file = path is not None and path.name and not path.parts[0].startswith((":memory:", "file:"))
    if not is_file or uri.partition("?")[0].endswith("/"):
        return "it is not sqlite:///FILE, or sqlite:////FOLDER/FILE for an absolute path"
    return None


def _server_problem(uri: str, store: str) -> str | None:
    is_web = store in ("http", "https")
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        # Its text may have a part of the password.
        return f"its host or port cannot be read. Write {store}://HOST:PORT, where a port is 1 to 65535"
    if port == 0 or (parts.netloc and not re.fullmatch(r"[\w.:\[\]%~-]*", parts.netloc.rpartition("@")[2])):
        return f"there is no such host or port. Write {store}://HOST:PORT, where a port is 1 to 65535"
    if is_web and (not parts.hostname or "+" in parts.scheme):
        return "it names no host. Write http://HOST:5000"
    if is_web and (parts.query or parts.fragment):
        return "it is a page of a server. Name the server itself, without what follows ? or #"
    return None

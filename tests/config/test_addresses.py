"""Which addresses of stores can be used, and which file an embedded one is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from runner.config.addresses import _has_escapes, require_address, require_store, sqlite_path, sqlite_uri
from runner.errors import ConfigError

REFUSED = {
    "http://": "names no host",
    "http:///path": "names no host",
    "http://h:99999": "1 to 65535",
    "http://h:0": "1 to 65535",
    "http://h:port": "1 to 65535",
    "http://[::1": "1 to 65535",
    "http://a b": "1 to 65535",
    "http+x://h": "names no host",
    "http://h:5000/#/experiments/1": "a page of a server",
    "http://h:5000/?a=1": "a page of a server",
    "postgresql://h:99999/d": "1 to 65535",
    "sqlite://": "sqlite:///FILE",
    "sqlite:///": "sqlite:///FILE",
    "sqlite:///folder/": "sqlite:///FILE",
    "sqlite:///:memory:": "sqlite:///FILE",
    "sqlite:///file:x.db?uri=true": "sqlite:///FILE",
    "sqlite://host/x.db": "sqlite:///FILE",
    "sqlite+other:///x.db": "sqlite:///FILE",
    "nope://x": "no store nope://",
    "file:///runs": "in a database or on a server",
    "runs": "in a database or on a server",
    "": "in a database or on a server",
}


@pytest.mark.parametrize("uri", REFUSED)
def test_an_address_that_no_machine_can_send_to_is_refused(uri):
    with pytest.raises(ConfigError, match=REFUSED[uri]) as refused:
        require_address(uri)
    assert str(refused.value).startswith(f"tracking.uri={uri}: ")


@pytest.mark.parametrize(
    "uri",
    [
        "http://host", "http://host:5000/", "https://host.example/prefix", "http://[::1]:5000", "http://hôte:80",
        "sqlite:///outputs/mlflow.db", "sqlite:////srv/a b.db", "postgresql:///d", "postgresql+psycopg2://h:5432/d",
        "databricks", "databricks://profile", "databricks-uc", "uc:http://host:8080",
    ],
)  # fmt: skip
def test_an_address_that_can_be_used_is_taken(uri):
    require_address(uri)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("postgresql+pg8000://h/d", "driver, pg8000, which is not installed: pip install"),
        ("mysql+nope://h/d", "mysql.nope"),
    ],
)
def test_a_database_whose_driver_is_not_installed_is_refused(uri, message):
    with pytest.raises(ConfigError, match=message):
        require_store(uri)


@given(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1).filter(
        lambda s: s.strip(".")
    )
)
def test_an_embedded_store_is_the_same_file_here_and_in_sqlalchemy(name):
    path = Path("/folder") / name
    if "?" in name and not _has_escapes():
        with pytest.raises(ConfigError, match="has a '\\?'"):
            sqlite_uri(path)
        return
    assert sqlite_path(sqlite_uri(path)) == path
    assert make_url(sqlite_uri(path)).database == str(path)


def test_percent_escapes_of_an_address_are_read_as_sqlalchemy_reads_them():
    for uri in ("sqlite:///%41.db", "sqlite:///a%20b.db?timeout=3", "sqlite:///100%/x.db"):
        assert str(sqlite_path(uri)) == make_url(uri).database

"""RUN where it is not here: what verbs answer, and whether it can be followed."""

from __future__ import annotations

import shlex

import pytest
from PIL import Image

from runner.cli.compose import config_of
from runner.config import store
from runner.runs.journal import CONFIG
from runner.tracking import server

#: The form of an MLflow run id.
RUN = "0123456789abcdef" * 2
#: Verbs that read exported files → what they are called with after the run, and what names another store.
VERBS = {
    "predict": (["picture.png", "--engine", "onnxruntime"], "tracking.uri="),
    "serve": ([], "--uri "),
    "bench": ([], "--uri "),
}


@pytest.fixture
def place(tmp_path):
    """A folder with a picture."""
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    return tmp_path


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_looks_in_the_store_that_its_own_message_names(verb, place, here):
    more, key = VERBS[verb]
    done = here(verb, RUN, *more, cwd=place)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.strip().endswith(f"the store outputs/mlflow.db exists. Name another store: {key}URI")
    done = here(verb, RUN, *more, *shlex.split(f"{key}sqlite:///other.db"), cwd=place)
    assert done.returncode == 3
    assert "the store other.db exists" in done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_an_address_where_no_store_is_is_refused_as_it_was_written(verb, place, here):
    more, key = VERBS[verb]
    done = here(verb, RUN, *more, *shlex.split(f"{key}http://"), cwd=place)
    assert done.returncode == 2
    assert f"{key}http://: it names no host" in done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_a_store_without_the_run_is_answered_with_what_names_another(verb, finished, place, here):
    more, key = VERBS[verb]
    store_of_another = shlex.split(f"{key}sqlite:///{finished}/outputs/mlflow.db")
    done = here(verb, RUN, *more, *store_of_another, cwd=place)
    assert done.returncode == 3
    assert done.stderr.strip().endswith(f"Name another store: {key}URI")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("uri", [None, "sqlite:///other.db"])
def test_a_run_that_mlflow_alone_has_is_exported_into_a_folder_that_stays(verb, uri, place, here, monkeypatch):
    fetched = place / "runner-01234567-temporary"
    fetched.mkdir()
    store.write(config_of([]), fetched / CONFIG)
    monkeypatch.setattr(server, "fetch", lambda *_arguments: fetched)
    more, key = VERBS[verb]
    done = here(verb, RUN, *more, *(shlex.split(f"{key}{uri}") if uri else []), cwd=place)
    assert done.returncode == 3
    where = f" tracking.uri={uri}" if uri else ""
    assert f": python -m runner export {RUN}{where} --output DIR" in done.stderr
    assert "temporary" not in done.stderr

"""The page of MLflow's names has everything that a run sends."""

from __future__ import annotations

import re

import pytest

from tests.conftest import TINY, run_command
from tests.docs.pages import ROOT
from tests.e2e.processes import mlflow_runs

#: What stands for a part of a name in the page.
PLACES = {"<network>": r"student1?", "<k>": r"\d+", r"\*": r".+", "…": r".+"}


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sent")
    tiny = [
        *TINY[1:3],
        "deploy.bench_s=0.01",
        "data.limit=120",
        "train.epochs=1",
        "schedule=constant",
        "train.log_every=1",
    ]
    more = [
        "mode=cls_distill_multiopt",
        "mimic.ramp.epochs=1",
        "compression=qat",
        "data.batch_size=32",
        "train.explain=true",
    ]
    done = run_command(*tiny, *more, "hydra.run.dir=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    client, [run] = mlflow_runs(f"sqlite:///{folder}/outputs/mlflow.db")
    files = []

    def walk(place):
        for item in client.list_artifacts(run.info.run_id, place):
            walk(item.path) if item.is_dir else files.append(item.path)

    walk("")
    return run, files


def patterns(heading):
    """The names under a heading of the page, as regular expressions."""
    page = (ROOT / "docs" / "mlflow.md").read_text()
    section = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    names = [
        name for row in re.findall(r"^\| (.+?) \|", section, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)
    ]
    found = []
    for name in names:
        escaped = re.escape(name)
        for place, pattern in PLACES.items():
            escaped = escaped.replace(re.escape(place) if place[0] != "\\" else re.escape("*"), pattern)
        found.append(escaped)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("heading", ["Metrics", "Tags", "Artefacts"])
def test_everything_that_is_sent_is_in_the_page(sent, heading):
    run, files = sent
    names = {"Metrics": run.data.metrics, "Tags": run.data.tags, "Artefacts": files}[heading]
    known = patterns(heading)
    assert known
    checkpoint = {"Artefacts": "(/.+)?"}.get(heading, "")
    missing = [name for name in names if not any(re.fullmatch(one + checkpoint, name) for one in known)]
    assert not missing


@pytest.mark.slow
@pytest.mark.parametrize("heading", ["Metrics", "Artefacts"])
def test_everything_in_the_page_is_sent(sent, heading):
    """But what only other modes, networks or settings have."""
    run, files = sent
    names = {"Metrics": run.data.metrics, "Artefacts": files}[heading]
    others = (
        "mimic/pair|mimic/<name>|trainable_params|loss/features|weight/features|checkpoints/(last|final)|unreadable|"
        "system"
    )
    missing = [one for one in patterns(heading) if not any(re.match(one, name) for name in names)]
    assert not [one for one in missing if not re.search(others, one)]


@pytest.mark.slow
def test_parameters_are_the_leaves_and_the_choices(sent):
    run, _ = sent
    assert run.data.params["mode"] == "cls_distill_multiopt"
    assert run.data.params["optimizer"] == "adamw"
    assert run.data.params["model"] == "mobilenet_v3_small_x0_35"
    assert run.data.params["augment.flip"] == "False"
    assert not [name for name in run.data.params if re.fullmatch(r"\w+\.kind", name)]

"""Every command in the documentation is tried: verbs run, trainings compose, everything else is there."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from examples import real_sets
from runner.__main__ import VERBS
from runner.__main__ import command as run_here
from runner.cli import compose, sweep
from runner.cli.overrides import readable
from tests.conftest import run_command
from tests.data.pictures import write_set
from tests.docs.pages import PAGES, ROOT, commands, words

#: Beginning of a command → where it is tried instead, or why it cannot be.
ELSEWHERE = {
    "python -m runner ui": "tests/e2e/test_mlflow_pages.py serves it",
    "python -m paddle.distributed.launch": "tests/e2e/test_ranks.py launches it",
    "curl --data-binary": "tests/deploy/test_http.py asks it",
    "python -m runner migrate outputs": "tests/checkpoints/test_migration.py migrates runs",
    "python -m runner serve": "tests/deploy/test_http.py asks it",
    "mlflow models serve": "tests/deploy/test_serving.py serves it",
    "curl http://127.0.0.1:5001/invocations": "tests/deploy/test_serving.py asks it",
    "python -m runner eval RUN data.root=OTHER": "tests/cli/verbs/test_eval.py measures other folders",
    "python examples/client.py": "tests/deploy/test_client.py classifies with it",
    "python -m runner models 'mobilenet_v3_small_x0*' --latency": "tests/cli/verbs/test_models.py measures one network",
    "srun": "tests/e2e/test_slurm.py has a SLURM of its own",
    "sbatch": "tests/e2e/test_slurm.py has a SLURM of its own",
    "pip install": "what `make test` does; GPU wheels need a GPU",
    "git clone": "how the tests came here",
    "export": "sets a variable for the commands below it",
    ". .venv/bin/activate": "changes the reader's shell",
}
ALL = [(page.name, line) for page in PAGES for line in commands(page)]
#: Each command once, with the first page that has it.
ONCE = {line: page for page, line in reversed(ALL)}


def test_there_are_commands_in_the_pages():
    assert len(ALL) > 60


#: Verbs that take seconds; their own tests try them in the fast suite.
SLOW = tuple(f"python -m runner {verb}" for verb in ("bench", "doctor", "export", "lr", "predict"))


@pytest.mark.parametrize(
    ("line", "page"),
    [pytest.param(*case, marks=[pytest.mark.slow] if case[0].startswith(SLOW) else []) for case in ONCE.items()],
)
def test_a_command_is_one_that_works(line, page, finished, tmp_path, monkeypatch, capsys):
    if any(line.startswith(begin) for begin in ELSEWHERE):
        return
    match words(line):
        case ["python", "-m", "runner", verb, *rest] if verb in VERBS:
            monkeypatch.chdir(finished)
            run_verb(verb, rest, tmp_path)
        case ["python", "-m", "runner", *overrides]:
            monkeypatch.chdir(tmp_path)
            compose_run(overrides)
        case ["python", "-m", module, *_]:
            assert importlib.util.find_spec(module), module
        case ["make", target, *_]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        case ["pytest", *paths]:
            assert [path for path in paths if path.startswith("tests")]
            assert all((ROOT / path).exists() for path in paths if path.startswith("tests"))
        case _:
            raise AssertionError(f"{page}: nobody tries `{line}`")


def run_verb(verb, rest, folder):
    """Run a verb on a finished run; RUN and names of files become real ones."""
    Image.new("L", (32, 32)).save(folder / "photo.png")
    real = {"RUN": "run", "RUN…": "run", "RUN_DIR": "run", "outputs/first": "run", "outputs/int8": "run"}
    real |= {"outputs/photos": "run", "outputs/photos-int8": "run"}
    given = [real.get(word, word) for word in rest]
    given = [str(folder / "photo.png") if word.endswith((".png", ".jpg")) else word for word in given]
    given = [str(folder) if word in ("folder", "photos/") else word for word in given]
    if verb in ("bench", "predict") and not Path("run/export/model.onnx").exists():
        assert run_here(["export", "run", "--format", "onnx"]) == 0
    if verb == "bench":
        given += ["--seconds", "0.01"]
    if verb == "export" and "--format" not in given:
        # The run that these are tried on exports nothing by itself.
        given += ["--format", "onnx"]
    if verb == "report":
        given += ["--output", str(folder / "report.html")]
    if verb == "explain":
        given += ["--output", str(folder / "explain.html")]
    if verb == "lr":
        given += [
            "model=mobilenet_v3_small_x0_35",
            "data.limit=64",
            "--steps",
            "10",
            "--output",
            str(folder / "lr.html"),
        ]
    if verb == "data":
        write_set(folder / "photos")
        given = [word.replace("data.root=DIR", f"data.root={folder}/photos") for word in given]
        given += ["--output", str(folder / "data.html")]
    if "student1" in given:
        # The finished run has one network: the message names it.
        assert run_here([verb, *given]) == 2
        return
    assert run_here([verb, *given]) == 0


def compose_run(overrides):
    """Compose what would be trained; of a sweep, plan it."""
    if "-m" in overrides:
        compose.register()
        Path("RUN").mkdir()
        planned = [word for word in overrides if word != "-m"]
        _, planned_sweep, *_ = sweep.plan_sweep(planned)
        begins = ("+sweep/optuna=", "experiment=search/")
        assert any("," in word or "range(" in word or word.startswith(begins) for word in planned_sweep.overrides)
        return
    compose.config_of([readable(text, sweeps=False) for text in overrides])


@pytest.mark.slow
def test_the_tutorial_leads_to_served_integers(tmp_path):
    """Its commands as they are, made short, one after another in one folder."""
    short = ["+debug=fast_dev_run", "train.threads=1", "deploy.bench_s=0.01"]
    Image.new("L", (32, 32)).save(tmp_path / "digit.png")
    done = []
    for line in commands(ROOT / "docs" / "tutorial.md"):
        if any(line.startswith(begin) for begin in ELSEWHERE):
            continue
        given = words(line)
        given = words(given[2].removeprefix("ARGS=")) if given[0] == "make" else given[3:]
        verb = given[0] in VERBS
        result = run_command(*given, *([] if verb else short), cwd=tmp_path, timeout=300)
        assert result.returncode == 0, result.stderr + result.stdout
        done.append(result.stdout)
    assert len(done) >= 5
    [report] = (tmp_path / "outputs" / "six" / "sweeps").rglob("report.html")
    assert report.read_text().count("<tr data-run=") == 6
    manifest = json.loads((tmp_path / "outputs" / "int8" / "export" / "model.json").read_text())
    assert any(file["precision"] == "int8" for file in manifest["files"])
    assert len(commands(ROOT / "docs" / "tutorial.md")) <= 10


@pytest.mark.slow
def test_the_page_of_photos_leads_to_integers_that_were_fine_tuned(tmp_path):
    """Its commands one after another, on pictures of two classes that were made here, with the weights it names."""
    try:
        weights = real_sets.efficientnet_lite0()
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"the weights cannot be fetched: {error}")
    (write_set(tmp_path / "set", each=16) / "train").rename(tmp_path / "my photos")
    Image.new("RGB", (50, 40)).save(tmp_path / "photo.jpg")
    short = ["+debug=fast_dev_run", "train.threads=1", "deploy.bench_s=0.01", "data.image_size=64", "tracking=none"]
    lines = commands(ROOT / "docs" / "photos.md")
    assert len(lines) <= 10
    for line in lines:
        if any(line.startswith(begin) for begin in ELSEWHERE):
            continue
        given = [
            word.replace("=DIR", f"='{tmp_path}/my photos'").replace("=imagenet", f"='{weights}'")
            for word in words(line)[3:]
        ]
        sizes = {"data": short[3:4]}.get(given[0], [] if given[0] in VERBS else short)
        result = run_command(*given, *sizes, cwd=tmp_path, timeout=300)
        assert result.returncode == 0, (given, result.stderr + result.stdout)
    described = json.loads((tmp_path / "outputs" / "photos-int8" / "export" / "model.json").read_text())
    assert described["recommended"] == "model.int8.onnx"
    assert (tmp_path / "outputs" / "photos" / "report.html").is_file()

"""A verb on a damaged run, in a forked child: Paddle and MLflow are imported once."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import shutil
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import run_command

from .kinds import DAMAGES, SECRET

COMPOSITION = [
    "+debug=fast_dev_run", "model=mobilenet_v3_small_x0_35", "train.threads=1", "compression=ptq",
    "deploy.formats=[onnx]", "deploy.bench_s=0.01", "launch.inline=true",
]  # fmt: skip
#: Verb → its arguments in a folder with the runs `run`, which is damaged, and `other`.
VERBS = {
    "runs": ["runs", ".", "--json"],
    "report": ["report", "run", "other", "--output", "page.html"],
    "sync": ["sync", "."],
    "eval": ["eval", "run", "--json"],
    "predict": ["predict", "run", "picture.png", "--json"],
    "export": ["export", "run", "--format", "safetensors"],
    "bench": ["bench", "run", "--seconds", "0.001", "--batch", "1"],
    "resume": [
        *COMPOSITION, "hydra.run.dir=run", "checkpoint.resume=auto", "train.max_steps=3", "deploy.formats=[]",
        "tracking=none", "train.plots=false",
    ],
    "init_from": [
        *COMPOSITION, "hydra.run.dir=new", "checkpoint.init_from=run", "deploy.formats=[]", "compression=none",
        "tracking=none", "train.plots=false",
    ],
}  # fmt: skip
#: Verbs that train → the run with their result.
TRAINED = {"resume": "run", "init_from": "new"}
#: Files whose content no verb reads: what stands in their place can matter, what they hold cannot.
UNREAD = re.compile(r"plots/.*|ranks/.*|train\.log|environment\.json|compression\.json")
IN_PLACE = ("empty", "folder", "pipe", "link outside", "missing")
#: Codes that a command may end with when a run is damaged: done, bad config, bad data, a server that misses something.
CODES = {0, 2, 3, 5}
#: Seconds after which a verb hangs.
PATIENCE = 120


@dataclass(frozen=True)
class Case:
    """One file, what happens to it, and what is done then."""

    file: str
    damage: str
    verb: str


@dataclass
class Answer:
    """What a command ended with and said."""

    code: int
    out: str
    err: str


def fixture(folder: Path) -> None:
    """A folder `whole` with two complete runs and the store that has them, and a secret beside it."""
    whole = folder / "whole"
    whole.mkdir()
    (folder / "secret").write_text(SECRET)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(whole / "picture.png")
    # A process of its own waits until everything is delivered.
    done = run_command(*COMPOSITION, "hydra.run.dir=run", cwd=whole, timeout=300)
    assert done.returncode == 0, done.stderr
    shutil.copytree(whole / "run", whole / "other")


def files(folder: Path) -> list[str]:
    """Every file of the run that is damaged."""
    run = folder / "whole" / "run"
    return sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())


def all_cases(folder: Path) -> list[Case]:
    """Every file, what can happen to it, and every verb."""
    return [
        Case(file, damage, verb)
        for file, damage, verb in itertools.product(files(folder), DAMAGES, VERBS)
        if damage in IN_PLACE or not UNREAD.fullmatch(file)
    ]


def command(arguments: list[str], folder: Path) -> Answer:
    """Do what `python -m runner` does in a folder, in a child of this process. A traceback has the code 70."""
    said = folder.parent / f"{folder.name}.said"
    child = os.fork()
    if not child:
        _in_child(arguments, folder, said)
    end = time.monotonic() + PATIENCE
    while (waited := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Answer(71, "", f"hung for {PATIENCE} s")
        time.sleep(0.01)
    code = os.waitstatus_to_exitcode(waited[1])
    out, err = json.loads(said.read_text()) if said.is_file() else ["", f"ended with {code}"]
    said.unlink(missing_ok=True)
    return Answer(code, out, err)


def _in_child(arguments: list[str], folder: Path, said: Path) -> None:
    code, out, err = 70, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            os.chdir(folder)
            sys.argv = ["runner", *arguments]
            from runner.__main__ import command

            code = command(arguments)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 70
        except BaseException:
            traceback.print_exc(file=err)
    said.write_text(json.dumps([out.getvalue(), err.getvalue()]))
    os._exit(code)


def whole_answers(folder: Path) -> dict[str, Answer]:
    """What the verbs say of runs that are whole."""
    return {verb: _done(folder, folder / f"of-{verb}", verb) for verb in ("eval", "predict", *TRAINED)}


def _done(folder: Path, place: Path, verb: str, file: str = "", damage: str = "") -> Answer:
    # The runs know their store by its absolute path, and so do copies.
    shutil.copytree(folder / "whole", place, ignore=shutil.ignore_patterns("outputs"))
    try:
        if damage:
            DAMAGES[damage](place / "run" / file)
        answer = command(VERBS[verb], place)
        if verb == "report" and answer.code == 0:
            answer.out += (place / "page.md").read_text()
        if verb in TRAINED and answer.code == 0:
            # What it printed holds times.
            answer.out = json.dumps(json.loads((place / TRAINED[verb] / "result.json").read_text())["test"])
        return answer
    finally:
        shutil.rmtree(place)


def defect(folder: Path, case: Case, whole: dict[str, Answer]) -> str:
    """What is wrong with how a verb took the damage; empty where nothing is."""
    answer = _done(folder, folder / f"case-{os.getpid()}", case.verb, case.file, case.damage)
    if "Traceback" in answer.err or answer.code not in CODES:
        last = (answer.err.strip().splitlines() or answer.out.strip().splitlines() or [""])[-1]
        return f"traceback or code {answer.code}: {last[:300]}"
    if SECRET in answer.out + answer.err or (folder / "secret").read_text() != SECRET:
        return "read or wrote outside of the run"
    if answer.code and not answer.err.strip() and not answer.out.strip():
        return "failed without a word"
    if case.verb in whole and answer.code == 0 and answer.out != whole[case.verb].out:
        said = set(answer.err.splitlines()) - set(whole[case.verb].err.splitlines())
        return "" if said else "another result without a word"
    if case.verb == "runs" and not {'"run": "run"', '"run": "other"'} <= _rows(answer.out):
        return "lost from the list"
    if case.verb == "report" and (answer.code or "run" not in answer.out or "other" not in answer.out):
        return "lost from the report"
    if case.verb == "sync" and "other:" not in answer.out:
        return "the other run was not looked at"
    return ""


def _rows(out: str) -> set[str]:
    return {f'"run": "{json.loads(line)["run"]}"' for line in out.splitlines() if line.startswith("{")}

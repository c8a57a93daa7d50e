"""Runs where a container, a cluster or a project is not as a developer's machine is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import TINY
from tests.e2e.processes import ENVIRONMENT, mlflow_runs, run

#: Names that this package, its libraries or Python's own modules have.
TAKEN = ("paddle", "mlflow", "numpy", "json", "random", "yaml", "hydra", "onnx", "paddle2onnx", "logging", "sqlite3")


def test_no_process_of_a_run_executes_what_lies_in_the_working_directory_under_a_known_name(tmp_path):
    for name in (*TAKEN, "runner"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'a').write('{name} ')\n")
    (tmp_path / "mine.py").write_text(
        "import random\nfrom paddle.nn.functional import cross_entropy\n"
        "def loss(logits, labels): return cross_entropy(logits, labels)\n"
    )
    # As the installed command does it; `python -m runner` would be asked of Python, which takes the nearest one.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/runner").write_text("from runner.__main__ import main; main()")
    done = subprocess.run(
        [sys.executable, "bin/runner", *TINY[:-1], "deploy.formats=[onnx]", "deploy.bench_s=0.01", "loss=custom",
         "loss.target=mine:loss", "hydra.run.dir=run"],
        cwd=tmp_path, capture_output=True, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "executed").exists(), (tmp_path / "executed").read_text()
    assert (tmp_path / "run/export/model.onnx").is_file()
    _, [tracked] = mlflow_runs(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    assert tracked.info.status == "FINISHED"


def test_python_m_runner_executes_nothing_of_the_working_directory_but_a_module_of_its_own_name(tmp_path):
    for name in TAKEN:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'a').write('{name} ')\n")
    assert run("mode=nonsense", cwd=tmp_path).returncode == 2
    assert not (tmp_path / "executed").exists(), (tmp_path / "executed").read_text()


def test_a_run_without_a_home_trains_exports_and_is_tracked(tmp_path):
    (tmp_path / "file").write_text("")
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    given = {"HOME": str(tmp_path / "file"), "XDG_CACHE_HOME": cache}
    done = run(
        *TINY[:-1], "deploy.formats=[paddle]", "deploy.bench_s=0.01", "hydra.run.dir=run", cwd=tmp_path, env=given
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("cannot be written: a temporary one is used") == 1
    assert (tmp_path / "run/export/paddle/model.json").is_file()
    _, [tracked] = mlflow_runs(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    assert tracked.info.status == "FINISHED"


@pytest.mark.parametrize("backend", ["nonsense", "module://no_such.backend"])
def test_plots_are_drawn_whatever_backend_the_environment_names(tmp_path, backend):
    done = run(
        *TINY, "train.plots=true", "train.explain=true", "hydra.run.dir=run", cwd=tmp_path, env={"MPLBACKEND": backend}
    )
    assert done.returncode == 0, done.stderr
    assert "no plots" not in done.stdout
    assert (tmp_path / "run/plots/learning_rate.png").is_file()


@pytest.fixture
def pictures(tmp_path):
    for split in ("train", "test"):
        for name, color in (("red", (255, 0, 0)), ("green", (0, 255, 0))):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for number in range(32):
                Image.fromarray(np.full((33, 47, 3), color, np.uint8)).save(folder / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("options", ["size=2m", "size=2m,ro"], ids=["small", "none"])
def test_processes_that_decode_need_no_memory_of_dev_shm(pictures, options):
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("only root may mount a disk")
    command = [
        sys.executable, "-m", "runner", *TINY[1:], "data=image_folder", "data.root=pictures", "data.image_size=64",
        "data.batch_size=32", "data.cache=memory", "train.max_steps=3", "schedule=constant", "tracking=none",
    ]  # fmt: skip
    mounted = f'mount -t tmpfs -o {options} tmpfs /dev/shm; exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mounted, "sh", *command], cwd=pictures, capture_output=True, text=True,
        env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("megabytes", "overrides", "code", "says"),
    [
        (500, [], 2, "A process may use 500 MB of addresses here (ulimit -v)"),
        (1500, ["data=synthetic", "data.image_size=224", "data.batch_size=512", "model=resnet18"], 5, "Out of memory"),
    ],
    ids=["too little for Paddle", "too little for the batch"],
)
def test_too_little_memory_is_one_message_with_the_remedy(tmp_path, megabytes, overrides, code, says):
    command = [sys.executable, "-m", "runner", *TINY, "hydra.run.dir=run", "tracking=none", *overrides]
    limited = f'ulimit -v {megabytes << 10}; exec "$@"'
    done = subprocess.run(
        ["sh", "-c", limited, "sh", *command], cwd=tmp_path, capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "ulimit -v" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert len(done.stderr.strip().splitlines()) <= 2

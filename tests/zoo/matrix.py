"""One network through everything: what works, what is refused before training, and what fails."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from runner.checkpoints import reading
from runner.checkpoints.state import MODEL
from runner.deploy import export
from runner.deploy.subject import Subject
from runner.errors import ConfigError, UserError, telling_line
from runner.kernels.autotune import autotuning_off
from runner.training.loop import fit
from runner.worker import experiment
from tests.checkpoints.test_resume import Keeping, newest
from tests.conftest import composed
from tests.findings import WORKS
from tests.zoo.table import TABLE

#: 12 images, 3 steps.
RUN = [
    "data=synthetic", "data.train_images=12", "data.val_fraction=0", "data.test_images=8", "data.batch_size=4",
    "train.epochs=1", "schedule=constant", "optimizer.lr=1e-4", "train.log_every=2", "checkpoint.every_steps=2",
    "checkpoint.keep=9", "train.threads=1", "tracking=none", "deploy.bench_s=0",
]  # fmt: skip
PEER = ["mode=cls_distill", "model@mode.peer=mobilenet_v3_small_x0_35"]


def row(name: str, size: int) -> dict[str, str]:
    """What becomes of a network, column by column."""
    base = [*RUN, f"model={name}", f"data.image_size={size}"]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        cells = {
            "train": lambda: train(place / "whole", base),
            "resume": lambda: resume(place, base),
            "distil": lambda: train(place / "distil", [*base, *PEER]),
            "export": lambda: exported(place / "export", base),
            "qat": lambda: exported(place / "qat", [*base, "compression=qat"]),
            "fpgm": lambda: exported(place / "fpgm", [*base, "compression=fpgm", "compression.prune.ratio=0.3"]),
        }
        return {column: cell(cells[column]) for column in TABLE.columns}


def cell(do: Callable[[], object]) -> str:
    """What the table says of something that was done."""
    try:
        do()
    except ConfigError as error:
        return f"refused: {last(error)}"
    except UserError as error:
        return f"failed: {last(error)}"
    except Exception as error:
        return f"failed: {type(error).__name__}: {telling_line(error)[:300]}"
    finally:
        gc.collect()
    return WORKS


def last(error: UserError) -> str:
    """A message on one line."""
    return " ".join(str(error).split())[:400]


def train(directory: Path, overrides: list[str], saved: reading.Saved | None = None) -> experiment.Experiment:
    """A run of three steps, with checkpoints behind the second and the third."""
    directory.mkdir(exist_ok=True)
    with autotuning_off():
        run = experiment.build(composed(*overrides), saved)
        fit(run.training, Keeping(directory, run))
    return run


def resume(place: Path, overrides: list[str]) -> None:
    """Go on from the second step of the run in `whole`. Errors: AssertionError where weights differ in a bit."""
    saved = reading.verify(place / "whole" / "checkpoints" / "step-00000002")
    train(place / "rest", overrides, saved)
    ours, theirs = (load_file(newest(place / part) / MODEL) for part in ("rest", "whole"))
    assert ours.keys() == theirs.keys()
    differing = [name for name in ours if not np.array_equal(ours[name], theirs[name])]
    assert not differing, f"{len(differing)} tensors differ, such as {differing[0]}"


def exported(directory: Path, overrides: list[str]) -> None:
    """Train and write files, each of which is compared with the network. Errors: those of an export."""
    run = train(directory, overrides)
    training = run.training
    subject = Subject.of(run.config, training.networks, training.loaders.classes)
    export.export(directory, subject, training.loaders.unchanged(), training.loaders.test)

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
from runner.deploy import export, manifest
from runner.deploy.subject import Subject
from runner.errors import ConfigError, UserError, telling_line
from runner.kernels.autotune import autotuning_off
from runner.training.loop import fit
from runner.worker import experiment
from tests.checkpoints.test_resume import Keeping, newest
from tests.conftest import composed
from tests.findings import WORKS, unfaithful
from tests.zoo.table import TABLE

#: 12 images, 3 steps.
RUN = [
    "data=synthetic", "data.train_images=12", "data.val_fraction=0", "data.test_images=8", "data.batch_size=4",
    "train.epochs=1", "schedule=constant", "optimizer.lr=1e-4", "train.log_every=2", "checkpoint.every_steps=2",
    "checkpoint.keep=9", "train.threads=1", "tracking=none", "deploy.bench_s=0",
]  # fmt: skip
#: Signal-to-noise ratio of the logits of a quantized network's files in dB, at least. What computes something else has
#: 0 or less; rounding alone leaves MobileViTV2, never trained, 4.4.
QUANTIZED_DB = 3.0
PEER = ["mode=cls_distill", "model@mode.peer=mobilenet_v3_small_x0_35"]


def row(name: str, size: int) -> dict[str, str]:
    """What becomes of a network, column by column."""
    base = [*RUN, f"model={name}", f"data.image_size={size}"]
    with tempfile.TemporaryDirectory() as folder:
        places = {column: Path(folder, column) for column in TABLE.columns}
        cells: dict[str, Callable[[Path], object]] = {
            "train": lambda place: train(place, base),
            "resume": lambda place: resume(place, places["train"], base),
            "distil": lambda place: train(place, [*base, *PEER]),
            "export": lambda place: exported(place, base),
            # From random weights clips begin at 20, beside which the features of some networks round to zero.
            "qat": lambda place: exported(place, [*base, "compression=qat", begin(places["train"])]),
            "fpgm": lambda place: exported(place, [*base, "compression=fpgm", "compression.prune.ratio=0.3"]),
        }
        return {column: cell(cells[column], place) for column, place in places.items()}


def cell(do: Callable[[Path], object], place: Path) -> str:
    """What the table says of something that was done in a directory."""
    try:
        do(place)
    except UserError as error:
        is_early = isinstance(error, ConfigError) and not any(place.rglob("step-*"))
        return f"{'refused' if is_early else 'failed'}: {last(error)}"
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


def begin(directory: Path) -> str:
    """The override that begins with the run in a directory."""
    return f"checkpoint.init_from={newest(directory)}"


def resume(place: Path, whole: Path, overrides: list[str]) -> None:
    """Go on from the second step of the run in `whole`. Errors: AssertionError where weights differ in a bit."""
    saved = reading.verify(whole / "checkpoints" / "step-00000002")
    train(place, overrides, saved)
    ours, theirs = (load_file(newest(one) / MODEL) for one in (place, whole))
    assert ours.keys() == theirs.keys()
    differing = [name for name in ours if not np.array_equal(ours[name], theirs[name])]
    assert not differing, f"{len(differing)} tensors differ, such as {differing[0]}"


def exported(directory: Path, overrides: list[str]) -> None:
    """Train and write files, each of which is compared with the network. Errors: those of an export."""
    run = train(directory, overrides)
    training = run.training
    subject = Subject.of(run.config, training.networks, training.loaders.classes)
    export.export(directory, subject, training.loaders.unchanged(), training.loaders.test)
    files = manifest.read(directory / "export").files
    problem = unfaithful(files) if run.config.compression.quantize is None else unfaithful(files, QUANTIZED_DB)
    assert not problem, problem

"""Several GPUs: through NCCL they compute what one does, stop together, and go on as another number of them."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from runner import device
from runner.runs.history import curves
from tests.e2e.processes import gone, has_logged, run, start, wait_until, workers
from tests.gpu.training import RECORDED

RUN = [
    "data=synthetic", "data.train_images=96", "data.val_fraction=0.2", "data.test_images=16", "data.batch_size=16",
    "train.epochs=2", "train.log_every=1", "checkpoint.every_steps=2", "train.threads=1", "deploy.formats=[]",
    "schedule.warmup_epochs=0", "model=mobilenet_v3_small_x0_35", "optimizer=momentum", "optimizer.lr=0.01",
    "tracking=none", "train.plots=false", "train.device=gpu",
]  # fmt: skip
FOR_EVERY_NUMBER = pytest.mark.parametrize(
    "count", [pytest.param(count, marks=pytest.mark.gpu(count)) for count in (2, 4, 8)]
)
WAIT_S = 400


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The curves of one process with synchronised normalisation, which changes nothing there, and without."""
    folder = tmp_path_factory.mktemp("alone")
    done = run(*RUN, "hydra.run.dir=run", cwd=folder, timeout=WAIT_S)
    assert done.returncode == 0, done.stderr
    return curves(folder / "run")


def together(folder, count, *overrides):
    done = run(*RUN, f"launch.nproc_per_node={count}", *overrides, "hydra.run.dir=run", cwd=folder, timeout=WAIT_S)
    assert done.returncode == 0, done.stderr
    return curves(folder / "run")


def first_losses(run, steps=3):
    return list(run["train/loss"].values())[:steps]


@FOR_EVERY_NUMBER
def test_processes_with_synchronised_normalisation_are_one(count, alone, tmp_path, record_property):
    several = together(tmp_path, count, "train.sync_batchnorm=true")
    assert list(several["train/loss"]) == list(alone["train/loss"])
    assert several["train/lr"] == alone["train/lr"]
    ours, theirs = np.array(first_losses(several)), np.array(first_losses(alone))
    record_property("figure", f"first losses differ by {np.abs(ours / theirs - 1).max():.1e}")
    np.testing.assert_allclose(ours, theirs, rtol=5e-3)


@FOR_EVERY_NUMBER
@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["mode=cls_distill_multiopt", "amp=fp16", "train.sync_batchnorm=true", "optimizer.clip_norm=1"],
        ["amp=bf16", "amp.level=O2", "train.ema=0.9", "train.accumulate=2"],
        ["compression=qat", "train.sync_batchnorm=true"],
        ["model.freeze=[backbone]", "model.freeze_epochs=1"],
    ],
    ids=["own statistics", "multiopt fp16", "bf16 O2 in parts", "qat", "head first"],
)
def test_processes_train(count, overrides, tmp_path, record_property):
    if RECORDED and overrides and "qat" not in overrides[0] and "multiopt" not in overrides[0]:
        pytest.skip("two of five are enough where each takes a slow CPU half a minute")
    values = list(together(tmp_path, count, *overrides)["train/loss"].values())
    record_property("figure", f"loss {values[0]:.3f} → {values[-1]:.3f} in {len(values)} steps")
    assert np.isfinite(values).all()


@FOR_EVERY_NUMBER
def test_they_stop_together_and_go_on_as_one(count, alone, tmp_path, record_property):
    process = start(*RUN, f"launch.nproc_per_node={count}", "hydra.run.dir=run", cwd=tmp_path)
    wait_until(lambda: has_logged(tmp_path / "run"), WAIT_S, process)
    ranks = workers(process)
    os.kill(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=WAIT_S)
    assert process.returncode == 143, errors
    assert gone(ranks.values())
    stopped = len(curves(tmp_path / "run")["train/loss"])
    done = run(*RUN, "checkpoint.resume=auto", "hydra.run.dir=run", cwd=tmp_path, timeout=WAIT_S)
    assert done.returncode == 0, done.stderr
    again = curves(tmp_path / "run")["train/loss"]
    record_property("figure", f"stopped after {stopped} of {len(again)} steps, went on with 1 process")
    assert list(again) == list(alone["train/loss"])


@pytest.mark.gpu(2)
def test_a_lost_process_ends_the_run(tmp_path):
    process = start(*RUN, "train.epochs=50", "launch.nproc_per_node=2", "hydra.run.dir=run", cwd=tmp_path)
    wait_until(lambda: has_logged(tmp_path / "run"), WAIT_S, process)
    ranks = workers(process)
    os.kill(ranks[1], signal.SIGKILL)
    _, errors = process.communicate(timeout=WAIT_S)
    assert process.returncode == 5, errors
    assert gone(ranks.values())


@pytest.mark.gpu
def test_more_processes_than_gpus_are_refused(tmp_path):
    count = device.gpus()
    done = run(*RUN, f"launch.nproc_per_node={count + 1}", "hydra.run.dir=run", cwd=tmp_path, timeout=WAIT_S)
    assert done.returncode == 2, done.stderr
    assert f"launch.nproc_per_node={count}" in done.stderr

"""Images of other shapes and colours than a square of RGB, from data to the exported file, as one run."""

from __future__ import annotations

import json

import numpy as np
import pytest

from runner.data import Images, Source, load
from runner.deploy import manifest
from tests.conftest import TINY, run_inline

GREY = ("data.channels=1", "data.mean=[0.5]", "data.std=[0.5]")


def bands(channels=5, test=True):
    """Arrays whose class is the channel with the most light."""
    generator = np.random.default_rng(0)
    labels = np.arange(60, dtype=np.int64) % 3
    images = generator.integers(0, 99, (60, 16, 24, channels), dtype=np.uint8)
    images[np.arange(60), :, :, labels] += 150
    part = Images(images[:40], labels[:40])
    return Source("bands", ["a", "b", "c"], part, Images(images[40:], labels[40:]) if test else None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "extra", [("data.image_size=[24,40]", *GREY), ("data.image_size=[40,32]", "compression=qat", *GREY)]
)
def test_grey_images_that_are_no_squares_are_trained_on_and_exported(tmp_path, extra):
    done = run_inline(*TINY, *extra, "deploy.formats=[onnx]", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    described = manifest.read(tmp_path / "run" / "export")
    assert described.channels == 1
    assert described.image_size in ([24, 40], [40, 32])
    assert described.compression == "qat" or described.file("model.onnx").agreement == 1.0


@pytest.mark.slow
def test_arrays_with_more_channels_are_trained_on(tmp_path):
    numbers = "[0.5,0.5,0.5,0.5,0.5]"
    done = run_inline(
        *TINY, "data=custom", "data.target=tests.worker.test_shapes:bands", "data.image_size=[16,24]",
        "data.channels=5", f"data.mean={numbers}", f"data.std={numbers}", "data.limit=null",
        "augment.crop_padding=2", "hydra.run.dir=run", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_without_a_test_split_a_run_is_measured_on_what_it_held_out_and_says_so(tmp_path):
    done = run_inline(
        *TINY, "data=custom", "data.target=tests.worker.test_shapes:bands", "+data.kwargs.channels=3",
        "+data.kwargs.test=false", "data.image_size=[16,24]", "data.val_fraction=0.3", "data.limit=null",
        "hydra.run.dir=run", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "no test split: the final numbers were measured on the val split" in done.stdout
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test_images"] == 12
    measured = run_inline("eval", "run", "trust=true", cwd=tmp_path)
    assert measured.returncode == 0, measured.stderr
    assert "12 images" in measured.stdout
    assert "split val" in measured.stdout


def test_colours_become_grey_as_pictures_do():
    from runner import config as cfg

    colourful = cfg.CustomData(
        target="tests.worker.test_shapes:bands", kwargs={"channels": 3}, image_size=[16, 24], channels=1, mean=[0.5],
        std=[0.5], val_fraction=0.0,
    )  # fmt: skip
    assert load(colourful).train.images.shape == (40, 16, 24, 1)

"""A file that prepares pictures is given upright pixels: of turned photos too it has the values of training."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from runner import images
from runner.deploy import manifest
from runner.kernels.pictures import resampler

from . import helpers
from .test_client import imported, jpeg
from .test_pictures import CONFIGS, showing_images


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_value_is_that_of_training(tmp_path, name, orientation):
    client = imported()
    described = replace(manifest.read(helpers.export(tmp_path / "export")), **CONFIGS[name])
    session = onnxruntime.InferenceSession(showing_images(described).SerializeToString())
    wanted, metadata = described.preparation, session.get_modelmeta().custom_metadata_map
    mean, std = np.array(described.mean), np.array(described.std)
    # Also such as libjpeg scales down, to sides that are not whole: the last pixel of a side is filled up.
    for times, stretched in itertools.product((0.4, 1.3, 4, 6.4, 12.8), (0.3, 1, 1.2)):
        upright = round(wanted.width * times) + 1, round(wanted.height * times * stretched) + 1
        content = jpeg(upright[::-1] if orientation > 4 else upright, orientation)
        (tmp_path / "photo.jpg").write_bytes(content)
        [seen] = session.run(["logits"], client.read(tmp_path / "photo.jpg", metadata))[0]
        levels = (seen.reshape(described.input_shape).transpose(1, 2, 0) * std + mean) * 255
        expected = images.decode(content, wanted)
        assert np.abs(levels - expected).max() < 0.01, upright
        np.testing.assert_array_equal(images.decode(content, wanted, resample=resampler()), expected)

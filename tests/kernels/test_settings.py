"""Which settings of layers the kernels compute."""

from __future__ import annotations

import pytest
from paddle import nn

from runner.kernels import settings


@pytest.mark.parametrize(("size", "fits"), [((15, 17), True), (16, False)])
def test_windows_have_a_byte_for_each_place(size, fits):
    assert settings.fits(nn.MaxPool2D(size)) == fits

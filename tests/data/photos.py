"""Pictures that look like photos to a codec and to a filter: all wave lengths, the long ones strongest."""

from __future__ import annotations

import numpy as np
from PIL import Image


def photo(width: int, height: int, noise: float = 0.0, seed: int = 0) -> Image.Image:
    """An RGB picture whose amplitudes fall with frequency as those of photos do; `noise`: grey levels of a sensor's."""
    generator = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width)[None] * width)
    amplitude = 1 / np.maximum(frequency, 1) ** 1.3
    waves = [amplitude * np.exp(2j * np.pi * generator.random(amplitude.shape)) for _ in range(3)]
    grey, red, blue = (np.fft.irfft2(wave, (height, width)) for wave in waves)
    planes = [plane / max(plane.std(), 1e-9) for plane in (grey + 0.3 * red, grey, grey + 0.3 * blue)]
    pixels = 118 + 50 * np.stack(planes, axis=-1) + noise * generator.standard_normal((height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))

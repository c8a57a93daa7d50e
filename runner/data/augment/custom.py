"""The user-defined augmentation of single images, `augment.target`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...config.targets import load_target
from ...errors import ConfigError
from .draws import Draws

#: (uint8 [H, W, C], generator, keywords) → uint8 [H, W, C].
Change = Callable[..., Any]


def changed(images: np.ndarray, draws: Draws, target: str, kwargs: dict[str, Any]) -> np.ndarray:
    """Images after `target(image, generator, **kwargs)`, each called with a copy and a generator of its own.

    uint8 [B, H, W, C] to the same. Errors: ConfigError if the target does not exist, raises, or returns anything but an
    image of the same shape.
    """
    function: Change = load_target(target)
    return np.stack(
        [_changed(function, image, draws.generator(row), target, kwargs) for row, image in enumerate(images)]
    )


def _changed(
    function: Change, image: np.ndarray, generator: np.random.Generator, target: str, kwargs: dict[str, Any]
) -> np.ndarray:
    contract = f"It is given an image, NumPy uint8 {list(image.shape)}, a numpy.random.Generator and kwargs={kwargs}"
    try:
        result = function(image.copy(), generator, **kwargs)
    except Exception as error:
        raise ConfigError(f"augment.target={target} raised {type(error).__name__}: {error}. {contract}.") from error
    if not isinstance(result, np.ndarray) or result.dtype != np.uint8 or result.shape != image.shape:
        is_array = isinstance(result, np.ndarray)
        returned = f"{result.dtype} {list(result.shape)}" if is_array else f"a {type(result).__name__}"
        raise ConfigError(f"augment.target={target} returned {returned}. {contract}, and has to return such an image.")
    return result

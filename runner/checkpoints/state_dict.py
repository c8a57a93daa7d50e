"""Finds the weights in what a foreign file contains: a dict of arrays, or one within a training checkpoint."""

from __future__ import annotations

from typing import Any

import numpy as np

from .torch_file import Opaque

#: The keys of weights in training checkpoints, averaged weights before plain ones.
PLACES = (
    "model_ema", "state_dict_ema", "ema_state_dict", "ema", "state_dict", "model_state_dict", "model", "net", "network",
    "params", "weights",
)  # fmt: skip
#: The key under which Paddle records how it split weights above a gigabyte, with protocols 2 and 3.
_CUT = "UnpackBigParamInfor@@"


def arrays_of(content: Any) -> tuple[dict[str, np.ndarray], str]:
    """(name → array, key that they were found under). Errors: ValueError if there are none."""
    if isinstance(content, Opaque):
        raise ValueError("it holds a whole network, whose code would have to run. Save its state_dict() instead")
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not a dict of weights")
    if _CUT in content:
        raise ValueError("its weights are split into parts. Save it again with paddle.save(…, protocol=4)")
    places = {_text(key): value for key, value in content.items()}
    for place in PLACES:
        inner = places.get(place)
        if isinstance(inner, dict) and (arrays := _arrays(inner)):
            return arrays, place
        if isinstance(inner, Opaque) and not _arrays(content):
            raise ValueError(f"its '{place}' is a whole network, whose code would have to run. Save its state_dict()")
    if arrays := _arrays(content):
        return arrays, ""
    raise ValueError("it contains no arrays")


def _arrays(content: dict[Any, Any]) -> dict[str, np.ndarray]:
    """The arrays of a state dict; a Paddle parameter is pickled as (name, array)."""
    arrays = {}
    for name, value in content.items():
        if isinstance(value, tuple) and len(value) == 2:
            value = value[1]
        if isinstance(value, np.ndarray):
            arrays[_text(name)] = value
    return arrays


def _text(name: str | bytes) -> str:
    # Python 2 wrote bytes.
    return name if isinstance(name, str) else name.decode("latin-1")

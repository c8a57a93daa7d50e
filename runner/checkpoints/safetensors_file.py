"""Reads `.safetensors` files, also of numbers that NumPy does not have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import deserialize, safe_open
from safetensors.numpy import load_file

from .. import stored
from .torch_file import widened

_BFLOAT16 = "BF16"


def load(path: Path) -> dict[str, np.ndarray]:
    """Name → array, bfloat16 as float32. Errors: SafetensorError, OSError, TypeError for numbers of 8 bits."""
    with safe_open(path, "np") as opened:
        kinds = {name: opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118
        if _BFLOAT16 not in kinds.values():
            return load_file(path)
        arrays = {name: opened.get_tensor(name) for name, kind in kinds.items() if kind != _BFLOAT16}
    with stored.open_regular(path) as stream:
        tensors = deserialize(stream.read())
    for name, tensor in tensors:
        if tensor["dtype"] == _BFLOAT16:
            arrays[name] = widened(np.frombuffer(tensor["data"], "<u2").reshape(tensor["shape"]))
    return arrays

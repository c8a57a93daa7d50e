"""Reading foreign pickles without running what is in them."""

from __future__ import annotations

import pickle
from typing import IO, Any

#: All that an array or a plain container needs.
_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("collections", "OrderedDict"),
    ("builtins", "tuple"),
    ("builtins", "list"),
    ("builtins", "dict"),
    ("builtins", "set"),
    ("__builtin__", "tuple"),
    ("_codecs", "encode"),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which is no array and no plain container")
        return super().find_class(module, name)


def load(stream: IO[bytes], encoding: str = "ASCII") -> Any:
    """What a pickle of arrays and plain containers holds.

    Errors: `pickle.UnpicklingError` for anything else in it, before any of it runs.
    """
    return _Unpickler(stream, encoding=encoding).load()

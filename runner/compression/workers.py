"""How PaddleSlim follows filters through a program, where its own way ends in an error. Tried with PaddleSlim 2.6.0.

Its workers, one for each operator, find what loses a channel when a filter goes. A group of weights that a worker
refuses stays whole, by `UnsupportOpError`; but they fail in other ways too, and then no group is found at all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

#: Operators that work value by value, of which PaddleSlim does not know that.
ELEMENTWISE = ("abs", "elu", "exp", "log", "mish", "rsqrt", "silu", "softplus", "sqrt", "square", "tanh")


@contextlib.contextmanager
def tolerant() -> Iterator[None]:
    """Within the context groups that cannot be followed are left out, and means are followed."""
    from paddleslim.prune import prune_worker
    from paddleslim.prune.prune_worker import PRUNE_WORKER, PruneWorker, UnsupportOpError

    class Convolution(prune_worker.conv2d):  # type: ignore[misc]
        def _prune(self, var: Any, pruned_axis: int, transforms: list[Any]) -> None:
            groups = self.op.attr("groups") or 1
            if groups > 1 and not self._is_depthwise_conv(self.op):
                # Each group would have to lose as many channels as the others.
                raise UnsupportOpError("a convolution in groups")
            super()._prune(var, pruned_axis, transforms)

    class Mean(PruneWorker):  # type: ignore[misc]
        def _prune(self, var: Any, pruned_axis: int, transforms: list[Any]) -> None:
            x, y = self.op.inputs("X")[0], self.op.outputs("Out")[0]
            rank = len(x.shape())
            gone = {axis % rank for axis in self.op.attr("dim")}
            kept = [axis for axis in range(rank) if axis not in gone or self.op.attr("keep_dim")]
            axis = pruned_axis if var == x else kept[pruned_axis]
            if self.op.attr("reduce_all") or axis in gone:
                raise UnsupportOpError("a mean over channels")
            self._visit_and_search(*((y, kept.index(axis)) if var == x else (x, axis)), transforms)

    prune, known, unchanged = PruneWorker.prune, dict(PRUNE_WORKER._module_dict), list(prune_worker.OPS_UNCHANGE_SHAPE)

    def refusing(self: Any, var: Any, pruned_axis: int, transforms: list[Any]) -> None:
        try:
            prune(self, var, pruned_axis, transforms)
        except (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise UnsupportOpError(f"{self.op.type()}: {error}") from error

    PruneWorker.prune = refusing
    PRUNE_WORKER._module_dict |= {"conv2d": Convolution, "reduce_mean": Mean}
    prune_worker.OPS_UNCHANGE_SHAPE += ELEMENTWISE
    try:
        yield
    finally:
        PruneWorker.prune = prune
        PRUNE_WORKER._module_dict.clear()
        PRUNE_WORKER._module_dict.update(known)
        prune_worker.OPS_UNCHANGE_SHAPE[:] = unchanged

"""Restoring networks, optimizers, schedules, loss scaler and random generators from a checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from .. import compression
from .. import config as cfg
from ..errors import CheckpointError, Damaged
from ..models import Networks
from ..terminal import counted, word_for
from ..training import seeding
from ..training.optimizers import Optimization
from ..training.state import Training
from .reading import Saved
from .state import ADAPTERS, ANOTHER, AVERAGE, EMA, MODEL, OPTIMIZER

#: Exceptions of Python, NumPy, Paddle and safetensors for a state that no run wrote.
UNFIT = (
    KeyError, IndexError, ValueError, TypeError, AttributeError, AssertionError, OverflowError, RuntimeError,
    SafetensorError,
)  # fmt: skip


@contextlib.contextmanager
def _fitting(saved: Saved) -> Iterator[None]:
    """Turn errors of a state that does not fit into Damaged: correct digests do not prove that a run wrote it."""
    try:
        yield
    except UNFIT as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise Damaged(f"{saved.folder} is damaged: its state does not fit ({why}). {ANOTHER}") from error


def structure(saved: Saved, networks: Networks, settings: cfg.Compression) -> None:
    """Give freshly built networks the pruned channels and fake quantization of a checkpoint.

    Errors: CheckpointError if it is of other networks.
    """
    with _fitting(saved), safe_open(saved.folder / MODEL, "np") as stored:
        shapes = {name: stored.get_slice(name).get_shape() for name in stored.keys()}  # noqa: SIM118
    _rebuild(shapes, bool(saved.state.plan), str(saved.folder), networks, settings)


def load_arrays(
    arrays: dict[str, np.ndarray], pruned: bool, origin: str, networks: Networks, settings: cfg.Compression
) -> None:
    """Give freshly built networks the pruned channels, fake quantization and values of stored weights."""
    _rebuild({name: list(array.shape) for name, array in arrays.items()}, pruned, origin, networks, settings)
    _assign(networks.state_dict(), arrays, Path(origin))


def _rebuild(
    shapes: dict[str, list[int]], pruned: bool, origin: str, networks: Networks, settings: cfg.Compression
) -> None:
    for name in networks.trained:
        own = {key.removeprefix(f"{name}."): shape for key, shape in shapes.items() if key.startswith(f"{name}.")}
        compression.rebuild(networks[name], settings, own, pruned, origin)


def weights(saved: Saved, networks: Networks) -> None:
    """Load the weights of a checkpoint into the networks. Errors: CheckpointError if names or shapes differ."""
    with _fitting(saved):
        _assign(networks.state_dict(), load_file(saved.folder / MODEL), saved.folder)


def training_state(saved: Saved, training: Training) -> None:
    """Restore averages, optimizers, schedules, loss scaler, random generators and progress.

    Errors: CheckpointError if the saved optimizers are of another kind.
    """
    with _fitting(saved):
        _training_state(saved, training)


def _training_state(saved: Saved, training: Training) -> None:
    if training.average:
        _assign(training.average.averages, load_file(saved.folder / AVERAGE), saved.folder)
    if adapters := training.mode.adapters.parameters:
        _assign(adapters, load_file(saved.folder / ADAPTERS), saved.folder)
    if training.ema:
        _assign(training.ema.averages, load_file(saved.folder / EMA), saved.folder)
    _restore_optimizers(saved, training.optimizations)
    for optimization, step in zip(training.optimizations, saved.state.schedules, strict=True):
        optimization.schedule.last_epoch = step
    if training.precision.scaler is not None and saved.state.scaler:
        training.precision.scaler.load_state_dict(saved.state.scaler)
    seeding.restore(saved.state.random)
    training.progress, training.precomputing_s = saved.progress, saved.state.precomputing_s
    training.follow()


def _assign(own: dict[str, paddle.Tensor], arrays: dict[str, np.ndarray], origin: Path) -> None:
    differing = own.keys() ^ arrays.keys()
    differing |= {name for name in own.keys() & arrays.keys() if own[name].shape != list(arrays[name].shape)}
    if differing:
        differ = f"{counted(len(differing), 'tensor')} {word_for(len(differing), 'differs', 'differ')}"
        raise CheckpointError(
            f"{origin} is of another network: {differ}, such as {min(differing)}. Resume with "
            "the model, mode and data of that run."
        )
    for name, value in arrays.items():
        own[name].set_value(paddle.to_tensor(value).astype(own[name].dtype))


def _restore_optimizers(saved: Saved, optimizations: list[Optimization]) -> None:
    states: list[dict[str, Any]] = [{} for _ in optimizations]
    begun: list[dict[str, paddle.Tensor]] = [{} for _ in optimizations]
    for key, value in load_file(saved.folder / OPTIMIZER).items():
        number, _, rest = key.partition(".")
        name, _, accumulator = rest.rpartition("/")
        if int(number) >= len(optimizations) or (name and name not in optimizations[int(number)].parameters):
            raise CheckpointError(
                f"{saved.folder} is of another optimizer: none of this run's has the state {key}. "
                "Resume with the mode and optimizers of that run."
            )
        parameters, state = optimizations[int(number)].parameters, states[int(number)]
        if name:
            begun[int(number)][name] = parameters[name]
        if accumulator == "master":
            state.setdefault("master_weights", {})[parameters[name].name] = paddle.to_tensor(value)
        else:
            state[f"{parameters[name].name}_{accumulator}" if name else accumulator] = paddle.to_tensor(value)
    block = paddle.base.framework.default_main_program().global_block()
    for optimization, state, own in zip(optimizations, states, begun, strict=True):
        if state:
            optimization.optimizer.set_state_dict(state)
            # Paddle 3.3.1 would require state for every parameter that gets a gradient in the next step, which may be
            # the first step of one that was frozen until then.
            optimization.optimizer._create_accumulators(block, list(own.values()))

"""GPUs that are not there: Paddle's device functions write down what is asked of them, and the CPU computes.

Every stand-in binds its arguments to the real function's signature, so that a wrong name fails here as on a GPU. Losses
are scaled by Paddle's own scaler. Under autocast a fully connected layer gives half precision, as it would: the CPU has
no arithmetic of that type, so a network's last layer is what shows whether losses and metrics take it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle.amp import grad_scaler
from paddle.amp.auto_cast import AMP_RELATED_FLAGS

from runner import device as runner_device
from runner.device import SELECTED_GPU

#: The variable that says how many GPUs a process is to believe in.
COUNT = "RUNNER_RECORDED_GPUS"
Patch = Callable[[Any, str, Any], None]


@dataclass
class Gpus:
    """What a machine pretends to have, and what was asked of it."""

    count: int = 1
    capability: tuple[int, int] = (8, 0)
    current: str = "gpu:0"
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Name of the function → its arguments, in the order of the calls."""
    half: list[str] = field(default_factory=list)
    """The dtypes of the autocasts that are under way, the innermost one last; "" for one that casts nothing."""

    def asked(self, name: str) -> list[dict[str, Any]]:
        """The arguments of every call of a function."""
        return [arguments for called, arguments in self.calls if called == name]

    def install(self, patch: Patch = setattr) -> Gpus:
        """Put the stand-ins in their places, each of which has to exist; returns itself."""
        cuda = paddle.device.cuda
        answers: list[tuple[Any, str, Callable[..., Any]]] = [
            (paddle, "is_compiled_with_cuda", lambda: True),
            (paddle.device, "is_compiled_with_cuda", lambda: True),
            (cuda, "device_count", lambda: self.count),
            (cuda, "get_device_name", lambda device=None: "Recorded GPU"),
            (cuda, "get_device_capability", lambda device=None: self.capability),
            (cuda, "synchronize", lambda device=None: None),
            (cuda, "max_memory_allocated", lambda device=None: 0),
            (cuda, "reset_max_memory_allocated", lambda device=None: None),
            (paddle.device, "set_device", self._set_device),
            (paddle.device, "get_device", lambda: self.current),
            (paddle, "set_flags", self._set_flags(paddle.set_flags)),
            (runner_device, "is_cpu_build", lambda: False),
            (paddle.version, "cuda", lambda: "12.6"),
            (paddle.amp, "auto_cast", self._auto_cast(paddle.amp.auto_cast)),
            (paddle.amp, "decorate", self._decorate),
            (paddle, "get_rng_state", self._generators(paddle.get_rng_state)),
            (paddle, "set_rng_state", self._restore(paddle.set_rng_state)),
            (paddle.distributed, "init_parallel_env", self._through_gloo(paddle.distributed.init_parallel_env)),
        ]
        for owner, name, answer in answers:
            patch(owner, name, self._recorded(name, getattr(owner, name), answer))
        patch(F, "linear", self._linear(F.linear))
        gpu = types.SimpleNamespace(_expected_place=types.SimpleNamespace(is_gpu_place=lambda: True))
        patch(grad_scaler, "_dygraph_tracer", lambda: gpu)
        return self

    def _recorded(self, name: str, real: Callable[..., Any], answer: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(real)

        @functools.wraps(real)
        def stand_in(*args: Any, **kwargs: Any) -> Any:
            if sys._getframe(1).f_globals["__name__"].startswith("paddle"):
                # Paddle itself, PaddleSlim and paddle2onnx go on with the CPU's build.
                return real(*args, **kwargs)
            self.calls.append((name, dict(signature.bind(*args, **kwargs).arguments)))
            return answer(*args, **kwargs)

        return stand_in

    def _set_device(self, device: str) -> None:
        number = device.partition(":")[2] or "0"
        assert device.partition(":")[0] in ("gpu", "cpu"), device
        assert int(number) < self.count, f"there is no {device}"
        self.current = f"gpu:{number}" if device.startswith("gpu") else "cpu"

    def _set_flags(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def set_flags(flags: dict[str, Any]) -> None:
            # The CPU's build does not know those of cuDNN.
            real({name: value for name, value in flags.items() if name not in AMP_RELATED_FLAGS})

        return set_flags

    def _auto_cast(self, real: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(real)

        @contextlib.contextmanager
        def auto_cast(*args: Any, **kwargs: Any) -> Iterator[None]:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            self.half.append(bound.arguments["dtype"] if bound.arguments["enable"] else "")
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    cast = real(*args, **kwargs)
                    cast.__enter__()
                try:
                    yield
                finally:
                    cast.__exit__(None, None, None)
            finally:
                self.half.pop()

        return auto_cast

    def _linear(self, real: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        def linear(*args: Any, **kwargs: Any) -> Any:
            result = real(*args, **kwargs)
            return result.astype(self.half[-1]) if self.half and self.half[-1] else result

        return linear

    @staticmethod
    def _decorate(models: Any, optimizers: Any = None, **_settings: Any) -> Any:
        """Weights stay what they are, since the CPU could not compute with others."""
        assert isinstance(models, list)
        assert optimizers is None or isinstance(optimizers, list)
        return models if optimizers is None else (models, optimizers)

    def _generators(self, real: Callable[..., Any]) -> Callable[..., Any]:
        return lambda device=None: real() * (1 if self.current == "cpu" else self.count)

    def _restore(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def set_rng_state(state_list: list[Any], device: str | None = None) -> None:
            number = int(self.current.partition(":")[2] or 0)
            assert len(state_list) == (1 if self.current == "cpu" else self.count)
            real([state_list[number]])

        return set_rng_state

    @staticmethod
    def _through_gloo(real: Callable[..., Any]) -> Callable[..., Any]:
        def init_parallel_env(*args: Any, **kwargs: Any) -> Any:
            assert os.environ.get("PADDLE_DISTRI_BACKEND", "auto") == "auto", "GPUs exchange through NCCL"
            assert os.environ[SELECTED_GPU].isdecimal()
            os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"
            return real(*args, **kwargs)

        return init_parallel_env

"""What cannot work without a GPU; the command and the processes that train say it alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .. import Amp, Bf16, Device, Train


def without_gpu(train: Train, devices: Sequence[int]) -> Iterator[str]:
    """Yields why a run cannot have the device that it asks for; `devices`: numbers of GPUs."""
    if train.device is Device.gpu:
        yield (
            "train.device=gpu: this Paddle sees no GPU. Install paddlepaddle-gpu (see the README), or use "
            "train.device=cpu."
        )
    if devices:
        yield (
            f"launch.devices={list(devices)} are GPUs, and this run has none (train.device={train.device.name}). For "
            f"as many processes on a CPU: launch.nproc_per_node={len(devices)}"
        )


def without_mixed_precision(amp: Amp) -> Iterator[str]:
    """Yields why a run on a CPU cannot have the precision that it asks for."""
    if isinstance(amp, Bf16) and not amp.fallback:
        yield (
            f"amp={amp.kind}: Paddle's CPU build has no mixed precision, and this run uses the CPU. "
            "Use amp=off, or amp.fallback=true to train in float32 where there is no GPU."
        )

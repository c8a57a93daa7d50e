"""The physical limit of a training step beside the step: operations by the rate of matrix products, bytes by bandwidth.

    python -m benchmarks.limits

Operations are those of convolutions and linear layers, forward, for the gradient of the input (not of the images) and
for that of the weights: six a multiply-accumulate. Bytes are what each layer has to read and write once: a convolution
its input and output in each of three passes, a normalisation its input and output forward and input, gradient and
result backward; AdamW reads four numbers a parameter and writes three. Both limits assume that nothing else costs
anything, and what stays in the cache is not read from memory, so a step may beat the second.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from runner import device

from . import harness
from .training import CASES, Case, by_peer

SIZE, COPIED = 2048, 256 << 20


def matrix_rate() -> float:
    """float32 operations/s of a large matrix product of the kernels with all threads."""
    import paddle

    from runner.kernels import tokens

    one = paddle.randn([SIZE, SIZE])
    return 2 * SIZE**3 / best(lambda: tokens.Linear.apply(one, one, None))


def bandwidth() -> float:
    """Bytes/s read and written by a copy on every core at once."""
    cores = os.cpu_count() or 1
    pairs = [(np.ones(COPIED // 4, np.float32), np.zeros(COPIED // 4, np.float32)) for _ in range(cores)]

    def copy_all() -> None:
        threads = [threading.Thread(target=np.copyto, args=(to, of)) for of, to in pairs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return 2 * cores * COPIED / best(copy_all)


def best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of ten."""
    found = []
    for _ in range(10):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def needed(case: Case) -> tuple[float, float]:
    """(operations, bytes) of a step."""
    import paddle
    from paddle import nn

    from runner import config as cfg
    from runner import models

    model = cfg.MobileNetV3() if case.model.startswith("mobilenet") else cfg.Vision(architecture=case.model)
    network = models.build(model, 10)
    numbers = [7 * parameter.size for parameter in network.parameters()]
    macs = [models.macs(network, (3, case.side, case.side)) * case.batch * 6]

    def count(layer: nn.Layer, inputs: Any, output: Any) -> None:
        given, made = inputs[0].size, output.size
        if isinstance(layer, (nn.Conv2D, nn.Linear)):
            numbers.append(case.batch * 3 * (given + made))
            if inputs[0].shape[1] == 3:
                # Images have no gradient.
                numbers.append(-case.batch * (given + made))
                macs.append(-2 * case.batch * made * layer.weight[0].size)
        elif isinstance(layer, nn.BatchNorm2D):
            numbers.append(case.batch * 5 * made)

    for layer in network.sublayers():
        layer.register_forward_post_hook(count)
    network.eval()
    network(paddle.zeros([1, 3, case.side, case.side]))
    return float(sum(macs)) * case.networks, 4.0 * sum(numbers) * case.networks


def main() -> None:
    os.environ.update(device.environment(None))
    rate, width = matrix_rate(), bandwidth()
    print(f"matrix products {rate / 1e9:.0f} GFLOP/s, copy {width / 1e9:.0f} GB/s, {os.cpu_count()} threads\n")
    rows = []
    for case in CASES:
        operations, moved = needed(case)
        step = case.batch / by_peer(case, "kernels")
        rows.append([
            case.name, f"{operations / 1e9:.1f}", f"{1e3 * operations / rate:.1f}", f"{moved / 1e6:,.0f}",
            f"{1e3 * moved / width:.1f}", f"{1e3 * step:.1f}", f"{max(operations / rate, moved / width) / step:.2f}",
        ])  # fmt: skip
    harness.print_table(
        ["a step of", "GFLOP", "ms at the rate", "MB", "ms at the bandwidth", "ms measured", "limit ÷ measured"], rows
    )


if __name__ == "__main__":
    main()

"""Training steps of a transformer with this package's kernels and with Paddle's operators, in one thread.

    python -m benchmarks.transformers [--rounds N] [--network NAME]

Without a network it is a block of ViT-small (16 images of 197 tokens, 384 wide, 6 heads) and its parts; a NAME of
PaddleClas, such as `DeiT_tiny_patch16_224`, is a whole network and 8 images of 224×224 pixels. A step is a forward and
a backward pass. Both take turns in one process; times are its CPU time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Any

from runner import device

from . import harness

BATCH, TOKENS, WIDTH, HEADS = 16, 197, 384, 6
#: What is promised: times as fast as Paddle's operators.
PROMISED = {"GELU": 1.2, "layer normalisation": 1.2, "block of ViT-small": 1.2}
#: Values that are computed in a measurement at least.
SMALL = 1 << 21


def block() -> Any:
    """A block as ViT has it: attention and two linear layers, each behind a normalisation."""
    import paddle
    import paddle.nn.functional as F
    from paddle import nn

    class Block(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.norms = nn.LayerList([nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)])
            self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.wider, self.back, self.gelu = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH), nn.GELU()

        def forward(self, x: paddle.Tensor) -> paddle.Tensor:
            size = WIDTH // HEADS
            parts = self.qkv(self.norms[0](x)).reshape([BATCH, TOKENS, 3, HEADS, size]).transpose([2, 0, 3, 1, 4])
            scores = F.softmax(paddle.matmul(parts[0], parts[1], transpose_y=True) * size**-0.5)
            x = x + self.out(paddle.matmul(scores, parts[2]).transpose([0, 2, 1, 3]).reshape(x.shape))
            return x + self.back(self.gelu(self.wider(self.norms[1](x))))

    return Block()


def cases(network: str | None) -> dict[str, tuple[Any, list[int]]]:
    """Name → a layer, and the shape of its input."""
    from paddle import nn

    if network:
        from runner import config, models

        model = config.PaddleClas(architecture=network, image_size=224)
        return {network: (models.build(model, 10), [8, 3, 224, 224])}
    return {
        "GELU of 65,536 values": (nn.Sequential(nn.GELU()), [1, 64, 1024]),
        "layer normalisation of 65,536 values": (nn.Sequential(nn.LayerNorm(512)), [1, 128, 512]),
        "GELU": (nn.Sequential(nn.GELU()), [BATCH, TOKENS, 4 * WIDTH]),
        "layer normalisation": (nn.Sequential(nn.LayerNorm(WIDTH)), [BATCH, TOKENS, WIDTH]),
        "block of ViT-small": (block(), [BATCH, TOKENS, WIDTH]),
    }


def times(layer: Any, shape: list[int], rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each step with the kernels and with Paddle's operators."""
    import paddle

    from runner.kernels.accelerate import accelerate
    from runner.kernels.layers import stock

    x = paddle.randn(shape)
    x.stop_gradient = False
    accelerate(layer, (3, 224, 224))

    # Small ones take less than a millisecond.
    repeats = max(1, SMALL // x.size)

    def step() -> float:
        spent = 0.0
        for _ in range(repeats):
            began = time.process_time()
            layer(x).sum().backward()
            spent += time.process_time() - began
            x.clear_grad()
            layer.clear_gradients()
        return 1e3 * spent / repeats

    ours, theirs = [], []
    for number in range(rounds + 1):
        measured = step()
        with stock():
            other = step()
        # The first round allocates.
        if number:
            ours.append(measured)
            theirs.append(other)
    return ours, theirs


def main() -> None:
    """Measure and print; exits with 1 outside the bounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--network", metavar="NAME")
    options = parser.parse_args()
    device.load_paddle(1)
    # As in a run, for both.
    device.tune_malloc()
    rows, missed = [], []
    for name, (layer, shape) in cases(options.network).items():
        ours, theirs = times(layer, shape, options.rounds)
        # How often the time with the kernels goes into the other.
        ratio = harness.ratio(theirs, ours)
        rows.append([name, f"{statistics.median(ours):.2f}", f"{statistics.median(theirs):.2f}", f"{ratio:.2f}"])
        missed += [name] if ratio < PROMISED.get(name, 0) else []
    harness.print_table(["ms of CPU time a step", "kernels", "Paddle's operators", "times as fast"], rows)
    if missed:
        sys.exit(f"Out of bounds: {', '.join(missed)}; promised are {PROMISED}.")


if __name__ == "__main__":
    main()

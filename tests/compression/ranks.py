"""One of two ranks that see different images; prints its ranges before and after they agree."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import paddle
import paddle.distributed as dist

from runner import config as cfg
from runner import models
from runner.compression import qat, slim

dist.init_parallel_env()
paddle.seed(0)
network = models.build(cfg.MobileNetV3(size=cfg.Size.small, scale=0.35), 10)
qat.quantize(network, cfg.TrainedQuantization(pact=cfg.Pact(enabled=False)))
network.train()
paddle.seed(1 + dist.get_rank())
network((1 + dist.get_rank()) * paddle.randn([4, 3, 32, 32]))


def seen() -> list[float]:
    """Every range, and what the next step makes of it."""
    return [float(tensor) for layer in slim.fake_quantized(network).values() for tensor in slim.range_state(layer)]


before = seen()
qat.synchronize(network)
Path(sys.argv[1], f"rank{dist.get_rank()}.json").write_text(json.dumps({"before": before, "after": seen()}))

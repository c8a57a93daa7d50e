"""One of two ranks that see different images: its ranges before and after they agree, and after a real step."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import paddle

from runner import config as cfg
from runner import models, parallel
from runner.compression import qat, slim
from runner.training.loop import train_step
from runner.worker import experiment
from tests.conftest import TINY, composed

ranks = parallel.join()
paddle.seed(0)
network = models.build(cfg.MobileNetV3(size=cfg.Size.small, scale=0.35), 10)
qat.quantize(network, cfg.TrainedQuantization(pact=cfg.Pact(enabled=False)))
network.train()
paddle.seed(1 + ranks.rank)
network((1 + ranks.rank) * paddle.randn([4, 3, 32, 32]))


def ranges(of: paddle.nn.Layer) -> list[float]:
    """Every range of a network, and what the next step makes of it."""
    return [float(tensor) for layer in slim.fake_quantized(of).values() for tensor in slim.range_state(layer)]


said: dict[str, object] = {"before": ranges(network)}
ranks.average([tensor for _, tensor in parallel.statistics(network)])
said["after"] = ranges(network)

training = experiment.build(composed(*TINY, "compression=qat", "tracking=none"), None, ranks).training
batch = next(training.loaders.train.epoch(0))
said |= {"indices": batch.indices.tolist(), "initial": ranges(training.networks)}
training.networks.train()
train_step(training, batch)
said["stepped"] = ranges(training.networks)
Path(sys.argv[1], f"rank{ranks.rank}.json").write_text(json.dumps(said))

"""The recipe `digits/best` as it would be written in PyTorch: prints its test top-1 as JSON.

    python -m benchmarks.peers.torch_recipe SEED [OVERRIDE…]

Images come from this package, batch by batch those of a run with that seed; network, initial weights, loss, optimizer,
averages and schedule are PyTorch's, and written here.
"""

from __future__ import annotations

import json
import os
import sys
import time

import paddle
import torch
import torch.nn.functional as F
from torch import nn

from runner import config as cfg
from runner import data
from runner.cli.compose import config_of
from runner.training import schedules, seeding

from . import torch_networks as peers


def main() -> None:
    seed, overrides = int(sys.argv[1]), sys.argv[2:]
    config = config_of(["experiment=digits/best", f"train.seed={seed}", *overrides])
    paddle.base.core.set_num_threads(1)
    peers.set_threads(os.cpu_count() or 1)
    seeding.seed(seed)
    torch.manual_seed(seed)
    loaders = data.build(config.data, seed, augment=config.augment)
    began = time.perf_counter()
    network = train(config, loaders)
    seconds = time.perf_counter() - began
    network.eval()
    hits = images = 0
    with torch.no_grad():
        for batch in loaders.test:
            hits += int((network(tensor(batch.images)).argmax(1) == tensor(batch.labels)).sum())
            images += len(batch.indices)
    print(json.dumps({"top1": hits / images, "seconds": seconds}))


def train(config: cfg.Config, loaders: data.Loaders) -> nn.Module:
    """The averaged network after all epochs."""
    network = peers.build("mobilenet_v3_large_x0_5", len(loaders.classes)).to(memory_format=torch.channels_last)
    initialize(network)
    decay = [value for value in network.parameters() if value.ndim > 1]
    others = [value for value in network.parameters() if value.ndim <= 1]
    groups = [{"params": decay, "weight_decay": config.optimizer.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, config.optimizer.lr)
    average = {name: value.clone() for name, value in network.state_dict().items() if value.is_floating_point()}
    per_epoch, epochs = loaders.train.batches_per_epoch, config.train.epochs
    assert isinstance(config.loss, cfg.LabelSmoothing)
    assert config.train.ema
    step = 0
    loaders.train.epochs = epochs
    for epoch in range(epochs):
        for batch in loaders.train.epoch(epoch):
            rate = config.optimizer.lr * schedules.factor(config.schedule, step, epochs * per_epoch, per_epoch)
            for group in optimizer.param_groups:
                group["lr"] = rate
            images = tensor(batch.images).to(memory_format=torch.channels_last)
            loss = F.cross_entropy(network(images), tensor(batch.labels), label_smoothing=config.loss.epsilon)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            kept = min(config.train.ema, (1 + step) / (10 + step))
            with torch.no_grad():
                for name, value in network.state_dict().items():
                    if name in average:
                        average[name].mul_(kept).add_(value, alpha=1 - kept)
            step += 1
    network.load_state_dict(average, strict=False)
    return network


def initialize(network: nn.Module) -> None:
    """He's normal weights over the inputs of a filter, 0.01 in the classifier, biases 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.01)
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def tensor(value: paddle.Tensor) -> torch.Tensor:
    """The same numbers."""
    return torch.from_numpy(value.numpy())


if __name__ == "__main__":
    main()

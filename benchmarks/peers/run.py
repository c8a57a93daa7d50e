"""One peer in a process of its own: prints images/s as JSON. `python -m benchmarks.peers.run PEER CASE-AS-JSON`."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

CLASSES = 10
LEARNING_RATE = 1e-3


def main() -> None:
    peer, case = sys.argv[1], json.loads(sys.argv[2])
    step = {"paddle": paddle_loop, "kernels": paddle_loop, "torch": torch_loop, "lightning": lightning}[peer]
    print(json.dumps(step(case, peer)))


def batch(case: dict, count: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(images float32 [count · batch, 3, S, S], labels int64)."""
    generator = np.random.default_rng(0)
    size = case["batch"] * count
    images = generator.standard_normal((size, 3, case["side"], case["side"]), dtype=np.float32)
    return images, generator.integers(0, CLASSES, size)


def timed(step: Callable[[], object], case: dict) -> dict[str, float]:
    """Median speed of the steps after the first ones; `trace` names a file for the end and the seconds of each."""
    for _ in range(case["warm_up"]):
        step()
    seconds = []
    with open(case.get("trace", os.devnull), "w", buffering=1) as trace:
        for _ in range(case["steps"]):
            began = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - began)
            print(time.time(), seconds[-1], file=trace)
    return {"images_per_s": case["batch"] / statistics.median(seconds)}


def paddle_loop(case: dict, peer: str) -> dict[str, float]:
    """The loop a user would write in Paddle; `kernels`: with this package's layers and memory settings."""
    import paddle
    import paddle.nn.functional as F

    from runner import config as cfg
    from runner import device, models
    from runner.compression import qat
    from runner.kernels.accelerate import accelerate
    from runner.kernels.optimizer import AdamW

    paddle.base.core.set_num_threads(os.cpu_count())
    paddle.seed(0)
    model = cfg.MobileNetV3() if case["model"].startswith("mobilenet") else cfg.Vision(architecture=case["model"])
    networks = [models.build(model, CLASSES) for _ in range(case["networks"])]
    images, labels = map(paddle.to_tensor, batch(case))
    for network in networks:
        if case["qat"]:
            qat.quantize_and_calibrate(network, cfg.TrainedQuantization(), [images[:32]], trained=False)
        if peer == "kernels":
            device.tune_malloc()
            accelerate(network, (3, case["side"], case["side"]))
        network.train()
    parameters = [parameter for network in networks for parameter in network.parameters()]
    adamw = AdamW if peer == "kernels" else paddle.optimizer.AdamW
    optimizer = adamw(LEARNING_RATE, parameters=[{"params": parameters, "weight_decay": 0.01}])

    def mimic(logits: paddle.Tensor, peer: paddle.Tensor) -> paddle.Tensor:
        return F.kl_div(F.log_softmax(logits), F.softmax(peer.detach()), reduction="batchmean")

    def step() -> None:
        logits = [network(images) for network in networks]
        loss = sum(F.cross_entropy(values, labels) for values in logits)
        if len(logits) == 2:
            loss = loss + mimic(logits[0], logits[1]) + mimic(logits[1], logits[0])
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()

    return timed(step, case)


def torch_loop(case: dict, _peer: str) -> dict[str, float]:
    """The loop a user would write in PyTorch, eager and channels last."""
    import torch

    from . import torch_networks as peers

    peers.set_threads(os.cpu_count() or 1)
    networks = [peers.build(case["model"], CLASSES) for _ in range(case["networks"])]
    networks = [network.to(memory_format=torch.channels_last).train() for network in networks]
    images, labels = map(torch.from_numpy, batch(case))
    images = images.to(memory_format=torch.channels_last)
    parameters = [parameter for network in networks for parameter in network.parameters()]
    optimizer = torch.optim.AdamW(parameters, LEARNING_RATE)

    def step() -> None:
        peers.losses(networks, images, labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return timed(step, case)


def lightning(case: dict, _peer: str) -> dict[str, float]:
    """PyTorch Lightning with nothing but the progress of its loop: no logger, checkpoints, bar or summary."""
    import logging
    import warnings

    import lightning as L
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from . import torch_networks as peers

    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    peers.set_threads(os.cpu_count() or 1)

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            networks = [peers.build(case["model"], CLASSES) for _ in range(case["networks"])]
            self.networks = torch.nn.ModuleList(networks).to(memory_format=torch.channels_last)
            self.seconds: list[float] = []

        def training_step(self, given: Any, _index: int) -> Any:
            images, labels = given
            return peers.losses(list(self.networks), images.to(memory_format=torch.channels_last), labels)

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), LEARNING_RATE)

        def on_train_batch_end(self, *_: Any) -> None:
            self.seconds.append(time.perf_counter())

    total = case["warm_up"] + case["steps"]
    images, labels = map(torch.from_numpy, batch(case, total))
    module = Module()
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(images, labels), batch_size=case["batch"], shuffle=True))
    seconds = np.diff(module.seconds[case["warm_up"] :])
    return {"images_per_s": case["batch"] / float(np.median(seconds))}


if __name__ == "__main__":
    main()

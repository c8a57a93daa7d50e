"""Writes what is known of networks that others designed: `python -m docs.networks`.

All choices of `model`, and the classifiers of the installed PaddleClas, are names in `runner/config/networks.csv`. Each
is built with 1,000 classes and run on an image of the size that it was designed for: its parameters and MACs stand
beside it. One that gives no logits is left out. What was measured is kept: `python -m docs.networks NAME …` measures
again.
"""

from __future__ import annotations

import csv
import inspect
import re
import sys
from dataclasses import asdict
from typing import Any

from paddle import Tensor

from runner import config as cfg
from runner import models
from runner.cli.compose import config_of
from runner.cli.config_dir import choices
from runner.compression import slim
from runner.config import networks
from runner.config.networks import PADDLECLAS, TABLE, Network
from runner.errors import ConfigError, telling_line
from runner.models import paddleclas

CLASSES = 1000
#: Choices of `model` that stand for any network.
OPEN = ("custom", "vision", "paddleclas")
#: The size in a name, and those that are tried in turn where there is none.
SIZE, USUAL = re.compile(r"_(\d{3})(?:_|$)"), (224, 256, 112)
SIZES = {
    "inception_v3": 299, "paddleclas/InceptionV3": 299, "paddleclas/InceptionV4": 299,
    "efficientnet_lite1": 240, "efficientnet_lite2": 260, "efficientnet_lite3": 280, "efficientnet_lite4": 300,
    "resnet10_x0_5": 32, "resnet10_x1_0": 32, "resnet18_x0_5": 32,
}  # fmt: skip


def main(names: list[str]) -> None:
    """Measure what was not yet, or the networks of these names."""
    known = networks.by_name()
    # What was left out before is tried again only with all others.
    chosen = [name for name in every_name() if not names or name in known or name in names]
    rows = {name: known.get(name, Network(name)) for name in chosen}
    for name in names or [name for name, row in rows.items() if row.macs is None]:
        try:
            rows[name] = measure(name)
        except ConfigError as error:
            del rows[name]
            print(f"{name}: {' '.join(str(error).split())[:300]}", flush=True)
        write(rows)
    print(f"{len(rows)} networks")


def write(rows: dict[str, Network]) -> None:
    """The table."""
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(Network.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows.values())


def every_name() -> list[str]:
    """This package's own networks, those of `paddle.vision`, and PaddleClas's that take a number of classes."""
    backbones = paddleclas.backbones()
    functions = {name: getattr(backbones, name) for name in sorted(backbones.__all__)}
    taking = [name for name, function in functions.items() if inspect.isfunction(function) and takes_classes(function)]
    return [*own_names(), *cfg.ARCHITECTURES, *(f"{PADDLECLAS}{name}" for name in taking)]


def own_names() -> list[str]:
    """The choices of `model` that this package designed or wrote itself."""
    return [name for name in choices()["model"] if name not in (*cfg.ARCHITECTURES, *OPEN)]


def takes_classes(create: Any) -> bool:
    """Whether a function makes a network of any number of classes: those that embed faces take fixed arguments."""
    parameters = inspect.signature(create).parameters.values()
    needed = [one for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]
    return not needed and any(one.kind is one.VAR_KEYWORD for one in parameters)


def measure(name: str) -> Network:
    """Build a network and run it. Errors: ConfigError where it does not give logits at any of the sizes."""
    match = SIZE.search(name)
    sizes = [SIZES[name]] if name in SIZES else [int(match[1])] if match else USUAL
    for size in sizes:
        network = models.build(config_of([f"model={name}", f"data.image_size={size}"]).model, CLASSES)
        outputs: list[Any] = []
        network.register_forward_post_hook(lambda _layer, _images, output: outputs.append(output))  # noqa: B023
        try:
            macs = models.macs(network, (3, size, size))
        except Exception as error:
            if size == sizes[-1]:
                raise ConfigError(telling_line(error)) from error
            continue
        if not isinstance(outputs[0], Tensor) or outputs[0].shape != [1, CLASSES]:
            raise ConfigError("it gives no logits")
        return Network(name, size, slim.parameters(network), macs)
    raise AssertionError(sizes)


if __name__ == "__main__":
    main(sys.argv[1:])

"""PaddleClas' networks as choices of `model`, by their names."""

from __future__ import annotations

import difflib

from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import OmegaConf

from ..config import networks
from ..errors import nearest

GROUP = "paddleclas"


class Choices(dict[str, None]):
    """A folder of Hydra's store that creates configs on access: of hundreds a command needs one or two."""

    def __getitem__(self, file: str) -> ConfigNode:  # type: ignore[override]
        if file not in self:
            raise KeyError(file)
        defaults = [f"/schema/model/{GROUP}@_here_", "_self_"]
        choice = {"defaults": defaults, "architecture": file.removesuffix(".yaml"), "image_size": "${data.image_size}"}
        return ConfigNode(name=file, node=OmegaConf.create(choice), group=f"model/{GROUP}", package=None, provider=None)


def register() -> None:
    """Make `model=paddleclas/NAME` a choice for every network."""
    files = dict.fromkeys(f"{name}.yaml" for name in networks.paddleclas())
    ConfigStore.instance().repo.setdefault("model", {})[GROUP] = Choices(files)


def suggestion(choice: str, valid: list[str]) -> str:
    """The hint after `There is no model=…`: the most similar name, and how to list all."""
    paths = {f"{GROUP}/{name}".lower(): f"{GROUP}/{name}" for name in networks.paddleclas()}
    lower = choice.lower()
    meant = paths.get(lower) or paths.get(f"{GROUP}/{lower}")
    if not meant and lower.startswith(f"{GROUP}/"):
        meant = paths.get(next(iter(difflib.get_close_matches(lower, paths, n=1, cutoff=0.5)), ""))
    if meant:
        return f" Did you mean '{meant}'?\n`runner models {GROUP}` lists them."
    return f"{nearest(choice, valid)}\nValid: {', '.join(valid)}, and what `runner models {GROUP}` lists"

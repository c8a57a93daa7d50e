"""The composed config as a tree."""

from __future__ import annotations

import argparse
import json
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf
from rich.text import Text
from rich.tree import Tree

from ... import terminal
from ...config import store
from ...terminal import screen
from .. import compose
from ..config_dir import config_dir
from ..overrides import all_readable


def main(arguments: list[str]) -> int:
    """`config [GROUP=CHOICE …] [KEY=VALUE …]`: what these overrides compose, checked as before a run."""
    parser = argparse.ArgumentParser(
        prog="runner config",
        description="Show the config that overrides compose, as a tree; what differs from the defaults is bold.",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for a run")
    overrides = all_readable(parser.parse_args(arguments).overrides)
    compose.register()
    try:
        with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
            composed = hydra.compose("config", overrides, return_hydra_config=True)
            default = hydra.compose("config", return_hydra_config=True)
            # `optimizer@mode.peer_optimizer` is a choice at the place after the @.
            choices = {key.rpartition("@")[2]: choice for key, choice in composed.hydra.runtime.choices.items()}
            store.from_composition(hydra.compose("config", overrides))
    except Exception as error:
        raise compose.explain(error, overrides) from error
    top = Tree(f"runner {terminal.words(overrides)}", guide_style="dim")
    _grow(top, _plain(composed), _plain(default), choices, "")
    screen().print(top)
    return 0


def _plain(composed: DictConfig) -> dict[str, Any]:
    plain = {key: value for key, value in composed.items_ex(resolve=False) if key != "hydra"}
    return dict(OmegaConf.to_container(OmegaConf.create(plain), enum_to_str=True) or {})  # type: ignore[arg-type]


def _grow(tree: Tree, values: dict[str, Any], default: Any, choices: dict[str, Any], path: str) -> None:
    """Add keys and values; `default` is the value without overrides, and may have other keys."""
    for key, value in values.items():
        before = default.get(key) if isinstance(default, dict) else None
        name = str(key)
        if isinstance(value, dict) and value:
            choice = choices.get(path + str(key))
            chosen = (f" {choice}", "green") if choice else ""
            branch = tree.add(Text.assemble((name, "bold cyan"), chosen))
            _grow(branch, value, before, choices, f"{path}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            tree.add(Text.assemble(f"{name}: ", (text, "" if value == before else "bold yellow")))

"""Where the configs are and which choices they offer."""

from __future__ import annotations

from pathlib import Path

from ..config import ARCHITECTURES, Config, networks


def config_dir() -> Path:
    """The folder `conf`: inside the installed package, else next to it in the source tree."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def choices() -> dict[str, list[str]]:
    """Config group → its choices, in the order of the schema."""
    root = config_dir()
    by_group = {
        group: sorted(str(file.relative_to(root / group).with_suffix("")) for file in (root / group).rglob("*.yaml"))
        for group in [*Config.__dataclass_fields__, "sweep/optuna", "experiment"]
        if group == "experiment" or any((root / group).glob("*.yaml"))
    }
    return by_group | {"model": [*by_group["model"], *ARCHITECTURES]}


def completed(line: str) -> list[str] | None:
    """Completions of the last word if it is GROUP=… or GROUP@PACKAGE=…, else None.

    Hydra's own completion lacks packages, lists, and choices in folders, such as paddleclas/….
    """
    word = line.rpartition(" ")[2]
    key, equals, typed = word.partition("=")
    names = choices().get(key.lstrip("+").partition("@")[0])
    if not equals or names is None:
        return None
    before, comma, last = typed.rpartition(",")
    if key.lstrip("+").partition("@")[0] == "model":
        inside = [networks.PADDLECLAS + name for name in networks.paddleclas()]
        names = [*names, *(inside if last.startswith(networks.PADDLECLAS) else [networks.PADDLECLAS])]
    return [f"{key}={before}{comma}{name}" for name in names if name.startswith(last)]

"""Where the configs are and which choices they offer."""

from __future__ import annotations

from pathlib import Path

from ..config import NAMED, Config


def config_dir() -> Path:
    """The folder `conf`: inside the installed package, else beside it in the source tree."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def choices() -> dict[str, list[str]]:
    """Config group → its choices, in the order of the schema."""
    root = config_dir()
    found = {
        group: sorted(str(file.relative_to(root / group).with_suffix("")) for file in (root / group).rglob("*.yaml"))
        for group in [*Config.__dataclass_fields__, "sweep/optuna", "experiment"]
        if group == "experiment" or any((root / group).glob("*.yaml"))
    }
    return found | {"model": [*found["model"], *NAMED]}

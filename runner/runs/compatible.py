"""Config changes that a resumed run may have."""

from __future__ import annotations

import re

from .. import config as cfg
from .. import terminal
from ..config import store
from ..errors import ConfigError

#: Keys that a resumed run may change: its saved state stays valid. A dot at the end stands for all keys below. Those
#: that say where images are may, since the images themselves are compared with those of the checkpoint.
FREE = (
    "name", "tracking.", "checkpoint.", "launch.", "sweep.", "deploy.", "debug.profile",
    "train.epochs", "train.max_steps", "train.max_minutes", "train.patience", "train.min_delta", "train.eval_every",
    "train.eval_every_steps", "train.log_every",
    "train.threads", "train.device", "train.accelerate", "train.plots", "train.callbacks",
    "optimizer.lr", "optimizer.clip_norm", "schedule.",
    "mode.peer_optimizer.lr", "mode.peer_optimizer.clip_norm", "mode.peer_schedule.",
    "data.root", "data.train", "data.val", "data.test", "data.label_file", "data.download",
    "data.workers", "data.cache", "data.eval_batch_size", "data.check", "data.on_error",
)  # fmt: skip
#: The same for teachers: where they are now, which their digest in the checkpoint confirms, and whether their code is
#: trusted.
FREE_OF_TEACHERS = re.compile(r"mode\.(more_teachers\.\w+\.)?(teacher_from|teacher\.weights|trust)")
#: Keys that say when a run is complete.
LENGTH = ("train.epochs", "train.max_steps", "train.max_minutes", "train.patience")
#: Changed keys that are tags in MLflow, since its parameters cannot change.
TOLD = (*LENGTH, "optimizer.lr", "optimizer.clip_norm")


def changes(stored: cfg.Config, wanted: cfg.Config) -> dict[str, tuple[str | None, str | None]]:
    """Key → (stored value, wanted value) of every key that differs; None if one of them lacks the key."""
    old, new = store.flatten(stored), store.flatten(wanted)
    return {key: (old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)}


def check(stored: cfg.Config, wanted: cfg.Config, where: str, overrides: list[str]) -> dict[str, str | None]:
    """The keys that change and their new values. `overrides` are what the stored run was started with.

    Errors: ConfigError for a change that needs a new run.
    """
    changed = changes(stored, wanted)
    otherwise = (_crops_otherwise, _may_weigh_otherwise)
    bad = {
        key: values
        for key, values in changed.items()
        if not _free(key) or any(rule(key, stored, wanted) for rule in otherwise)
    }
    if bad:
        # A changed choice changes the keys below it: those that both sides have say most.
        telling = sorted(bad, key=lambda key: None in bad[key])
        listed = "".join(
            f"\n  {key}: the run has {_shown(bad[key][0])}, this command {_shown(bad[key][1])}" for key in telling[:5]
        )
        more = f"\n  and {len(bad) - 5} more" if len(bad) > 5 else ""
        repeated = [text for text in overrides if not text.startswith("checkpoint.resume=")]
        raise ConfigError(
            f"{where} cannot be continued with another config:{listed}{more}\n"
            f"It was started with: {terminal.words(repeated) or '(no overrides)'}\n"
            "Repeat those, or start a new run elsewhere (hydra.run.dir=DIR), from these weights if there are any: "
            "checkpoint.init_from=RUN"
        )
    return {key: new for key, (_, new) in changed.items()}


def _shown(value: str | None) -> str:
    return "no such key" if value is None else value


def _crops_otherwise(key: str, stored: cfg.Config, wanted: cfg.Config) -> bool:
    """Whether a key decides if random crops are cut out of whole pictures or of kept ones, which are other images."""
    if key != "data.cache" or not wanted.augment.enabled or wanted.augment.crop_scale is None:
        return False
    return any(isinstance(one.data, cfg.Pictures) and one.data.cache is cfg.Cache.none for one in (stored, wanted))


def _may_weigh_otherwise(key: str, stored: cfg.Config, _: cfg.Config) -> bool:
    """Whether a key may change the order of the classes, in which factors without names are."""
    weights = stored.loss.class_weights if isinstance(stored.loss, cfg.WeightedLoss) else None
    return key == "data.label_file" and isinstance(weights, list)


def _free(key: str) -> bool:
    return bool(FREE_OF_TEACHERS.fullmatch(key)) or any(
        key == free or (free.endswith(".") and key.startswith(free)) for free in FREE
    )

"""The overrides of a sweep: which of them its jobs have, and what makes two sweeps the same."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ..files.digests import digest_of

#: Overrides that decide how a sweep runs, and not what its jobs compute.
OF_THE_COMMAND = ("sweep.", "hydra.", "hydra/", "launch.")
#: Keys in which the runs of one configuration may differ.
REPEATS = ("train.seed", "data.fold", "data.split_seed")


def digest(overrides: list[str], varied: Collection[str]) -> str:
    """Eight hexadecimal digits for what a sweep computes, in whatever order different keys are written.

    `varied`: the keys that it varies.
    """
    own = of_jobs(overrides, varied)
    cleared = [text + "\0" * _clearings(text, own[place + 1 :]) for place, text in enumerate(own)]
    # Of overrides of one key the last one counts: the sort keeps their order.
    return digest_of(["\n".join(sorted(cleared, key=key_of))], size=4)


def key_of(override: str) -> str:
    """The key that an override changes, adds or removes."""
    return override.lstrip("+~").partition("=")[0]


def _clearings(override: str, later: Iterable[str]) -> int:
    """How many later overrides replace or remove a mapping that an override changes a key of."""
    return sum(
        key_of(override).startswith(f"{key_of(text)}.")
        and (text.startswith("~") or text.partition("=")[2].startswith(("{", "null")))
        for text in later
    )


def of_jobs(overrides: Iterable[str], varied: Collection[str]) -> list[str]:
    """The overrides that say what a sweep's jobs compute, and those of the keys in which these differ, `varied`."""
    return [text for text in overrides if key_of(text) in varied or not key_of(text).startswith(OF_THE_COMMAND)]

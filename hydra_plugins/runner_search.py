"""Searches by Optuna as a sweeper of Hydra's, which looks for sweepers in this namespace alone: no `__init__.py` here.

Hydra imports this for every command, of other programs as well.
"""

from __future__ import annotations

from typing import Any

from hydra.plugins.sweeper import Sweeper


class Search(Sweeper):
    """`hydra/sweeper=search`: has `runner.cli.search` carry out what `sweep.optuna` says."""

    def __init__(self, params: dict[str, str] | None = None) -> None:
        """`params`: key → what it is varied over, in the grammar of Hydra's overrides."""
        self.params = params or {}

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Keep the config that Hydra composed, without what is swept, and make the launcher."""
        from hydra.core.plugins import Plugins

        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the search. `arguments` are the overrides of the command."""
        from runner.cli import search

        search.run(self.config, self.launcher, [*(f"{key}={value}" for key, value in self.params.items()), *arguments])

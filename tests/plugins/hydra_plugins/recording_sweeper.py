"""Hydra's own sweeper, which writes down what the jobs returned. Plugins are found in this namespace package only."""

import json
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class RecordingSweeper(BasicSweeper):
    """Writes `returned.json` into the working directory."""

    def sweep(self, arguments):
        results = super().sweep(arguments)
        values = [result.return_value for batch in results for result in batch]
        Path("returned.json").write_text(json.dumps(values))
        return results

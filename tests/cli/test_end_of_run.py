"""What the end of a run says to type next can be typed."""

from __future__ import annotations

import shlex

import pytest

from runner.cli import end_of_run
from runner.runs import result as results

OWN_LOSS = ["loss=custom", "loss.target=my_losses:loss"]
TWO = ["data=custom", "data.target=my_data:two", "data.channels=2", "data.mean=[0,0]", "data.std=[1,1]"]


@pytest.mark.parametrize(
    ("overrides", "use"),
    [
        ([], "PICTURE…"),
        (OWN_LOSS, "PICTURE… trust=true"),
        (["data=custom", "data.target=my_data:spots"], "PICTURE… trust=true"),
        (["tracking=custom", "tracking.also.custom.target=my_trackers:Tracker"], "PICTURE…"),
        (TWO, None),
    ],
)
def test_the_command_that_predicts_is_one_that_the_run_takes(finished, config_of, capsys, overrides, use):
    directory = finished / "run"
    end_of_run.show(config_of(*overrides), directory, results.read(directory / "result.json"))
    uses = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Use ")]
    assert [shlex.split(line)[6:] for line in uses] == ([use.split()] if use else [])

"""Which processes a command belongs to, as the environment says."""

from __future__ import annotations

import pytest

from runner.errors import ConfigError
from runner.launch import nodes


@pytest.mark.parametrize(
    "left",
    [
        {"PADDLE_TRAINERS_NUM": "4"},
        {"PADDLE_TRAINERS_NUM": "x"},
        {"PADDLE_TRAINERS_NUM": "2", "PADDLE_TRAINER_ID": "1"},
        {"PADDLE_TRAINERS_NUM": "2", "PADDLE_TRAINER_ID": "2", "PADDLE_MASTER": "127.0.0.1:1"},
    ],
)
def test_a_part_of_a_launchers_variables_is_refused(monkeypatch, left):
    for name in ("PADDLE_TRAINERS_NUM", "PADDLE_TRAINER_ID", "PADDLE_MASTER"):
        monkeypatch.delenv(name, raising=False)
    assert not nodes.is_launched()
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="unset PADDLE_TRAINERS_NUM"):
        nodes.is_launched()


def test_a_process_of_a_launcher_says_what_it_waits_for(monkeypatch):
    for name, value in {"TRAINERS_NUM": "2", "TRAINER_ID": "1", "MASTER": "10.0.0.1:99"}.items():
        monkeypatch.setenv(f"PADDLE_{name}", value)
    assert nodes.is_launched()
    assert nodes.launched().startswith("Process 1 of 2 waits for the others at 10.0.0.1:99, as PADDLE_TRAINERS_NUM=2")

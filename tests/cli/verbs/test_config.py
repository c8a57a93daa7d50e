"""The composed config as a tree."""

from __future__ import annotations

import re


def test_the_tree_has_every_choice_and_value_and_no_control_characters(command, tmp_path):
    said = ["mode=cls_distill_multiopt", "optimizer@mode.peer_optimizer=sgd", "train.epochs=31", "compression=fpgm"]
    done = command("config", *said, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [re.sub(r"^[│├└─ ]+", "", line) for line in done.stdout.splitlines()]
    assert lines[0] == " ".join(["runner", *said])
    for line in (
        "mode cls_distill_multiopt",
        "peer_optimizer sgd",
        "epochs: 31",
        "sync_batchnorm: false",
        "kind: fpgm",
    ):
        assert line in lines
    assert "\x1b" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_on_a_terminal_what_differs_from_the_defaults_is_marked(command, tmp_path):
    done = command("config", "train.epochs=31", cwd=tmp_path, env={"FORCE_COLOR": "1", "TERM": "xterm-256color"})
    lines = {re.sub(r"\x1b\[[\d;]*m", "", line).split("─ ")[-1]: line for line in done.stdout.splitlines()}
    assert "\x1b[1;33m31" in lines["epochs: 31"]
    assert "\x1b[1;33m" not in lines["seed: 0"]


def test_what_could_not_be_trained_is_refused_here_as_well(command, tmp_path):
    done = command("config", "optimizer.lrr=1", cwd=tmp_path)
    assert done.returncode == 2
    assert "Did you mean optimizer.lr=1?" in done.stderr

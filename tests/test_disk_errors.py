"""What is said of files that cannot be written or read."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
from pathlib import Path

from runner.__main__ import VERBS, WITH_OUTPUT
from runner.files.disk_errors import OUTPUT, disk_error, run_disk_error

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_error_of_an_open_file_is_told_with_the_place_and_never_none():
    assert str(disk_error(FULL, Path("a/b.csv"), OUTPUT)) == (
        "a/b.csv cannot be written: No space left on device. Make room there, or name another place: --output"
    )
    assert str(disk_error(FULL)).startswith("A file cannot be written: No space left on device. Make room there, or")


def test_a_command_without_another_place_does_not_name_one():
    assert str(disk_error(FULL, Path("a"), "")).endswith("Make room there, then try again.")


def test_only_a_run_that_is_trained_is_told_how_to_resume(tmp_path):
    assert "checkpoint.resume" not in str(run_disk_error(FULL, tmp_path))
    (tmp_path / "checkpoints").mkdir()
    assert str(run_disk_error(FULL, tmp_path)).endswith(f"hydra.run.dir={tmp_path} checkpoint.resume=auto")
    assert "checkpoint.resume" not in str(disk_error(FULL, tmp_path, OUTPUT))


def test_the_commands_that_are_told_to_name_an_output_have_that_option(capsys):
    for verb in VERBS:
        with contextlib.suppress(SystemExit):
            importlib.import_module(f"runner.cli.verbs.{verb}").main(["--help"])
        assert ("--output" in capsys.readouterr().out) == (verb in WITH_OUTPUT), verb

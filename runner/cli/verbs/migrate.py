"""Migrates runs of earlier versions to this one."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ...errors import RunFailed, UserError
from ...terminal import counted
from ..open_run import runs_below


def main(arguments: list[str]) -> int:
    """`migrate [RUN…] [--dry-run]`; a folder stands for all runs below it."""
    parser = argparse.ArgumentParser(
        prog="runner migrate",
        description="Bring the files of stored runs to this version. The originals are kept in before-migration/.",
    )
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", default=["outputs"], help="run directories, or folders of them (outputs)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what there is to do")
    options = parser.parse_args(arguments)
    directories = list(dict.fromkeys(directory for place in options.runs for directory in runs_below(Path(place))))
    # Most runs have nothing to do, and no need of Paddle.
    from ...checkpoints.migration import migrate

    failures, changed = {}, 0
    for directory in directories:
        name = os.path.relpath(directory)
        try:
            changed_here, notes = migrate(directory, options.dry_run)
        except UserError as error:
            failures[name] = error
            print(f"{name}: left as it is: {error}")
            continue
        changed += bool(changed_here)
        for line in changed_here:
            print(f"{name}: {'would change ' if options.dry_run else ''}{line}")
        for line in notes:
            print(f"{name}: {line}")
    word = "to migrate" if options.dry_run else "migrated"
    every = counted(len(directories), "run")
    print(f"{changed} of {every} {word}, {len(directories) - changed - len(failures)} up to date")
    if failures:
        first = next(iter(failures.values()))
        raise RunFailed(f"Left as they are: {', '.join(failures)}. The reasons are given above.", first.exit_code)
    return 0

"""Runs under random faults: what they end with, and what gets lost on the way.

    python -m tests.chaos [--faults N] [--seed N] [--only "COMPOSITION, PROCESSES"]

Prints a table, and ends with exit code 1 where anything was lost. Needs a real MLflow server and, for full disks, the
right to mount one of its own.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.processes import Server

from .disturbed import COMPOSITIONS, Account, Disturbed, note, undisturbed
from .faults import FAULTS, full_disk

#: Faults of one run, before it may come to its end.
PER_RUN = (3, 6)
Pair = tuple[str, int]


def chaos(faults: int, seed: int, pairs: list[Pair], folder: Path) -> Account:
    """Disturb runs of some (composition, number of processes) until that many faults have happened."""
    generator, account = random.Random(seed), Account()
    whole = {pair: undisturbed(*pair, folder / "whole" / f"{pair[0]}-{pair[1]}") for pair in pairs}
    upcoming: list[Pair] = []
    bag: list[int] = []
    with Server(folder) as server:
        server.start()
        number = 0
        while (done := sum(account.faults.values())) < faults:
            if not upcoming:
                upcoming = generator.sample(pairs, len(pairs))
            pair = upcoming.pop()
            directory, seconds = whole[pair]
            number += 1
            run = Disturbed(*pair, folder / f"run{number}", server, account)
            try:
                for _ in range(min(generator.randint(*PER_RUN), faults - done)):
                    # Every kind comes once before any comes again.
                    bag = bag or generator.sample(range(len(FAULTS)), len(FAULTS))
                    fault = FAULTS[bag.pop()]
                    if fault is full_disk and not run.has_disk:
                        continue
                    if run.is_complete:
                        break
                    moment = generator.uniform(0.1, 0.9) * seconds
                    note(f"run {number} ({run.name}): {fault.__name__} after {moment:.1f} s")
                    run.suffer(fault, moment, generator)
                run.finish()
                run.compare(directory)
            finally:
                run.close()
    return account


def table(account: Account) -> str:
    """What happened and what came of it."""
    rows = [f"{'fault':20}{'times':>6}  exit codes of the commands"]
    for name in sorted(account.exits):
        codes = ", ".join(f"{code} ({count})" for code, count in sorted(account.exits[name].items()))
        rows.append(f"{name:20}{account.faults[name]:>6}  {codes}")
    survived = sorted(set(account.faults) - set(account.exits))
    rows += [f"{name:20}{account.faults[name]:>6}  the run goes on" for name in survived]
    rows.append(f"{'all':20}{sum(account.faults.values()):>6}")
    rows.append(f"{account.points} metric points and {account.checkpoints} newest checkpoints were looked at")
    for what, found in account.broken.items():
        rows += [f"{what}: {len(found)}", *(f"    {one}" for one in found)]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--only", help="runs of one kind, such as 'cls_distill, 2'")
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time")
    options = parser.parse_args()
    seed = random.randrange(1 << 30) if options.seed is None else options.seed
    note(f"seed {seed}")
    began = time.monotonic()
    every = [(name, world) for name in COMPOSITIONS for world in (1, 2)]
    pairs = [pair for pair in every if options.only in (None, f"{pair[0]}, {pair[1]}")]
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        account = chaos(options.faults, seed, pairs, Path(folder))
    print(f"seed {seed}, {time.monotonic() - began:.0f} s\n{table(account)}")
    sys.exit(any(account.broken.values()))


if __name__ == "__main__":
    main()

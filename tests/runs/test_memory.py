"""What reads a journal takes the same memory for one that is thirty times as long."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import many_runs
from runner.config import store
from tests.conftest import composed

ROOT = Path(__file__).parents[2]
#: Largest resident megabytes since this program was loaded, which `ru_maxrss` is not of.
PEAK = "; print(next(int(line.split()[1]) / 1024 for line in open('/proc/self/status') if line.startswith('VmHWM')))"
#: To a store in the run directory, of an experiment of its own.
TO_MLFLOW = (
    "from runner.config import Config, Mlflow; from runner.tracking.tracker import build; "
    "build(Path(sys.argv[1]), Config(), 'mlflow', Mlflow(uri=f'sqlite:///{sys.argv[1]}/mlflow.db'), print).replay()"
)


def peak(run: Path, use: str, lines: int) -> float:
    """Megabytes of a process that does one thing with a run."""
    code = f"import sys; from pathlib import Path; {use}{PEAK}"
    done = subprocess.run(
        [sys.executable, "-c", code, str(run), str(lines)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return float(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    """Writes an unfinished run whose journal has so many lines of training."""
    folder = tmp_path_factory.mktemp("long")
    store.write(composed("tracking=none"), folder / "config.yaml")

    def write(lines: int) -> Path:
        run = folder / str(lines)
        if not run.exists():
            many_runs.write_run(run, (folder / "config.yaml").read_text(), [], 10, 0)
            (run / "mlflow.json").unlink()
            many_runs.write_journal(run, lines, 0, ends=False)
        return run

    return write


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("use", many_runs.USES)
def test_memory_does_not_grow_with_the_journal(long_run, use):
    short, long = (peak(long_run(lines), many_runs.USES[use], lines) for lines in (10_000, 300_000))
    # The journal is 60 MB longer.
    assert long < short + 8, f"{short:.0f} MB for 10,000 lines, {long:.0f} MB for 300,000"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nor_does_that_of_sending_it_to_mlflow(long_run):
    short, long = (peak(long_run(lines), TO_MLFLOW, lines) for lines in (2_000, 30_000))
    assert long < short + 20, f"{short:.0f} MB for 2,000 lines, {long:.0f} MB for 30,000"

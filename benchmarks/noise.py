"""What the verdict on a sweep over seeds is worth, on simulated sweeps: `python -m benchmarks.noise`.

Nothing is trained: what each run of 8 configurations × 5 seeds came to is drawn, with noise of its own and noise that
a seed gives to all configurations, and judged as the report judges it. Some differences are planted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from runner.report import comparisons

from . import harness

SWEEPS, CONFIGURATIONS, SEEDS = 200, 8, 5
#: Sweeps whose metric counts a few images: configurations, seeds, images, and how probably one is right.
COUNTS = [(2, 2, 8, 0.5), (2, 2, 144, 0.97), (2, 3, 20, 0.8), (4, 2, 20, 0.8), (8, 5, 8, 0.8)]
#: Planted differences, in deviations of one result.
DIFFERENCES = (1.0, 2.0, 2 * math.sqrt(2), 4.0)


def simulated(
    generator: np.random.Generator, shifts: Sequence[float], deviations: float | Sequence[float] = 1.0
) -> dict[str, dict[int, float]]:
    """Configuration → seed → what it came to, where the means differ by `shifts` and the noise has deviation 1."""
    noise = generator.normal(size=(len(shifts), SEEDS)) * np.reshape(deviations, (-1, 1))
    values = np.reshape(shifts, (-1, 1)) + noise + generator.normal(size=SEEDS)
    return {f"c{row}": {seed: float(value) for seed, value in enumerate(one)} for row, one in enumerate(values)}


def real(scores: Mapping[str, Mapping[int, float]]) -> set[str]:
    """The configurations that are called different from the best one."""
    return {name for name, one in comparisons.behind(scores).items() if one and one.is_real}


def false_alarms(generator: np.random.Generator, deviations: float | Sequence[float] = 1.0) -> int:
    """Sweeps of equal configurations in which one is called different."""
    return sum(bool(real(simulated(generator, [0.0] * CONFIGURATIONS, deviations))) for _ in range(SWEEPS))


def false_alarms_of_counts(
    generator: np.random.Generator, configurations: int, seeds: int, images: int, right: float
) -> int:
    """The same, where the result is the share of some images that is right."""
    draws = generator.binomial(images, right, (SWEEPS, configurations, seeds)) / images
    tables = ({f"c{row}": dict(enumerate(map(float, one))) for row, one in enumerate(sweep)} for sweep in draws)
    return sum(bool(real(table)) for table in tables)


def found(generator: np.random.Generator, difference: float) -> tuple[float, int]:
    """Share of the worse half of the configurations that is found, and sweeps with an alarm in the equal half."""
    half = CONFIGURATIONS // 2
    worse = {f"c{row}" for row in range(half, CONFIGURATIONS)}
    called = [real(simulated(generator, [0.0] * half + [-difference] * half)) for _ in range(SWEEPS)]
    share = sum(len(names & worse) for names in called) / (SWEEPS * half)
    return share, sum(bool(names - worse) for names in called)


def main() -> None:
    """Print both."""
    generator = np.random.default_rng(0)
    print(f"{SWEEPS} simulated sweeps each, {CONFIGURATIONS} configurations × {SEEDS} seeds unless it says others\n")
    noisy = [5.0] + [1.0] * (CONFIGURATIONS - 1)
    rows = []
    for name, deviations in (("nothing", 1.0), ("nothing; one configuration is five times noisier", noisy)):
        rows.append([name, "", f"{false_alarms(generator, deviations) / SWEEPS:.1%}"])
    for configurations, seeds, images, right in COUNTS:
        alarms = false_alarms_of_counts(generator, configurations, seeds, images, right)
        name = f"nothing; {configurations} × {seeds}, {right:.0%} of {images} images are right"
        rows.append([name, "", f"{alarms / SWEEPS:.1%}"])
    for difference in DIFFERENCES:
        share, alarms = found(generator, difference)
        name = f"4 of 8 worse by {difference:.1f} deviations of one result"
        rows.append([name, f"{share:.0%}", f"{alarms / SWEEPS:.1%}"])
    harness.print_table(["planted", "found", "false alarms"], rows)


if __name__ == "__main__":
    main()

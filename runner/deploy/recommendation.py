"""Which of the exported files is recommended on this machine."""

from __future__ import annotations

from pathlib import Path

from .. import config as cfg
from . import bench
from .manifest import Manifest

#: How much faster a file must be to be preferred to a smaller one.
FASTER = 1.05


def recommend(folder: Path, manifest: Manifest, settings: cfg.Deploy) -> list[bench.Timing]:
    """Measure every file and note the best: the fastest that agrees enough, or a smaller one that is about as fast.

    Without a measurement it is the smallest that agrees enough, in the first engine that computes it; one in float16,
    which is small but not always fast, only where there is no other. If none agrees enough, it is the one that agrees
    most. Files of the precision `deploy.recommend`, if there are any, come before all others.
    """
    files = [file for file in manifest.files if file.engine]
    if not files:
        return []
    wanted = settings.recommend and settings.recommend.value
    chosen = [file for file in files if file.precision == wanted] or files
    closest = max(file.agreement or 0 for file in chosen)
    fit = [file for file in chosen if (file.agreement or 0) >= min(settings.agreement, closest)]
    timings, near = list[bench.Timing](), [file for file in fit if file.precision != "float16"] or fit
    if settings.bench_s:
        entries = [bench.Entry(manifest.network, folder, manifest, file) for file in files]
        timings = bench.measure(entries, [1], settings.bench_s, settings.threads)
        latency = {id(timing.entry.file): timing.p50_ms for timing in timings}
        fastest = min(latency[id(file)] for file in fit)
        near = [file for file in fit if latency[id(file)] <= FASTER * fastest]
    best = min(near, key=lambda file: file.bytes)
    manifest.recommended, manifest.recommended_engine = best.path, best.engine
    return timings

"""Pictures from the disk: images/s beside PyTorch's loader, large photos, later epochs, a million files.

    python -m benchmarks.folder_pipeline [--rounds N] [--only TABLE…]

Pictures are made here, JPEGs of quality 90. Their amplitudes fall with frequency as those of photos do (an exponent of
1.3), of large ones also as a lens has it; `noisy` ones have 12 grey levels of a sensor's noise beside, which can hardly
be compressed, nor skipped by a decoder. What is compared takes turns, in processes of its own, with everything in the
page cache. PyTorch's loader has Pillow and does what torchvision's transforms do, whose package wants another PyTorch.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from runner import config as cfg
from runner import device, images

from . import harness

if TYPE_CHECKING:
    from runner.data.loaders import TrainLoader

SIDE, BATCH, WORKERS = 224, 128, 2
KINDS = {"photos": 0.0, "noisy": 12.0}
#: Pictures of 500×375 pixels of which each is seen several times in an epoch; photos of 12 megapixels.
DIFFERENT, REPEATED, LARGE = 250, 16, 3
FILES, FEW, CLASSES = 1_000_000, 1_000, 100
#: Starts that are compared with the first one: overrides, with a folder of lists and of files.
STARTS = {
    f"{FEW:,} listed files": "data=files data.train={0}/few.txt data.root={0}/files",
    f"{FILES:,} listed files": "data=files data.train={0}/many.txt data.root={0}/files",
    "the same, two processes": "data=files data.train={0}/many.txt data.root={0}/files launch.nproc_per_node=2",
    f"{FILES:,} files in folders": "data=image_folder data.root={0}/files",
}
#: What is promised: times PyTorch's images/s, times what decoding alone reaches on the same cores, times the speed of a
#: whole decode, times the first epoch.
MIN_PEER, MIN_ALONE, MIN_LARGE, MIN_CACHED = 1.2, 0.9, 4.0, 4.0
#: Seconds to the first step with a million files, and MB beyond a start with a thousand; MB of a process that decodes.
MAX_START_S, MAX_START_MB, MAX_WORKER_MB = 30.0, 1024.0, 16.0


def photo(width: int, height: int, noise: float, detail: float, seed: int) -> Image.Image:
    """A picture that looks like a photo to a codec; `detail`: waves of a pixel that a lens lets through."""
    generator = np.random.default_rng(seed)
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    amplitude = 1 / np.maximum(np.hypot(down * height, across * width), 1) ** 1.3
    amplitude *= np.exp(-((np.hypot(down, across) / detail) ** 2))
    waves = (amplitude * np.exp(2j * np.pi * generator.random(amplitude.shape)) for _ in range(3))
    grey, red, blue = (np.fft.irfft2(wave, (height, width)) for wave in waves)
    planes = [plane / plane.std() for plane in (grey + 0.3 * red, grey, grey + 0.3 * blue)]
    pixels = 118 + 50 * np.stack(planes, axis=-1) + noise * generator.standard_normal((height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write(folder: Path, _: str) -> dict[str, float]:
    """Small and large pictures of every kind; in a process of its own, since who starts one counts as its memory."""
    sizes = {"small": (500, 375, 1.0, DIFFERENT), "large": (4000, 3000, 0.25, LARGE)}
    for kind, noise in KINDS.items():
        for size, (width, height, detail, count) in sizes.items():
            place = folder / f"{size}-{kind}"
            place.mkdir()
            for number in range(count):
                photo(width, height, noise, detail, number).save(place / f"{number:03}.jpg", quality=90)
    return {}


def write_lists(folder: Path) -> None:
    """`few.txt` and `many.txt`: lines `path label`, of files in folders that are names of one, in `files`."""
    sources = sorted((folder / "small-photos").iterdir())
    first = folder / "files" / "00"
    first.mkdir(parents=True)
    for number in range(FILES // CLASSES):
        os.link(sources[number % len(sources)], first / f"{number:05}.jpg")
    for name in range(1, CLASSES):
        first.with_name(f"{name:02}").symlink_to(first)
    with (folder / "many.txt").open("w") as many, (folder / "few.txt").open("w") as few:
        for number in range(FILES):
            line = f"{number % CLASSES:02}/{number // CLASSES:05}.jpg {number % CLASSES}"
            print(line, file=many)
            if number < FEW:
                print(line, file=few)


# What is measured, each in a process of its own, which prints JSON.


def pictures(folder: Path, kind: str, repeated: int = REPEATED) -> list[str]:
    """Paths of the small pictures, again and again."""
    return [str(path) for path in sorted((folder / f"small-{kind}").iterdir())] * repeated


def loader(paths: list[str], augment: cfg.Augment | None = None, **settings: Any) -> TrainLoader:
    """This package's loader of training batches."""
    os.environ.update(device.environment(None, waits_for_others=True))
    from runner.data import ImageFiles, Loaders, Source, cache, preparation
    from runner.data.loaders import TrainLoader
    from runner.kernels.pictures import resampler

    device.choose(cfg.Train())
    config = cfg.ImageFolder(root="", image_size=SIDE, batch_size=BATCH, workers=WORKERS, **settings)
    split = ImageFiles(paths, np.zeros(len(paths), np.int64), preparation(config))
    # Compiled and loaded.
    resampler()
    if notes := cache.attach(config, Source("photos", ["photo"], split)):
        sys.exit(notes[0])
    train = TrainLoader(split, config, 0, augment=augment or cfg.Augment())
    return Loaders(Source("photos", ["photo"], split), train, None).train


def images_per_s(batches: Iterator[object], count: int) -> float:
    """Of an epoch of so many images, from its start to its end."""
    began = time.perf_counter()
    for _ in batches:
        pass
    return count / (time.perf_counter() - began)


def runner(folder: Path, kind: str) -> dict[str, float]:
    """images/s of an epoch; the one before it warms up."""
    paths = pictures(folder, kind)
    train = loader(paths)
    next(train.epoch(0))
    return {"images_per_s": images_per_s(train.epoch(1), len(paths))}


def alone(folder: Path, kind: str) -> dict[str, float]:
    """images/s of as many processes that decode and do nothing else."""
    from runner.kernels.pictures import resampler

    paths, preparation, scaling = pictures(folder, kind), images.Preparation(SIDE, SIDE), resampler()
    began = time.perf_counter()
    for number in range(WORKERS):
        if os.fork() == 0:
            for path in paths[number::WORKERS]:
                images.decode(path, preparation, resample=scaling)
            os._exit(0)
    for _ in range(WORKERS):
        os.wait()
    return {"images_per_s": len(paths) / (time.perf_counter() - began)}


def torch(folder: Path, kind: str) -> dict[str, float]:
    """images/s of PyTorch's loader, with what torchvision's transforms compute."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    paths = pictures(folder, kind)
    mean = std = torch.full((3, 1, 1), 0.5)

    class Pictures(Dataset):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            with open(paths[index], "rb") as stream:
                image = Image.open(stream).convert("RGB")
            # Resize(224), CenterCrop(224), ToTensor(), Normalize(mean, std).
            width, height = image.size
            scale = SIDE / min(width, height)
            image = image.resize((int(width * scale), int(height * scale)), Image.Resampling.BILINEAR)
            left, upper = (round((side - SIDE) / 2) for side in image.size)
            image = image.crop((left, upper, left + SIDE, upper + SIDE))
            tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
            return tensor.sub_(mean).div_(std), 0

    batches = DataLoader(Pictures(), BATCH, shuffle=True, num_workers=WORKERS)
    next(iter(batches))
    return {"images_per_s": images_per_s(iter(batches), len(paths))}


def large(folder: Path, kind: str) -> dict[str, float]:
    """Milliseconds of a large photo, decoded whole with Pillow and as it is done here."""
    from runner.kernels.pictures import resampler

    preparation, scaling = images.Preparation(SIDE, SIDE), resampler()

    def whole(content: bytes) -> None:
        image = Image.open(io.BytesIO(content)).convert("RGB")
        np.asarray(ImageOps.fit(image, (SIDE, SIDE), Image.Resampling.BILINEAR))

    seconds: dict[str, list[float]] = {"whole": [], "ours": []}
    ways: dict[str, Callable[[bytes], object]] = {
        "whole": whole,
        "ours": lambda content: images.decode(content, preparation, resample=scaling),
    }
    for path in sorted((folder / f"large-{kind}").iterdir()):
        content = path.read_bytes()
        for name, decode in ways.items():
            began = time.perf_counter()
            decode(content)
            seconds[name].append(time.perf_counter() - began)
    return {name: 1000 * statistics.median(values) for name, values in seconds.items()} | {
        "kb": statistics.median(path.stat().st_size for path in (folder / f"large-{kind}").iterdir()) / 1000
    }


def cached(folder: Path, way: str) -> dict[str, float]:
    """images/s of the first and the second epoch, with crops and flips."""
    paths = pictures(folder, "photos", REPEATED // 2)
    train = loader(paths, cache=cfg.Cache[way], augment=cfg.Augment(crop_padding=8, flip=True))
    return {name: images_per_s(train.epoch(epoch), len(paths)) for epoch, name in enumerate(("first", "second"))}


def worker(folder: Path, count: str) -> dict[str, float]:
    """MB that a process which decodes has for itself, with so many files in the set."""
    paths = pictures(folder, "photos", 1)
    train = loader((paths * (int(count) // len(paths) + 1))[: int(count)])
    epoch = train.epoch(0)
    for _ in range(6):
        next(epoch)
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    own = [
        sum(int(line.split()[1]) for line in Path(f"/proc/{child}/smaps_rollup").read_text().splitlines()
            if line.startswith("Private"))
        for child in children
    ]  # fmt: skip
    return {"mb": max(own) / 1024}


MEASURES = {measure.__name__: measure for measure in (write, runner, alone, torch, large, cached, worker)}


def measured(name: str, folder: Path, argument: str) -> dict[str, float]:
    """What a measure prints in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.folder_pipeline", "--measure", name, str(folder), argument]
    # Threads of OpenMP would spin for 0.2 s after every batch, on the cores of those that decode; nothing is trained.
    environment = {"KMP_BLOCKTIME": "0"} if name in ("runner", "cached") else {}
    if name == "cached":
        environment["XDG_CACHE_HOME"] = f"{folder}/cache-{time.monotonic_ns()}"
    return harness.run(command, environment).result


# The tables.


def small_table(folder: Path, rounds: int) -> list[str]:
    """Beside PyTorch's loader, and beside what decoding alone allows."""
    rows, broken = [], []
    for kind in KINDS:
        speeds: dict[str, list[float]] = {"runner": [], "alone": [], "torch": []}
        for _ in range(rounds):
            for name, values in speeds.items():
                values.append(measured(name, folder, kind)["images_per_s"])
        ours, alone, peer = speeds.values()
        rows.append([f"{kind}, 500×375", *map(harness.spread, (ours, peer, alone))])
        rows[-1] += [f"{harness.ratio(ours, peer):.2f}", f"{harness.ratio(ours, alone):.2f}"]
        if harness.ratio(ours, peer) < MIN_PEER or harness.ratio(ours, alone) < MIN_ALONE:
            broken.append(f"{kind}: at least {MIN_PEER} × PyTorch's, {MIN_ALONE} × what decoding alone reaches")
    headings = ["images/s", "runner", "PyTorch's DataLoader", "decoding alone", "÷ PyTorch", "÷ alone"]
    harness.print_table(headings, rows)
    return broken


def large_table(folder: Path, rounds: int) -> list[str]:
    """Beside a decoder of whole pictures."""
    rows, broken = [], []
    for kind in KINDS:
        results = [measured("large", folder, kind) for _ in range(rounds)]
        whole, ours = ([result[name] for result in results] for name in ("whole", "ours"))
        gain = harness.ratio(whole, ours)
        size = f"{kind}, 4000×3000, {results[0]['kb'] / 1000:.1f} MB"
        rows.append([size, harness.spread(whole, 1), harness.spread(ours, 1), f"{gain:.1f}"])
        if gain < MIN_LARGE:
            broken.append(f"{kind}: at least {MIN_LARGE} × the speed of a whole decode")
    harness.print_table(["milliseconds a photo", "decoded whole", "runner", "whole ÷ runner"], rows)
    return broken


def cached_table(folder: Path, rounds: int) -> list[str]:
    """Later epochs."""
    rows, broken = [], []
    for way in ("memory", "disk"):
        results = [measured("cached", folder, way) for _ in range(rounds)]
        first, second = ([result[name] for result in results] for name in ("first", "second"))
        rows.append([f"data.cache={way}", harness.spread(first), harness.spread(second)])
        rows[-1].append(f"{harness.ratio(second, first):.1f}")
        if harness.ratio(second, first) < MIN_CACHED:
            broken.append(f"data.cache={way}: at least {MIN_CACHED} × the first epoch's")
    harness.print_table(["images/s", "first epoch", "second epoch", "second ÷ first"], rows)
    return broken


def start_table(folder: Path, rounds: int) -> list[str]:
    """A million files: seconds and memory of a start, memory of a process that decodes."""
    write_lists(folder)
    seconds: dict[str, list[float]] = {name: [] for name in STARTS}
    memory: dict[str, list[float]] = {name: [] for name in STARTS}
    for number in range(rounds):
        for place, (name, overrides) in enumerate(STARTS.items()):
            directory = folder / f"run-{place}-{number}"
            command = [
                sys.executable, "-m", "runner", *overrides.format(folder).split(), "data.image_size=64",
                "data.val_fraction=0", "data.test_fraction=0.0005", "model=mobilenet_v3_small_x0_35",
                "train.max_steps=2", "train.log_every=1", "schedule=constant", "tracking=none", "deploy.formats=[]",
                "train.plots=false", f"hydra.run.dir={directory}",
            ]  # fmt: skip
            began = time.time()
            memory[name].append(harness.run(command).memory_mb)
            events = (json.loads(line) for line in (directory / "journal.jsonl").read_text().splitlines())
            first = next(event["time"] for event in events if "train/loss" in event.get("values", {}))
            seconds[name].append(first - began)
    rows = [[name, harness.spread(seconds[name], 1), harness.spread(memory[name])] for name in STARTS]
    harness.print_table(["", "seconds to the first step", "MB of a process"], rows)
    print()
    workers = {count: [measured("worker", folder, str(count))["mb"] for _ in range(rounds)] for count in (FEW, FILES)}
    rows = [[f"{count:,} files", harness.spread(values, 1)] for count, values in workers.items()]
    harness.print_table(["", "MB of a process that decodes"], rows)
    few, *many = (statistics.median(values) for values in memory.values())
    own = statistics.median(workers[FILES]) - statistics.median(workers[FEW])
    late = max(map(statistics.median, seconds.values())) > MAX_START_S
    if late or max(many) - few > MAX_START_MB or own > MAX_WORKER_MB:
        return [
            f"{FILES:,} files: {MAX_START_S:g} s, {MAX_START_MB:g} MB more than few, {MAX_WORKER_MB:g} MB a process"
        ]
    return []


TABLES = {"small": small_table, "large": large_table, "cached": cached_table, "start": start_table}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, folder, argument = options.measure
        print(json.dumps(MEASURES[name](Path(folder), argument)))
        return
    with tempfile.TemporaryDirectory() as folder:
        measured("write", Path(folder), "")
        broken = []
        for name in options.only:
            broken += TABLES[name](Path(folder), options.rounds)
            print()
    if broken:
        sys.exit("Out of bounds: " + "; ".join(broken))


if __name__ == "__main__":
    main()

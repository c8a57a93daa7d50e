"""Keys that decide which images a run is trained and compared on."""

from __future__ import annotations

#: Keys below `data` that leave the images of every split as they are; all others, also future ones, choose them.
SAME_IMAGES = (
    "data.batch_size", "data.eval_batch_size", "data.sampler", "data.image_size", "data.channels", "data.resize",
    "data.crop_ratio", "data.background", "data.max_pixels", "data.mean", "data.std", "data.workers", "data.cache",
    "data.check", "data.download",
)  # fmt: skip


def chooses_images(key: str) -> bool:
    """Whether a key, or the config group `data`, chooses the images of some split."""
    return key == "data" or (key.startswith("data.") and key not in SAME_IMAGES)


def moves_validations(key: str, counts_steps: bool) -> bool:
    """Whether runs that differ in a key have seen different amounts of images after as many validations, or compare
    different ones. `counts_steps`: whether validations are some steps apart, `train.eval_every_steps`."""
    frequencies = ("train.eval_every", "train.eval_every_steps", *(["data.batch_size"] if counts_steps else []))
    return key in frequencies or chooses_images(key)

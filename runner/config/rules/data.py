"""What must hold between keys of `data` and `augment`."""

from __future__ import annotations

from collections.abc import Iterator

from .. import (
    Config,
    CustomData,
    FileList,
    Labels,
    Pictures,
    Policy,
)
from ..augment import RANGES


def problems(config: Config) -> Iterator[str]:
    """Yields what cannot work. Every message names the key and the override that fixes it."""
    data = config.data
    if len(data.background) != 3:
        yield f"data.background={data.background}: needs three numbers, such as data.background=[255,255,255]"
    numbers = {"mean": data.mean, "std": data.std}
    if wrong := [key for key, values in numbers.items() if len(values) != data.channels]:
        # Grey has about the mean of the colours' statistics.
        fit = {key: [round(sum(values) / len(values), 4) if values else 0.5] for key, values in numbers.items()}
        fitting = " ".join(f"data.{key}={str(fit[key] * data.channels).replace(' ', '')}" for key in wrong)
        yield (
            f"data.{wrong[0]}={numbers[wrong[0]]}: needs a number for each channel, and data.channels={data.channels}, "
            f"such as {fitting}"
        )
    if isinstance(data, Pictures) and data.channels not in (1, 3):
        yield f"data.channels={data.channels}: pictures have 3 (RGB) or 1 (grey). Other numbers need data=custom."
    if data.labels is Labels.soft:
        if not isinstance(data, (FileList, CustomData)):
            yield f"data.labels=soft: images of data={data.kind} have one class each. Use data=files or data=custom."
        elif isinstance(data, FileList) and len(data.label_columns) < 2:
            yield "data.labels=soft: name the columns of the classes, such as data.label_columns=[cat,dog]"
    if data.fold >= (data.folds or 1):
        last = f"from 0 to {data.folds - 1}" if data.folds else "0 without data.folds, such as data.folds=5"
        yield f"data.fold={data.fold}: folds are numbered {last}."
    if isinstance(data, FileList) and data.split_column and (data.val or data.test):
        yield f"data.split_column={data.split_column}: data.train has all splits, so remove data.val and data.test."


def statistics(config: Config) -> Iterator[str]:
    """Yields which statistics are of other pixels."""
    for key in ("mean", "std"):
        values = getattr(config.data, key)
        if any(value > 1 for value in values):
            divided = str([round(value / 255, 4) for value in values]).replace(" ", "")
            yield (
                f"data.{key}={values}: pixels are scaled to 0…1 before, and these numbers are of 0…255. Divide them by "
                f"255: data.{key}={divided}"
            )


def augmentation(config: Config) -> Iterator[str]:
    """Yields what is wrong with the keys of `augment`."""
    augment, data = config.augment, config.data
    if not augment.enabled:
        return
    for key in ("cutout", "crop_padding"):
        if getattr(augment, key) > min(data.size):
            yield f"augment.{key}={getattr(augment, key)}: larger than the image; at most {min(data.size)}."
    for key in RANGES:
        limits = getattr(augment, key)
        if limits is not None and (len(limits) != 2 or limits[0] > limits[1]):
            yield f"augment.{key}={limits}: needs the smallest and the largest value, such as {RANGES[key]}"
    if len(augment.fill) not in (1, data.channels):
        yield f"augment.fill={augment.fill}: needs one number, or one for each of data.channels={data.channels}."
    if augment.mixes:
        until = {"mix_off_epochs": augment.mix_off_epochs or None, "mix_last_probability": augment.mix_last_probability}
        ends = [key for key, value in until.items() if value is not None]
        if ends and config.train.max_minutes:
            off = 0 if ends[0] == "mix_off_epochs" else "null"
            yield (
                f"augment.{ends[0]} cannot be combined with train.max_minutes, whose number of epochs is not known in "
                f"advance. Use augment.{ends[0]}={off}"
            )
        elif (
            augment.mix_off_epochs
            and config.train.max_steps is None
            and 0 < config.train.epochs <= augment.mix_off_epochs
        ):
            yield (
                f"augment.mix_off_epochs={augment.mix_off_epochs}: no image would ever be mixed in "
                f"train.epochs={config.train.epochs}. Lower it, or use augment.mixup=0 augment.cutmix=0"
            )
    if data.channels not in (1, 3):
        mixing = [key for key in ("contrast", "saturation", "hue", "grey") if getattr(augment, key)]
        mixing += ["policy"] * (augment.policy is not Policy.none)
        if mixing:
            off = "none" if mixing[0] == "policy" else 0
            yield (
                f"augment.{mixing[0]} is for RGB and grey images, and these have data.channels={data.channels}. "
                f"Use augment.{mixing[0]}={off}"
            )

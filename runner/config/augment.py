"""Schema of the group `augment`: random changes to training images."""

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Optional

from .fields import bounded

#: Keys that are a pair of smallest and largest value, with an example.
RANGES = {
    "crop_scale": "[0.08,1]",
    "crop_ratio": "[0.75,1.33]",
    "zoom": "[0.9,1.1]",
    "blur_sigma": "[0.1,2]",
    "erasing_scale": "[0.02,0.33]",
    "erasing_ratio": "[0.3,3.3]",
}

#: Keys that alone change no single image: how the others do, and those of Mixup and CutMix.
DETAILS = (
    "enabled", "crop_ratio", "fill", "jitter", "blur_sigma", "posterize_bits", "solarize_threshold", "sharpness_factor",
    "rand_n", "rand_m", "erasing_scale", "erasing_ratio", "kwargs", "mixup", "cutmix", "mix_probability",
    "mix_last_probability", "mix_switch", "mix_off_epochs",
)  # fmt: skip


class Policy(Enum):
    """Which list of operations is drawn from for each image, in addition to the changes that have their own keys."""

    none = "none"
    rand = "rand"
    trivial = "trivial"


@dataclass
class Augment:
    """Random changes to training images, a function of (seed, epoch, image). All are off by default."""

    enabled: bool = True
    """Whether anything below happens; `augment=none` turns it off, whatever the data set or recipe sets."""
    crop_padding: int = bounded(0, min=0)
    """Pad by this many pixels on every side, then crop at a random position."""
    crop_scale: Optional[list[float]] = bounded(None, above=0, max=1)
    """Crop a random fraction of the image's area, between these two, and resize it: [0.08, 1] as in Inception (Szegedy
    et al., 2015). Instead of `crop_padding`."""
    crop_ratio: list[float] = bounded([0.75, 1.3333333333333333], above=0)
    """Smallest and largest ratio of width to height of that crop."""
    flip: bool = False
    """Flip horizontally with probability ½."""
    flip_vertical: bool = False
    """Flip vertically with probability ½."""
    rotation: float = bounded(0.0, min=0, max=180)
    """Rotate by up to this many degrees in either direction."""
    translation: float = bounded(0.0, min=0, max=1)
    """Shift by up to this fraction of the width and of the height, in any direction."""
    shear: float = bounded(0.0, min=0, max=80)
    """Shear along the rows by up to this many degrees in either direction."""
    zoom: list[float] = bounded([1.0, 1.0], above=0, max=10)
    """Scale by a factor between these two; below 1 the image becomes smaller."""
    fill: list[int] = bounded([0], min=0, max=255)
    """Colour of areas that these changes leave empty: a number for each channel, or one for all."""
    brightness: float = bounded(0.0, min=0)
    """Multiply all values by a factor between 1 - x and 1 + x."""
    contrast: float = bounded(0.0, min=0)
    """Multiply the distance from the mean grey by a factor between 1 - x and 1 + x."""
    saturation: float = bounded(0.0, min=0)
    """Multiply each pixel's distance from its grey by a factor between 1 - x and 1 + x."""
    hue: float = bounded(0.0, min=0, max=0.5)
    """Rotate the hue by up to this fraction of the colour circle in either direction."""
    jitter: float = bounded(1.0, min=0, max=1)
    """Probability of these four colour changes, which are applied in random order."""
    grey: float = bounded(0.0, min=0, max=1)
    """Probability of converting the image to grey."""
    blur: float = bounded(0.0, min=0, max=1)
    """Probability of a Gaussian blur."""
    blur_sigma: list[float] = bounded([0.1, 2.0], above=0, max=20)
    """Smallest and largest standard deviation in pixels."""
    posterize: float = bounded(0.0, min=0, max=1)
    """Probability of reducing the bits of each channel."""
    posterize_bits: int = bounded(4, min=1, max=8)
    """Bits that are kept."""
    solarize: float = bounded(0.0, min=0, max=1)
    """Probability of inverting bright values."""
    solarize_threshold: int = bounded(128, min=0, max=255)
    """Value from which they are inverted."""
    invert: float = bounded(0.0, min=0, max=1)
    """Probability of inverting all values."""
    sharpness: float = bounded(0.0, min=0, max=1)
    """Probability of changing the sharpness."""
    sharpness_factor: float = bounded(2.0, min=0, max=10)
    """0 smooths, 1 changes nothing, 2 sharpens."""
    autocontrast: float = bounded(0.0, min=0, max=1)
    """Probability of stretching each channel to 0…255."""
    equalize: float = bounded(0.0, min=0, max=1)
    """Probability of equalizing each channel's histogram."""
    policy: Policy = Policy.none
    """`rand`: RandAugment (Cubuk et al., 2019). `trivial`: TrivialAugment, wide (Müller and Hutter, 2021)."""
    rand_n: int = bounded(2, min=1, max=10)
    """Operations that `policy=rand` applies to an image."""
    rand_m: int = bounded(9, min=0, max=30)
    """Their strength, from 0 to 30."""
    cutout: int = bounded(0, min=0)
    """Side in pixels of one square set to the mean at a random position (DeVries & Taylor, 2017)."""
    erasing: float = bounded(0.0, min=0, max=1)
    """Probability of one rectangle set to the mean at a random position (Zhong et al., 2017)."""
    erasing_scale: list[float] = bounded([0.02, 0.33], above=0, max=1)
    """Smallest and largest fraction of the image's area that it covers."""
    erasing_ratio: list[float] = bounded([0.3, 3.3], above=0)
    """Smallest and largest ratio of its height to its width."""
    mixup: float = bounded(0.0, min=0, max=10)
    """α of Mixup (Zhang et al., 2018), such as 0.2: blend each image, and its label, with another one of the step, with
    a weight drawn from Beta(α, α); 0 is off."""
    cutmix: float = bounded(0.0, min=0, max=10)
    """α of CutMix (Yun et al., 2019), such as 1: paste a rectangle of another image over each, with an area drawn from
    Beta(α, α); 0 is off."""
    mix_probability: float = bounded(1.0, min=0, max=1)
    """Probability that an image is mixed, in the first epoch."""
    mix_last_probability: Optional[float] = bounded(None, min=0, max=1)
    """The same in the last epoch with mixing, such as 0; in between it changes linearly. None: it stays constant."""
    mix_switch: float = bounded(0.5, min=0, max=1)
    """Probability of CutMix instead of Mixup, where both are on."""
    mix_off_epochs: int = bounded(0, min=0)
    """Number of epochs at the end of the run without mixing."""
    target: Optional[str] = None
    """A user-defined augmentation, `package.module:callable`, applied before the others: see docs/augmentation.md."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the callable."""

    @property
    def changes_images(self) -> bool:
        """Whether single images are changed."""
        return self.enabled and self != replace(Augment(), **{key: getattr(self, key) for key in DETAILS})

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with others, so that labels are soft."""
        return self.enabled and bool(self.mixup or self.cutmix)

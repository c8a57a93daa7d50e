"""Schema of the group `augment`: random changes to training images."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from .fields import bounded

#: Keys that are a smallest and a largest value, with an example.
RANGES = {
    "crop_scale": "[0.08,1]",
    "crop_ratio": "[0.75,1.33]",
    "zoom": "[0.9,1.1]",
    "blur_sigma": "[0.1,2]",
    "erasing_scale": "[0.02,0.33]",
    "erasing_ratio": "[0.3,3.3]",
}


class Policy(Enum):
    """From where operations are drawn for each image, beside the changes that have keys of their own."""

    none = "none"
    rand = "rand"
    trivial = "trivial"


@dataclass
class Augment:
    """Random changes to training images, a function of (seed, epoch, image). All are off by default."""

    enabled: bool = True
    """Whether anything below happens; `augment=none` says no, whatever the set and the recipe have."""
    crop_padding: int = bounded(0, min=0)
    """Pad by so many pixels on every side, then crop at a random place."""
    crop_scale: Optional[list[float]] = bounded(None, above=0, max=1)
    """Crop a random part of the image, of between these parts of its area, and scale it up: [0.08, 1] as in Inception
    (Szegedy et al., 2015). In place of `crop_padding`."""
    crop_ratio: list[float] = bounded([0.75, 1.3333333333333333], above=0)
    """Width by height of that part, between these."""
    flip: bool = False
    """Mirror left to right with probability ½."""
    flip_vertical: bool = False
    """Mirror top to bottom with probability ½."""
    rotation: float = bounded(0.0, min=0, max=180)
    """Rotate by up to so many degrees to either side."""
    translation: float = bounded(0.0, min=0, max=1)
    """Shift by up to this part of the width and of the height, in any direction."""
    shear: float = bounded(0.0, min=0, max=80)
    """Shear along the rows by up to so many degrees to either side."""
    zoom: list[float] = bounded([1.0, 1.0], above=0, max=10)
    """Scale by a factor between these; below 1 the image becomes smaller."""
    fill: list[int] = bounded([0], min=0, max=255)
    """Colour of what these leave empty: a number for each channel, or one for all."""
    brightness: float = bounded(0.0, min=0)
    """Multiply all by a factor between 1 - x and 1 + x."""
    contrast: float = bounded(0.0, min=0)
    """Multiply the distance from the mean grey by a factor between 1 - x and 1 + x."""
    saturation: float = bounded(0.0, min=0)
    """Multiply each pixel's distance from its grey by a factor between 1 - x and 1 + x."""
    hue: float = bounded(0.0, min=0, max=0.5)
    """Turn the hue by up to this part of its circle in either direction."""
    jitter: float = bounded(1.0, min=0, max=1)
    """Probability of these four changes of colour, which come in random order."""
    grey: float = bounded(0.0, min=0, max=1)
    """Probability of an image without colours."""
    blur: float = bounded(0.0, min=0, max=1)
    """Probability of a Gaussian blur."""
    blur_sigma: list[float] = bounded([0.1, 2.0], above=0, max=20)
    """Its standard deviation in pixels, between these."""
    posterize: float = bounded(0.0, min=0, max=1)
    """Probability of fewer bits a channel."""
    posterize_bits: int = bounded(4, min=1, max=8)
    """Bits that stay."""
    solarize: float = bounded(0.0, min=0, max=1)
    """Probability of inverting what is bright."""
    solarize_threshold: int = bounded(128, min=0, max=255)
    """Value from which on it is inverted."""
    invert: float = bounded(0.0, min=0, max=1)
    """Probability of inverting everything."""
    sharpness: float = bounded(0.0, min=0, max=1)
    """Probability of another sharpness."""
    sharpness_factor: float = bounded(2.0, min=0, max=10)
    """0 smooths, 1 changes nothing, 2 sharpens."""
    autocontrast: float = bounded(0.0, min=0, max=1)
    """Probability of stretching each channel to 0…255."""
    equalize: float = bounded(0.0, min=0, max=1)
    """Probability of making each channel's histogram flat."""
    policy: Policy = Policy.none
    """`rand`: RandAugment (Cubuk et al., 2019). `trivial`: TrivialAugment, wide (Müller and Hutter, 2021)."""
    rand_n: int = bounded(2, min=1, max=10)
    """Operations an image gets from `policy=rand`."""
    rand_m: int = bounded(9, min=0, max=30)
    """Their strength, from 0 to 30."""
    cutout: int = bounded(0, min=0)
    """Side in pixels of one square set to the mean at a random place (DeVries & Taylor, 2017)."""
    erasing: float = bounded(0.0, min=0, max=1)
    """Probability of one rectangle set to the mean at a random place (Zhong et al., 2017)."""
    erasing_scale: list[float] = bounded([0.02, 0.33], above=0, max=1)
    """Its part of the image's area, between these."""
    erasing_ratio: list[float] = bounded([0.3, 3.3], above=0)
    """Its height by its width, between these."""
    mixup: float = bounded(0.0, min=0, max=10)
    """Blend each image with another one of the step, with parts drawn from Beta(α, α), and their labels with it (Zhang
    et al., 2018): this α, such as 0.2; 0 is off."""
    cutmix: float = bounded(0.0, min=0, max=10)
    """Paste a rectangle of another image over each, of an area drawn from Beta(α, α) (Yun et al., 2019): this α, such
    as 1; 0 is off."""
    mix_probability: float = bounded(1.0, min=0, max=1)
    """Probability of either for an image, in the first epoch."""
    mix_last_probability: Optional[float] = bounded(None, min=0, max=1)
    """The same in the last epoch in which images are mixed; between it and the first one it changes evenly from epoch
    to epoch, such as to 0. None: it stays as it is."""
    mix_switch: float = bounded(0.5, min=0, max=1)
    """Probability of CutMix, not Mixup, where both are on."""
    mix_off_epochs: int = bounded(0, min=0)
    """Last epochs of the run in which no images are mixed."""
    target: Optional[str] = None
    """A change of your own, `package.module:callable`, made before the others: see docs/augmentation.md."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the callable."""

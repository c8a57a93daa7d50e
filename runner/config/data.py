"""Schema of the group `data`: which images are seen, in which batches, after which augmentation."""

from dataclasses import dataclass, field
from typing import Any, Optional

from .fields import bounded, path


@dataclass
class Augment:
    """Random changes to training images, a function of (seed, epoch, image)."""

    crop_padding: int = bounded(0, min=0)
    """Pad by so many pixels on every side, then crop at a random place."""
    flip: bool = False
    """Mirror left to right with probability ½."""
    cutout: int = bounded(0, min=0)
    """Side in pixels of one square set to the mean at a random place (DeVries & Taylor, 2017)."""


@dataclass
class Data:
    """A labelled set of images, its splits and its batches."""

    kind: str = "???"
    """What the choice is; set by it."""
    batch_size: int = bounded(128, min=1)
    """Images an optimizer step sees, over all processes together."""
    eval_batch_size: int = bounded(128, min=1)
    """Images a step of the evaluation sees, over all processes together."""
    image_size: int = bounded(32, min=1)
    """Side in pixels of the square the network is given."""
    max_pixels: int = bounded(89_478_485, min=1, max=178_956_970)
    """Image files with more pixels (WebP: with more than half as many) are refused before they are decoded, which takes
    up to 8 bytes a pixel."""
    mean: list[float] = field(default_factory=lambda: [0.5, 0.5, 0.5])
    """Mean of each channel of images scaled to 0…1; subtracted."""
    std: list[float] = bounded([0.5, 0.5, 0.5], above=0)
    """Standard deviation of each channel of images scaled to 0…1; divided by."""
    val_fraction: float = bounded(0.1, min=0, below=1)
    """Part of the training images held out for validation, stratified by class."""
    split_seed: int = bounded(0, min=0)
    """Seed of the validation split (and of the test split where the source has none)."""
    limit: Optional[int] = bounded(None, min=1)
    """Use at most so many images of each split."""
    augment: Augment = field(default_factory=Augment)
    """Random changes to training images."""


@dataclass
class Digits(Data):
    """The 1,797 handwritten digits (8×8, grey) bundled with scikit-learn."""

    kind: str = "digits"
    """What the choice is; set by it."""
    test_fraction: float = bounded(0.2, above=0, below=1)
    """Part of all images kept for the test, stratified by class."""


@dataclass
class Files(Data):
    """A set read from its official files below a folder."""

    root: str = path("???")
    """Folder that holds the files."""
    download: bool = False
    """Fetch missing files from the set's home page and verify their checksums."""


@dataclass
class Cifar10(Files):
    """CIFAR-10: 60,000 colour images 32×32 in 10 classes (Krizhevsky, 2009)."""

    kind: str = "cifar10"
    """What the choice is; set by it."""


@dataclass
class Cifar100(Files):
    """CIFAR-100: 60,000 colour images 32×32 in 100 classes (Krizhevsky, 2009)."""

    kind: str = "cifar100"
    """What the choice is; set by it."""


@dataclass
class Mnist(Files):
    """MNIST: 70,000 grey digits 28×28 (LeCun et al., 1998)."""

    kind: str = "mnist"
    """What the choice is; set by it."""


@dataclass
class FashionMnist(Files):
    """Fashion-MNIST: 70,000 grey pieces of clothing 28×28 (Xiao et al., 2017)."""

    kind: str = "fashion_mnist"
    """What the choice is; set by it."""


@dataclass
class ImageFolder(Data):
    """Image files in one folder a class: `root/train/<class>/*` and `root/test/<class>/*`."""

    kind: str = "image_folder"
    """What the choice is; set by it."""
    root: str = path("???")
    """Folder that holds `train` and `test` (`val`, where present, is the validation split)."""
    workers: int = bounded(2, min=0)
    """Processes that decode images; 0 decodes in the training process."""


@dataclass
class Synthetic(Data):
    """Images made from the seed: one random pattern a class plus noise. For tests and measurements."""

    kind: str = "synthetic"
    """What the choice is; set by it."""
    classes: int = bounded(10, min=2)
    """Number of classes."""
    channels: int = bounded(3, min=1, max=3)
    """Channels of the stored images: 1 (grey) or 3."""
    train_images: int = bounded(1024, min=1)
    """Images to train on, before the validation split."""
    test_images: int = bounded(256, min=1)
    """Images to test on."""


@dataclass
class CustomData(Data):
    """A user-defined set: `target(**kwargs)` returns a `runner.data.Source`."""

    kind: str = "custom"
    """What the choice is; set by it."""
    target: str = "???"
    """Where the callable is: `package.module:callable`."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the callable."""

"""Schema of the group `data`: the images, their splits and batches."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from .fields import bounded, path, size_of_images


class Resize(Enum):
    """How an image is resized to the network's input."""

    crop = "crop"
    pad = "pad"
    stretch = "stretch"


class Cache(Enum):
    """Where decoded images are cached for the next epoch."""

    none = "none"
    memory = "memory"
    disk = "disk"


class OnError(Enum):
    """What happens to images that cannot be read."""

    fail = "fail"
    skip = "skip"


class Check(Enum):
    """How images are checked before training."""

    auto = "auto"
    full = "full"
    headers = "headers"
    none = "none"


class Sampler(Enum):
    """Which images make up an epoch."""

    shuffle = "shuffle"
    balanced = "balanced"
    sqrt = "sqrt"


class Labels(Enum):
    """What the label of an image is."""

    one = "one"
    soft = "soft"
    many = "many"


@dataclass
class Data:
    """A labelled set of images, its splits and its batches."""

    kind: str = "???"
    """Name of the choice; set by it."""
    batch_size: int = bounded(128, min=1)
    """Images of an optimizer step, over all processes together."""
    eval_batch_size: int = bounded(128, min=1)
    """Images of an evaluation step, over all processes together."""
    labels: Labels = Labels.one
    """`one`: each image has one class; `soft`: training images have a share of each class, and the most probable one is
    the class that metrics know; `many`: multi-label, each image has any number of labels, decided independently."""
    sampler: Sampler = Sampler.shuffle
    """Which images make up an epoch, whose length stays the number of training images: each once (`shuffle`), equally
    many of every class (`balanced`), or of each class in proportion to the square root of its size (`sqrt`)."""
    image_size: Any = size_of_images(32)
    """Size of the network's input in pixels: the side of a square, or [height, width]."""
    channels: int = bounded(3, min=1, max=256)
    """Channels of the network's input: 3 (RGB), 1 (grey), or as many as user-defined arrays have."""
    resize: Resize = Resize.crop
    """How images of another shape are resized: `crop` takes the centre, `pad` adds borders, `stretch` distorts."""
    crop_ratio: float = bounded(1.0, above=0, max=1)
    """Fraction of the largest possible crop's sides that `resize=crop` takes, such as 0.875 (`crop_pct` in timm)."""
    background: list[int] = bounded([255, 255, 255], min=0, max=255)
    """Colour [red, green, blue] under transparent pixels and in the borders of `resize=pad`."""
    max_pixels: int = bounded(89_478_485, min=1, max=178_956_970)
    """Image files with more pixels (WebP: more than half as many) are refused before decoding, which takes up to 8
    bytes a pixel."""
    mean: list[float] = bounded([0.5, 0.5, 0.5], min=-1e6, max=1e6)
    """Mean of each channel of images scaled to 0…1; subtracted."""
    std: list[float] = bounded([0.5, 0.5, 0.5], min=1e-6, max=1e6)
    """Standard deviation of each channel of images scaled to 0…1; divided by."""
    val_fraction: float = bounded(0.1, min=0, below=1)
    """Fraction of the training images held out for validation, stratified by class (except with `labels=many`)."""
    folds: Optional[int] = bounded(None, min=2)
    """Divide the training images into this many folds, stratified by class, instead of `val_fraction`: one `fold` is
    for validation, the others for training. Sweep `data.fold` for cross-validation."""
    fold: int = bounded(0, min=0)
    """Which of the folds is for validation, from 0."""
    split_seed: int = bounded(0, min=0)
    """Seed of the validation split (and of the test split where the source has none)."""
    limit: Optional[int] = bounded(None, min=1)
    """Use at most this many images of each split."""

    @property
    def many(self) -> bool:
        """Whether images are multi-label."""
        return self.labels is Labels.many

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the network's input, in pixels."""
        height, width = self.image_size if isinstance(self.image_size, list) else [self.image_size] * 2
        return height, width

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the network's input."""
        return self.channels, *self.size


@dataclass
class Pictures(Data):
    """A set of encoded images that are decoded when a batch is read."""

    workers: int = bounded(2, min=0)
    """Processes that decode images; 0 decodes in the training process."""
    cache: Cache = Cache.none
    """Keep decoded images in memory or on disk, so that later epochs need not decode them."""
    check: Check = Check.auto
    """Before training, decode every image once (`full`), or check the first and last bytes of every file (`headers`);
    `auto`: full up to 10,000 images. A good image is not checked again until it changes."""
    on_error: OnError = OnError.fail
    """What to do with images that cannot be read: stop before training, naming all of them (`fail`), or leave them out
    (`skip`)."""
    test_fraction: Optional[float] = bounded(None, min=0, below=1)
    """Fraction of the training images held out for the test, stratified by class; by default 0.2 for a set without
    splits, else none."""


@dataclass
class Digits(Data):
    """The 1,797 handwritten digits (8×8, grey) bundled with scikit-learn."""

    kind: str = "digits"
    test_fraction: float = bounded(0.2, above=0, below=1)
    """Fraction of all images held out for the test, stratified by class."""


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


@dataclass
class Cifar100(Files):
    """CIFAR-100: 60,000 colour images 32×32 in 100 classes (Krizhevsky, 2009)."""

    kind: str = "cifar100"


@dataclass
class Mnist(Files):
    """MNIST: 70,000 grey digits 28×28 (LeCun et al., 1998)."""

    kind: str = "mnist"


@dataclass
class FashionMnist(Files):
    """Fashion-MNIST: 70,000 grey pieces of clothing 28×28 (Xiao et al., 2017)."""

    kind: str = "fashion_mnist"


@dataclass
class ImageFolder(Pictures):
    """Image files with a folder for each class: `root/{train,val,test}/<class>/*`; or `root/<class>/*`, to be split."""

    kind: str = "image_folder"
    root: str = path("???")
    """Folder that holds `train` and, where they exist, `val` (or `valid`, `validation`) and `test`; or the classes."""


@dataclass
class FileList(Pictures):
    """Lists of images and labels: `path label` a line, or a table in CSV, TSV or Parquet."""

    kind: str = "files"
    root: Optional[str] = path(None)
    """Folder that paths in the lists are relative to; by default the folder of each list."""
    train: str = path("???")
    """List of the training images, or of all images."""
    val: Optional[str] = path(None)
    """List of the validation split."""
    test: Optional[str] = path(None)
    """List of the test split."""
    label_file: Optional[str] = path(None)
    """File that names the classes, `0 cat` a line, or `cat`; by default the labels are the names."""
    path_column: str = "path"
    """Column of a table with the paths: its name or, in tables without a header, its number from 0."""
    label_column: str = "label"
    """Column of a table with the labels, likewise."""
    label_columns: list[str] = field(default_factory=list)
    """Columns of the classes instead of `label_column`: of 0 and 1 for `labels=many`, of numbers for `labels=soft`."""
    label_separator: Optional[str] = ";"
    """Multi-label: separator of the labels of an image; null takes every label as one name."""
    split_column: Optional[str] = None
    """Column of the list `train` that says `train`, `val` or `test`, instead of lists of their own."""
    group_column: Optional[str] = None
    """Column of the list `train` with a group for each image, such as a patient: images of a group stay together when
    some are held out, also in folds."""


@dataclass
class Shards(Pictures):
    """Images in tar archives as in WebDataset, or in Parquet as in Hugging Face's data sets, read in place."""

    kind: str = "shards"
    root: Optional[str] = path(None)
    """Folder or URL that contains the shards."""
    train: str = path("???")
    """Shards of the training images or of all images: a path, folder or glob, or a range, `train-{000..127}.tar`."""
    val: Optional[str] = path(None)
    """Shards of the validation split."""
    test: Optional[str] = path(None)
    """Shards of the test split."""
    label_file: Optional[str] = path(None)
    """File that names the classes, `0 cat` a line, or `cat`; by default the shards do, or the labels are the names."""
    image_column: str = "image"
    """Column of Parquet with the images: bytes, or a structure with a field `bytes`."""
    label_column: str = "label"
    """Column of Parquet with the labels, or their key in the `.json` of an archive's samples."""
    label_separator: Optional[str] = ";"
    """Multi-label: separator of the labels in a text; null takes every label as one name."""


@dataclass
class Synthetic(Data):
    """Synthetic images: one random pattern for each class plus noise. For tests and benchmarks."""

    kind: str = "synthetic"
    classes: int = bounded(10, min=2)
    """Number of classes."""
    train_images: int = bounded(1024, min=1)
    """Training images, before validation images are held out."""
    test_images: int = bounded(256, min=1)
    """Test images."""


@dataclass
class CustomData(Data):
    """A user-defined set: `target(**kwargs)` returns a `runner.data.Source`."""

    kind: str = "custom"
    target: str = "???"
    """Where the callable is: `package.module:callable`."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the callable."""

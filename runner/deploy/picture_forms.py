"""Pictures in every form that a program may have them in, prepared as in training."""

from __future__ import annotations

import os
from typing import IO, Any

import numpy as np
from PIL import Image

from .. import images
from ..errors import ConfigError, DataError
from ..images import Preparation, Unreadable, resampling

#: What can be classified: a path, the content of a file, an open file, Pillow's image, or uint8 [H, W] or [H, W, C].
Picture = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image | np.ndarray
#: The same for messages.
FORMS = "a path, the bytes of a file, a file opened with 'rb', Pillow's image, or an array uint8 [H, W] or [H, W, C]"


def prepared(picture: Picture, preparation: Preparation) -> np.ndarray:
    """A picture as training sees it: uint8 [H, W, C]. Errors: DataError naming what is not a picture."""
    if isinstance(picture, np.ndarray):
        return _of_array(picture, preparation)
    if preparation.channels not in (1, 3):
        raise DataError(other_channels(preparation))
    return images.decode(_readable(picture), preparation)


def other_channels(preparation: Preparation) -> str:
    """Why a network of neither grey nor colour images takes no files."""
    return (
        f"The network takes images of {preparation.channels} channels, which no picture file has. Give arrays uint8 "
        f"[H, W, {preparation.channels}] to Run.predict."
    )


def require_files(preparation: Preparation) -> None:
    """Refuse a network that is given picture files and takes none. Errors: ConfigError."""
    if preparation.channels not in (1, 3):
        raise ConfigError(other_channels(preparation))


def is_file(source: object) -> bool:
    """Whether something is an open file, or like one."""
    return callable(getattr(source, "read", None))


def _readable(picture: Any) -> str | bytes | Image.Image:
    """Errors: DataError."""
    match picture:
        case str() | os.PathLike():
            return os.fsdecode(picture)
        case bytes() | bytearray() | memoryview():
            return bytes(picture)
        case Image.Image():
            return picture
    content = picture.read() if is_file(picture) else None
    if not isinstance(content, bytes):
        name = type(picture).__name__
        what = f"What a {name} reads" if is_file(picture) else f"A value of type {name}"
        raise DataError(f"{what} is not a picture. Give {FORMS}.")
    return content


def _of_array(array: np.ndarray, preparation: Preparation) -> np.ndarray:
    """Errors: DataError."""
    is_photo = preparation.channels in (1, 3)
    channels = array.shape[2] if array.ndim == 3 else 1
    is_fitting = (
        array.ndim in (2, 3) and channels in (1, 3, 4) if is_photo else array.shape[2:] == (preparation.channels,)
    )
    shape = f"{array.dtype} {list(array.shape)}"
    if array.dtype != np.uint8 or not is_fitting:
        wanted = "[H, W], or [H, W, C] with 1, 3 or 4 channels" if is_photo else f"[H, W, {preparation.channels}]"
        raise DataError(f"An array is {shape}: pictures are uint8 {wanted}, with values of 0 to 255.")
    if 0 in array.shape:
        raise Unreadable(f"An array is {shape}: it has no pixels.", "it has no pixels")
    if not is_photo:
        # As data sets of such arrays are scaled.
        return resampling.resize_all(array[None], preparation.size)[0]
    grey = array[..., 0] if array.ndim == 3 and channels == 1 else array
    return images.decode(Image.fromarray(np.ascontiguousarray(grey)), preparation)

"""The pixels of any picture as 8-bit RGB or grey, and its EXIF orientation."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

#: EXIF's tag.
ORIENTATION = 0x0112
#: TIFF's tags.
BITS, PHOTOMETRIC, FILL_ORDER, PLANAR, COLOUR_MAP, INK_SET, SAMPLE_FORMAT, SUBSAMPLING = (
    258, 262, 266, 284, 320, 332, 339, 530,
)  # fmt: skip
#: Values of `PHOTOMETRIC`.
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
#: Values of `SAMPLE_FORMAT`.
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
_UP_TO_8 = {(UNSIGNED, bits) for bits in (1, 2, 4, 8)}
#: Photometric → (format, bits) of the samples that Pillow reads as what they are.
_SAMPLES = {
    WHITE_IS_ZERO: _UP_TO_8 | {(UNSIGNED, 16), (FLOAT, 32)},
    BLACK_IS_ZERO: _UP_TO_8 | {(UNSIGNED, 12), (UNSIGNED, 16), (UNSIGNED, 32), (SIGNED, 32), (FLOAT, 32)},
    RGB: {(UNSIGNED, 8), (UNSIGNED, 16)},
    PALETTE: _UP_TO_8,
    CMYK: {(UNSIGNED, 8), (UNSIGNED, 16)},
    YCBCR: {(UNSIGNED, 8)},
    LAB: {(UNSIGNED, 8)},
}
#: Formats whose integers of 32 bits are of 16 in the file.
SIXTEEN = ("PNG", "PPM")


def coloured(image: Image.Image, channels: int, background: tuple[int, int, int]) -> Image.Image:
    """A loaded picture in RGB or, of one channel, grey; on a background where it is transparent.

    Errors: ValueError for pixels whose brightness is not known.
    """
    if image.format == "TIFF":
        _refuse_odd_layout(getattr(image, "tag_v2", {}), image.info.get("compression") != "raw")
    if channels not in (1, 3):
        raise ValueError(f"a network of {channels} channels is given arrays, and a picture has 1 or 3")
    if image.mode == "F" or image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        under = Image.new("RGB", image.size, background)
        under.paste(image, mask=image)
        image = under
    elif image.mode not in ("1", "L", "RGB"):
        # Pillow converts L*a*b* to RGB only.
        image = image.convert("RGB")
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _refuse_odd_layout(tags: Mapping[int, Any], is_compressed: bool) -> None:
    """Refuse layouts of a TIFF that Pillow 13.0 decodes to other colours without a word. Errors: ValueError."""
    photometric, bits, is_planar = tags.get(PHOTOMETRIC), tags.get(BITS, (1,)), tags.get(PLANAR, 1) != 1
    formats = tags.get(SAMPLE_FORMAT, (UNSIGNED,))
    kinds = {(kind, width) for kind in formats for width in bits}
    is_plain = tags.get(FILL_ORDER, 1) == 1 and (bits[0] == 8 or (bits[0] == 1 and photometric == BLACK_IS_ZERO))
    allowed = len(kinds) == 1 and kinds <= _SAMPLES.get(photometric, set())  # type: ignore[arg-type]
    match photometric:
        case 0 | 1 | 3 if is_planar:
            # Planes of uncompressed samples are read as 8 bits, whatever they are.
            allowed &= len(bits) == 1 and (is_compressed or (is_plain and photometric != WHITE_IS_ZERO))
        case 2 | 5 if is_planar:
            allowed &= is_compressed or is_plain
        case 6 | 8:
            allowed &= not is_planar and (photometric == LAB or is_compressed or tags.get(SUBSAMPLING) == (1, 1))
    if photometric == PALETTE:
        # Some programs write 8 bits where TIFF has 16.
        allowed &= COLOUR_MAP in tags and not 0 < max(tags[COLOUR_MAP], default=0) <= 0xFF
    if not allowed or (photometric == CMYK and tags.get(INK_SET, 1) != 1):
        raise ValueError(
            f"a TIFF whose layout is not read (photometric {photometric}, {'+'.join(map(str, bits))} bits, sample "
            f"format {'+'.join(map(str, formats))}, planar configuration {tags.get(PLANAR, 1)}); save it as PNG"
        )


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits as L, or as LA where one level is transparent: of 16 or 12 bits the upper 8.

    Integers of 32 bits are taken for 8 bits where all are below 256, for 16 where all are below 65536; floats for 0
    (black) to 1 (white). Errors: ValueError for others, which Pillow would clip.
    """
    values, grey = np.asarray(image), np.empty(image.size[::-1], dtype=np.uint8)
    tags: dict[int, Any] = getattr(image, "tag_v2", {})
    lowest, highest = values.min(), values.max()
    if image.mode == "F":
        # NaN is not within any bounds.
        if not (lowest >= 0 and highest <= 1):
            raise ValueError(
                f"its floating-point values, {lowest:g} to {highest:g}, are not 0 (black) to 1 (white); scale them, or "
                "save it with 8 or 16 bits"
            )
        # One row at a time: the picture may be large.
        for target, row in zip(grey, values, strict=True):
            target[:] = row * 255 + 0.5
    else:
        if lowest < 0 or highest > 0xFFFF:
            raise ValueError(
                f"its 32-bit integers, {lowest} to {highest}, are not levels of 8 or 16 bits; save it with 8 or 16 bits"
            )
        is_of_eight = image.mode == "I" and image.format not in SIXTEEN and highest <= 0xFF
        bits = 8 if is_of_eight else 12 if tags.get(BITS) == (12,) else 16
        np.right_shift(values, bits - 8, out=grey, casting="unsafe")
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        # Pillow turns 8 bits round, and leaves others as they are.
        np.subtract(255, grey, out=grey)
    clear = image.info.get("transparency")
    if clear is None:
        return Image.fromarray(grey)
    alpha = np.where(values == clear, 0, 255).astype(np.uint8)
    return Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha)))


def mend_transparent_colour(image: Image.Image) -> None:
    """Make the transparent colour of a PNG that is not decoded yet one of 8 bits, as its pixels will be.

    Pillow 13.0 leaves it as it is in the file, and compares level 5 of 15 with 85.
    """
    clear = image.info.get("transparency")
    if clear is None or image.format != "PNG":
        return
    match image.tile[0][3]:  # type: ignore[attr-defined]
        case "L;2":
            image.info["transparency"] = clear * 85
        case "L;4":
            image.info["transparency"] = clear * 17
        case "RGB;16B":
            image.info["transparency"] = tuple(level >> 8 for level in clear)


def orientation(image: Image.Image) -> int:
    """EXIF's orientation of an image that was loaded; 1 if it has none, or an invalid one.

    No other tag is read: those of many cameras are damaged, and some programs write anything.
    """
    if image.format == "TIFF":
        # Newer versions of Pillow have already rotated it and removed the tag.
        return getattr(image, "tag_v2", {}).get(ORIENTATION, 1)
    block = image.info.get("exif")
    if block is None and "Raw profile type exif" in image.info:
        with contextlib.suppress(ValueError):
            block = bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:]))
    return _orientation(block) if isinstance(block, bytes) else 1


def _orientation(block: bytes) -> int:
    """The orientation in a block of EXIF, whose first directory is searched for it."""
    block = block.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return 1
    with contextlib.suppress(struct.error):
        [begin] = struct.unpack_from(f"{order}I", block, 4)
        [entries] = struct.unpack_from(f"{order}H", block, begin)
        for place in range(begin + 2, begin + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(f"{order}HHI", block, place)
            # As a short, or, of some programs, a long.
            if tag == ORIENTATION and count == 1 and kind in (3, 4):
                [value] = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", block, place + 8)
                return int(value)
    return 1

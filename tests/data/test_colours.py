"""Every kind of picture in the right colours: each value is computed here by NumPy from what was drawn."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from runner import images
from runner.errors import DataError
from tests.odd_pictures import READS_YCBCR, encoded, png, tiff

SIDE = 16
BACKGROUND = (10, 200, 30)
RGB = images.Preparation(SIDE, SIDE, background=BACKGROUND)
GREY = images.Preparation(SIDE, SIDE, channels=1, background=BACKGROUND)
RANDOM = np.random.default_rng(0)
#: uint16, every 257th value: its upper byte is 0 to 255.
DEEP = np.arange(0, 65536, 257, dtype=np.uint16).reshape(SIDE, SIDE)
COLOURS = RANDOM.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
ALPHA = RANDOM.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)


def decoded(content: bytes, preparation: images.Preparation = RGB) -> np.ndarray:
    return images.decode(content, preparation)


def of_grey(values: np.ndarray) -> np.ndarray:
    """[S, S] as RGB."""
    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)


def on_background(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """[S, S, 3] with its alpha [S, S], rounded."""
    share = alpha[..., None] / 255
    return np.floor(colours * share + np.array(BACKGROUND) * (1 - share) + 0.5).astype(np.uint8)


def as_luma(colours: np.ndarray) -> np.ndarray:
    """ITU-R 601-2, in the fixed point that Pillow documents for mode L."""
    red, green, blue = np.moveaxis(colours.astype(np.int64), 2, 0)
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).astype(np.uint8)[..., None]


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("PPM", {}),
    ],
)  # fmt: skip
def test_sixteen_bits_of_grey_keep_the_upper_eight(format, options):
    content = encoded(Image.fromarray(DEEP), format, **options)
    assert np.array_equal(decoded(content), of_grey(DEEP >> 8))
    assert np.array_equal(decoded(content, GREY)[..., 0], DEEP >> 8)


def test_sixteen_bits_of_either_byte_order_are_the_same():
    assert np.array_equal(decoded(encoded(Image.fromarray(DEEP.astype(">u2")), "TIFF")), of_grey(DEEP >> 8))


def test_sixteen_bits_of_colour_keep_the_upper_eight():
    deep = RANDOM.integers(0, 65536, (SIDE, SIDE, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    assert np.array_equal(decoded(png(SIDE, SIDE, 16, 2, rows)), deep >> 8)


def test_a_dark_picture_of_sixteen_bits_is_dark():
    for format in ("PNG", "PPM", "TIFF"):
        assert not decoded(encoded(Image.fromarray(DEEP >> 8), format)).any(), format


def test_twelve_bits_keep_the_upper_eight():
    values = np.arange(0, 4096, 16, dtype=np.uint16).reshape(SIDE, SIDE)
    packed = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(SIDE, SIDE, 2), axis=2)[:, :, 4:]
    assert np.array_equal(decoded(tiff(SIDE, SIDE, np.packbits(packed).tobytes(), bits=12)), of_grey(values >> 4))


def test_where_zero_is_white_it_is():
    inverted = decoded(encoded(Image.fromarray(DEEP), "TIFF", tiffinfo={262: 0}))
    assert np.array_equal(inverted, of_grey((65535 - DEEP) >> 8))
    levels = np.arange(256, dtype=np.uint8).reshape(SIDE, SIDE)
    assert np.array_equal(decoded(tiff(SIDE, SIDE, levels.tobytes(), photometric=0)), of_grey(255 - levels))


@pytest.mark.parametrize(("values", "right"), [(DEEP >> 8, DEEP >> 8), (DEEP, DEEP >> 8)])
def test_integers_of_32_bits_that_are_levels_of_8_or_16_are_taken_as_such(values, right):
    assert np.array_equal(decoded(encoded(Image.fromarray(values.astype(np.int32)), "TIFF")), of_grey(right))


@pytest.mark.parametrize("values", [[0, 70_000], [-1, 255], [-(2**31), 2**31 - 1]])
def test_other_integers_of_32_bits_are_refused_with_the_remedy(tmp_path, values):
    Image.fromarray(np.array([values], dtype=np.int32)).save(tmp_path / "wide.tif")
    with pytest.raises(DataError, match=rf"wide\.tif .*{values[0]} to {values[1]}.*[Ss]ave it with 8 or 16 bits"):
        images.decode(tmp_path / "wide.tif", RGB)


def test_floats_of_0_to_1_are_black_to_white():
    values = RANDOM.random((SIDE, SIDE), dtype=np.float32)
    values[0, :2] = 0, 1
    for format in ("TIFF", "PPM"):
        right = of_grey(np.floor(values * np.float32(255) + 0.5))
        assert np.array_equal(decoded(encoded(Image.fromarray(values), format)), right), format


@pytest.mark.parametrize("value", [1.5, -0.1, 255.0, np.nan, np.inf])
def test_other_floats_are_refused_with_the_remedy(tmp_path, value):
    Image.fromarray(np.array([[0.5, value]], dtype=np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(DataError, match=r"float\.tif .*0 \(black\) to 1 \(white\).*8 or 16 bits"):
        images.decode(tmp_path / "float.tif", RGB)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_an_alpha_channel_shows_the_background_and_not_the_hidden_colour(format):
    image = Image.fromarray(np.dstack([COLOURS, ALPHA]))
    content = encoded(image, format, **({"lossless": True, "exact": True} if format == "WEBP" else {}))
    right = on_background(COLOURS, ALPHA)
    assert np.array_equal(decoded(content), right)
    assert np.array_equal(decoded(content, GREY), as_luma(right))


def test_grey_with_alpha_is_put_on_the_background():
    image = Image.fromarray(np.dstack([COLOURS[..., 0], ALPHA]))
    right = on_background(of_grey(COLOURS[..., 0]), ALPHA)
    for format in ("PNG", "TIFF"):
        assert np.array_equal(decoded(encoded(image, format)), right), format


PALETTE = RANDOM.integers(0, 256, (16, 3), dtype=np.uint8)
INDICES = RANDOM.integers(0, 16, (SIDE, SIDE), dtype=np.uint8)


def with_palette() -> Image.Image:
    image = Image.fromarray(INDICES, "P")
    image.putpalette(PALETTE.tobytes())
    return image


@pytest.mark.parametrize("format", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_palette_is_looked_up(format):
    assert np.array_equal(decoded(encoded(with_palette(), format)), PALETTE[INDICES])


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_a_transparent_entry_of_a_palette_is_the_background(format):
    right = on_background(PALETTE[INDICES], np.where(INDICES == 7, 0, 255))
    assert np.array_equal(decoded(encoded(with_palette(), format, transparency=7)), right)


def test_a_palette_with_an_alpha_for_each_entry_is_put_on_the_background():
    alpha = np.arange(0, 256, 17, dtype=np.uint8)
    content = encoded(with_palette(), "PNG", transparency=alpha.tobytes())
    assert np.array_equal(decoded(content), on_background(PALETTE[INDICES], alpha[INDICES]))


def test_a_transparent_colour_is_the_background():
    colour = tuple(map(int, COLOURS[3, 4]))
    alpha = np.where((COLOURS[3, 4] == COLOURS).all(2), 0, 255)
    content = encoded(Image.fromarray(COLOURS), "PNG", transparency=colour)
    assert np.array_equal(decoded(content), on_background(COLOURS, alpha))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_grey_level_of_any_depth_is_the_background(bits):
    levels = RANDOM.integers(0, 2**bits, (SIDE, SIDE), dtype=np.uint16)
    clear = int(levels[5, 5])
    places = np.unpackbits(levels.astype(">u2").view(np.uint8).reshape(SIDE, SIDE, 2), axis=2)[:, :, 16 - bits :]
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in places)
    content = png(SIDE, SIDE, bits, 0, rows, tRNS=struct.pack(">H", clear))
    grey = levels >> 8 if bits == 16 else levels * (255 // (2**bits - 1))
    assert np.array_equal(decoded(content), on_background(of_grey(grey), np.where(levels == clear, 0, 255)))


def test_a_transparent_colour_of_sixteen_bits_is_the_background():
    deep = RANDOM.integers(0, 65536, (SIDE, SIDE, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    content = png(SIDE, SIDE, 16, 2, rows, tRNS=deep[2, 3].astype(">u2").tobytes())
    alpha = np.where((deep == deep[2, 3]).all(2), 0, 255)
    assert np.array_equal(decoded(content), on_background(deep >> 8, alpha))


def test_black_and_white_is_black_and_white():
    for format in ("PNG", "TIFF", "PPM", "BMP"):
        content = encoded(Image.fromarray(COLOURS[..., 0] > 127), format)
        assert np.array_equal(decoded(content), of_grey(255 * (COLOURS[..., 0] > 127))), format


def test_inks_are_taken_off_white():
    cyan_to_black = RANDOM.integers(0, 256, (SIDE, SIDE, 4), dtype=np.uint8)
    content = encoded(Image.fromarray(cyan_to_black, "CMYK"), "TIFF")
    colours, black = cyan_to_black[..., :3].astype(float), cyan_to_black[..., 3:]
    right = (255 - colours) * (1 - black / 255)
    assert np.abs(decoded(content) - right).max() <= 1


@pytest.mark.skipif(not READS_YCBCR, reason="Pillow before 13 cannot read what it writes")
def test_luma_and_chroma_are_colours():
    # ITU-R BT.601, full range, as in JFIF.
    luma, blue, red = np.moveaxis(RANDOM.integers(64, 192, (SIDE, SIDE, 3), dtype=np.uint8).astype(float), 2, 0)
    right = np.stack([
        luma + 1.402 * (red - 128), luma - 0.344136 * (blue - 128) - 0.714136 * (red - 128), luma + 1.772 * (blue - 128)
    ], axis=2).clip(0, 255)  # fmt: skip
    image = Image.fromarray(np.stack([luma, blue, red], axis=2).astype(np.uint8), "YCbCr")
    assert np.abs(decoded(encoded(image, "TIFF")) - right).max() <= 1.5


def test_lightness_without_colour_is_grey():
    lightness = np.linspace(0, 100, 256).reshape(SIDE, SIDE)
    lab = (
        np.stack([lightness * 2.55, np.zeros_like(lightness), np.zeros_like(lightness)], axis=2)
        .round()
        .astype(np.uint8)
    )
    result = decoded(encoded(Image.frombytes("LAB", (SIDE, SIDE), lab.tobytes()), "TIFF")).astype(int)
    # CIE 1976: L* to luminance, and sRGB's curve.
    luminance = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    curve = np.where(luminance <= 0.0031308, 12.92 * luminance, 1.055 * luminance ** (1 / 2.4) - 0.055)
    assert np.abs(result - 255 * curve[..., None]).max() <= 3


def test_modes_that_only_programs_make_are_colours_too():
    for mode in ("HSV", "RGBX", "RGBa", "La", "PA"):
        image = Image.new("RGBA", (4, 4), (200, 100, 50, 255)).convert({"La": "LA", "PA": "P"}.get(mode, "RGB"))
        image = image.convert("RGBA").convert(mode) if mode == "RGBa" else image.convert(mode)
        plain = np.asarray(Image.new("RGB", (4, 4), (200, 100, 50)))
        right = of_grey(as_luma(plain)[..., 0]) if mode == "La" else plain
        result = images.decode(image, images.Preparation(4, 4)).astype(int)
        assert np.abs(result - right).max() <= (30 if mode == "PA" else 2), mode


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_of_an_animation_or_several_pages_it_is_the_first(format):
    first, second = (Image.new("RGB", (SIDE, SIDE), colour) for colour in ((250, 10, 20), (0, 0, 255)))
    content = encoded(first, format, save_all=True, append_images=[second])
    with Image.open(io.BytesIO(content)) as image:
        assert getattr(image, "n_frames", 1) == 2
    assert np.abs(decoded(content).astype(int) - [250, 10, 20]).max() <= 4


def test_a_wrong_suffix_hides_nothing(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "photo.jpg", "PNG")
    assert np.array_equal(images.decode(tmp_path / "photo.jpg", RGB), COLOURS)


def test_grey_is_pillows_of_the_colours():
    assert np.array_equal(decoded(encoded(Image.fromarray(COLOURS), "PNG"), GREY), as_luma(COLOURS))

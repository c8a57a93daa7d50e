"""Whatever is in an image file, it is decoded or refused by name, and never takes more memory than its size allows."""

from __future__ import annotations

import io
import os
import random
import resource
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from runner import config as cfg
from runner import data, images
from runner.data import facts
from runner.errors import DataError
from runner.images import Preparation, formats
from tests.odd_pictures import KINDS, odd_pictures, turned

#: Files that are tried by each test, the same ones each time; `make test-fuzz` tries 8,000 others.
EXAMPLES = 8 * int(os.environ.get("RUNNER_FUZZ", "60"))
TRIED = settings(
    max_examples=EXAMPLES, deadline=None, derandomize="RUNNER_FUZZ" not in os.environ, print_blob=True, database=None
)


@pytest.fixture(scope="module", autouse=True)
def _bounded_memory():
    """All of these files together take less than 256 MB at once."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10


def noise(mode: str = "RGB", side: int = 24) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 4), dtype=np.uint8)
    return Image.fromarray(pixels, "RGBA").convert(mode)


def encoded(format: str, mode: str = "RGB", side: int = 24, **options: object) -> bytes:
    stream = io.BytesIO()
    noise(mode, side).save(stream, format, **options)
    return stream.getvalue()


FILES = [
    encoded("PNG"), encoded("PNG", "P"), encoded("PNG", "LA"), encoded("JPEG"), encoded("JPEG", "CMYK"),
    encoded("JPEG", progressive=True), encoded("MPO", save_all=True, append_images=[noise()]), encoded("BMP"),
    encoded("WEBP"), encoded("WEBP", "RGBA", lossless=True), encoded("GIF", "P"),
    encoded("GIF", "P", save_all=True, append_images=[noise("P", 30)]), encoded("PPM"), encoded("PPM", "1"),
    *(encoded("TIFF", compression=kind) for kind in (None, "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")),
    *(content for _, content in odd_pictures(len(KINDS))),
]  # fmt: skip
#: How files of the formats that Pillow knows begin, those that are not read as well.
MAGICS = [
    b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe1", b"\xff\xd8\xff\xdb", b"GIF89a", b"BM", b"P6 9 9 255\n", b"P3\n", b"P4\n",
    b"RIFF\x40\0\0\0WEBPVP8 ", b"RIFF\x40\0\0\0WEBPVP8L", b"RIFF\x40\0\0\0WEBPVP8X", b"II*\0\x08\0\0\0", b"Pf\n",
    b"MM\0*\0\0\0\x08", b"II+\0\x08\0\0\0", b"DDS |\0\0\0", b"8BPS\0\1", b"\0\0\0 ftypavif\0\0\0\0", b"icns", b"GRIB",
    b"%!PS-Adobe-3.0 EPSF", b"\0\0\1\0", b"\0\0\2\0", b"\0\0\0\x0cjP  \r\n\x87\n", b"qoif", b"SIMPLE  =", b"\x01\xda",
    b"\x0a\x05\x01\x08", b"DanM", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"FTC\x04", b"BLP2", b"\x59\xa6\x6a\x95",
    b"#define x_width 9\n",
]  # fmt: skip
EDITS = st.lists(
    st.tuples(st.integers(0, 2**16), st.sampled_from(["set", "insert", "cut", "end"]), st.binary(max_size=6)),
    min_size=1, max_size=6,
)  # fmt: skip


def edited(content: bytes, edits: list[tuple[int, str, bytes]]) -> bytes:
    for place, edit, piece in edits:
        # Half of them in the headers.
        at = place % min(len(content) + 1, 64 if place % 2 else 1 << 16)
        match edit:
            case "set":
                content = content[:at] + piece + content[at + len(piece) :]
            case "insert":
                content = content[:at] + piece + content[at:]
            case "cut":
                content = content[:at] + content[at + len(piece) :]
            case "end":
                content = content[:at]
    return content


def decoded_or_refused(content: bytes) -> bool:
    """Whether it was decoded."""
    try:
        square = images.decode(content, Preparation(8, 8, max_pixels=1 << 22))
    except DataError:
        return False
    assert (square.shape, square.dtype) == ((8, 8, 3), np.uint8)
    return True


@TRIED
@given(st.sampled_from(FILES), EDITS)
def test_any_damage_to_an_image_is_decoded_or_refused(content, edits):
    decoded_or_refused(edited(content, edits))


@TRIED
@given(st.sampled_from(MAGICS), st.binary(max_size=400), st.integers(0, 2**32))
def test_any_bytes_behind_any_beginning_are_decoded_or_refused(magic, some, seed):
    decoded_or_refused(magic + some)
    decoded_or_refused(magic + random.Random(seed).randbytes(2000))


@pytest.mark.parametrize("format", ["DDS", "EPS", "ICO", "TGA", "PCX", "JPEG2000"])
def test_only_the_formats_that_are_listed_are_opened(tmp_path, format):
    path = tmp_path / "image.png"
    Image.init()
    path.write_bytes(encoded(format) if format in Image.SAVE else b"\0")
    with pytest.raises(DataError, match=r"image\.png cannot be read as an image: of an unknown format.*PNG, JPEG, BMP"):
        images.decode(path, Preparation(8, 8))


@pytest.mark.parametrize("format", ["AVIF", "HEIC"])
def test_what_phones_write_and_is_not_read_is_named_with_the_remedy(tmp_path, format):
    # Pillow writes no HEIC, which begins like this.
    content = encoded(format) if format in Image.SAVE else b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(40)
    for name in ("photo.heic", "photo.jpg"):
        (tmp_path / name).write_bytes(content)
        words = rf"{name} cannot be read as an image: {format} is not read: convert it to JPEG or PNG\."
        with pytest.raises(DataError, match=words):
            images.decode(tmp_path / name, Preparation(8, 8))


def test_every_suffix_is_of_a_format_that_is_opened():
    Image.init()
    for suffix, format in formats.FORMATS.items():
        # Pillow opens MPO, a JPEG with others behind it, as JPEG.
        assert Image.registered_extensions()[suffix].replace("MPO", "JPEG") == format
    for format in formats.FORMATS.values():
        assert decoded_or_refused(encoded(format))


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + b"\0\0\0\1IDAT\0"
    )


def tiff(width: int, height: int) -> bytes:
    """A small file that says it has strips of so many pixels."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    values = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: width * height}
    for tag, value in values.items():
        tags[tag] = value
    return b"II*\0\x08\0\0\0" + tags.tobytes(8) + b"\0" * 1400


HUGE = {
    "png": png_header(12_900, 12_900),
    "tiff": tiff(12_900, 12_900),
    "bmp": encoded("BMP")[:18] + struct.pack("<ii", 12_900, 12_900) + encoded("BMP")[26:],
    "ppm": b"P6 12900 12900 255\n",
    "gif": b"GIF89a" + struct.pack("<HH", 12_900, 12_900) + encoded("GIF", "P")[10:],
    "jpeg": encoded("JPEG").replace(struct.pack(">HH", 24, 24), struct.pack(">HH", 12_900, 12_900), 1),
    "webp": encoded("WEBP").replace(struct.pack("<HH", 24, 24), struct.pack("<HH", 12_900, 12_900), 1),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("format", HUGE)
def test_more_pixels_than_are_allowed_are_refused_before_they_are_decoded(tmp_path, format):
    path = tmp_path / f"huge.{format}"
    path.write_bytes(HUGE[format])
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(DataError, match=rf"huge\.{format} has 12900×12900 pixels.*data\.max_pixels=89478485"):
        images.decode(path, Preparation(8, 8))
    assert time.monotonic() - began < 0.5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


BOMBS = {"png": png_header(50_000, 50_000), "tiff": tiff(50_000, 50_000), "ppm": b"P6 50000 50000 255\n"}


@pytest.mark.parametrize("format", BOMBS)
def test_the_header_alone_decides_about_the_pixels_of_a_large_file(tmp_path, format):
    path = tmp_path / f"bomb.{format}"
    path.write_bytes(BOMBS[format])
    os.truncate(path, images.LARGEST_FILE)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    said = r"2500000000 pixels, more than the limit \(data\.max_pixels=89478485"
    for read in (lambda: images.decode(path, Preparation(8, 8)), lambda: facts.decoded(str(path), images.MAX_PIXELS)):
        with pytest.raises(DataError, match=rf"bomb\.{format} has {said}"):
            read()
    assert time.monotonic() - began < 0.5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_a_file_of_more_bytes_than_are_read_is_refused_before_it_is(tmp_path):
    path = tmp_path / "large.jpg"
    path.write_bytes(encoded("JPEG"))
    os.truncate(path, 10 << 30)
    began = time.monotonic()
    for read in (lambda: images.decode(path, Preparation(8, 8)), lambda: facts.decoded(str(path), images.MAX_PIXELS)):
        with pytest.raises(DataError, match=r"large\.jpg cannot be read: it has 10,737,418,240 bytes, and at most"):
            read()
    assert time.monotonic() - began < 0.5


def test_the_bound_is_a_key_that_training_and_evaluation_follow(tmp_path):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "1.png").write_bytes(encoded("PNG"))
    config = cfg.ImageFolder(root=str(tmp_path), val_fraction=0.0, max_pixels=24 * 24)
    assert data.load(config).test.decode(0).shape == (32, 32, 3)
    config.max_pixels -= 1
    with pytest.raises(DataError, match=r"1\.png has 24×24 pixels.*data\.max_pixels=575"):
        data.load(config).test.decode(0)


def test_the_default_bound_is_the_same_with_a_config_and_without():
    assert cfg.Data().max_pixels == images.MAX_PIXELS == Image.MAX_IMAGE_PIXELS


def test_webp_is_allowed_half_as_many_pixels():
    assert images.decode(encoded("WEBP"), Preparation(8, 8, max_pixels=2 * 24 * 24)).shape == (8, 8, 3)
    with pytest.raises(DataError, match="has 24×24 pixels"):
        images.decode(encoded("WEBP"), Preparation(8, 8, max_pixels=2 * 24 * 24 - 1))


def test_an_image_of_pillow_that_cannot_be_decoded_is_refused():
    with pytest.raises(DataError, match="The image cannot be read"):
        images.decode(Image.open(io.BytesIO(encoded("JPEG")[:-200])), Preparation(8, 8))


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path):
    (tmp_path / "folder.png").mkdir()
    for name in ("missing.png", "folder.png"):
        with pytest.raises(DataError, match=name):
            images.decode(tmp_path / name, Preparation(8, 8))


def exif(entries: bytes, count: int) -> bytes:
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", count) + entries


BROKEN = {
    "empty": b"Exif\0\0", "cut": b"Exif\0\0II*\0", "no TIFF": b"Exif\0\0nonsense",
    "more entries than bytes": exif(b"", 500),
    "an offset beyond the end": exif(struct.pack("<HHII", 0x10F, 2, 2**31, 2**31), 1),
    "an orientation of text": exif(struct.pack("<HHI4s", 0x112, 2, 4, b"abc\0"), 1),
    "no orientation at all": exif(struct.pack("<HHII", 0x112, 3, 0, 0), 1),
    "an orientation of 77": exif(struct.pack("<HHIHH", 0x112, 3, 1, 77, 0), 1),
    "a resolution by zero": exif(struct.pack("<HHIIII", 0x11A, 5, 1, 26, 72, 0), 1),
    "a block within itself": exif(struct.pack("<HHII", 0x8769, 4, 1, 8), 1),
    "an unknown type": exif(struct.pack("<HHII", 0x112, 99, 1, 6), 1),
}  # fmt: skip


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("block", BROKEN)
def test_a_broken_note_of_the_camera_does_not_hide_the_picture(format, block):
    plain = images.decode(encoded(format), Preparation(16, 16))
    assert np.array_equal(images.decode(encoded(format, exif=BROKEN[block]), Preparation(16, 16)), plain)


@TRIED
@given(st.sampled_from(["JPEG", "PNG", "WEBP"]), st.binary(max_size=200))
def test_any_note_of_the_camera_leaves_the_picture_readable(format, some):
    # Its own size is what a turn changes least.
    content = encoded(format, side=8, exif=b"Exif\0\0II*\0\x08\0\0\0" + some)
    assert images.decode(content, Preparation(8, 8)).shape == (8, 8, 3)


def test_a_tiff_whose_camera_block_is_elsewhere_is_readable():
    content = encoded("TIFF", tiffinfo={34665: 2**31, 34853: 3})
    assert np.array_equal(
        images.decode(content, Preparation(16, 16)), images.decode(encoded("TIFF"), Preparation(16, 16))
    )


ORIENTED = {
    "after an offset beyond the end": exif(struct.pack("<HHIIHHII", 0x10F, 2, 2**31, 2**31, 0x112, 3, 1, 6), 2),
    "after an unknown type": exif(struct.pack("<HHIIHHII", 0x10F, 99, 1, 6, 0x112, 3, 1, 6), 2),
    "with more entries than bytes": exif(struct.pack("<HHII", 0x112, 3, 1, 6), 500),
    "with a long for a short": exif(struct.pack("<HHII", 0x112, 4, 1, 6), 1),
    "in the other order of bytes": b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHIHH", 1, 0x112, 3, 1, 6, 0),
}  # fmt: skip


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("block", ORIENTED)
def test_the_orientation_is_followed_whatever_else_a_camera_noted(format, block):
    plain = images.decode(encoded(format), Preparation(24, 24))
    assert np.array_equal(
        images.decode(encoded(format, exif=ORIENTED[block]), Preparation(24, 24)), np.rot90(plain, -1)
    )


@pytest.mark.parametrize("turn", range(1, 9))
def test_each_orientation_is_followed_as_pillow_follows_it(turn):
    from PIL import ImageOps

    note = Image.Exif()
    note[0x112] = turn
    content = encoded("PNG", exif=note)
    with Image.open(io.BytesIO(content)) as image:
        expected = images.prepare(ImageOps.exif_transpose(image), Preparation(24, 24))
    assert np.array_equal(images.decode(content, Preparation(24, 24)), expected)


MEASURE = """
import resource, sys
from runner import images
small = images.decode(sys.argv[1], images.Preparation(8, 8))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
images.decode(sys.argv[2], images.Preparation(8, 8))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize(
    ("mode", "bytes_a_pixel"), [("RGB", 8), ("RGBA", 8), ("LA", 12), ("L", 5), ("I;16", 6), ("F", 10)]
)
def test_a_large_picture_takes_no_more_memory_than_is_said(tmp_path, mode, bytes_a_pixel):
    suffix, side = "tif" if mode == "F" else "png", 3000
    for name, length in (("small", 8), ("large", side)):
        deep = {"I;16": np.uint16, "F": np.float32}.get(mode)
        image = Image.fromarray(np.zeros((length, length), deep)) if deep else Image.new(mode, (length, length))
        image.save(tmp_path / f"{name}.{suffix}", **({} if mode == "F" else {"exif": turned(6)}))
    paths = [str(tmp_path / f"{name}.{suffix}") for name in ("small", "large")]
    done = subprocess.run([sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True, timeout=60)
    assert int(done.stdout) <= 1.1 * bytes_a_pixel * side**2 + (4 << 20), done.stderr

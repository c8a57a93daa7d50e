"""Every layout of a TIFF's samples is decoded to the colours that were drawn, or refused."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest

from runner import images
from runner.errors import DataError

SIDE = 16
PREPARATION = images.Preparation(SIDE, SIDE)
LEVELS = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 4), dtype=np.uint8)
#: Photometric → samples of a pixel.
SAMPLES = {0: 1, 1: 1, 2: 3, 5: 4}
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
CHUNKY, PLANAR = 1, 2


def tiff(planes: list[bytes], order: str, **tags: int | tuple[int, ...]) -> bytes:
    """An uncompressed TIFF of SIDE×SIDE pixels, with tags named `t<number>`; each plane is a strip."""
    offsets = tuple(8 + sum(map(len, planes[:place])) for place in range(len(planes)))
    values = {256: SIDE, 257: SIDE, 259: 1, 273: offsets, 278: SIDE, 279: tuple(map(len, planes))}
    values |= {int(name[1:]): value for name, value in tags.items()}
    content = b"".join(planes)
    begin = 8 + len(content)
    behind, entries = b"", b""
    for tag, value in sorted(values.items()):
        numbers = value if isinstance(value, tuple) else (value,)
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            place = begin + 2 + 12 * len(values) + 4 + len(behind)
            behind, packed = behind + packed, struct.pack(f"{order}I", place)
        entries += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + packed
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", begin)
    return head + content + struct.pack(f"{order}H", len(values)) + entries + b"\0" * 4 + behind


def stored(levels: np.ndarray, kind: int, bits: int, order: str) -> np.ndarray:
    """Levels of 8 bits as samples of this kind."""
    if kind == FLOAT:
        return (levels / 255).astype(f"{order}f{bits // 8}")
    values = levels.astype(np.int64) * (257 if bits == 16 else 1)
    return (values // 2 if kind == SIGNED and bits < 32 else values).astype(f"{order}{'ui'[kind - 1]}{bits // 8}")


def written(photometric: int, kind: int, bits: int, planar: int, order: str, **tags: int | tuple[int, ...]) -> bytes:
    count = SAMPLES[photometric]
    samples = stored(LEVELS[..., :count], kind, bits, order)
    planes = [samples] if planar == CHUNKY else [samples[..., place] for place in range(count)]
    about = {"t258": (bits,) * count, "t262": photometric, "t277": count, "t284": planar, "t339": (kind,) * count}
    return tiff([plane.tobytes() for plane in planes], order, **{**about, **tags})


def drawn(photometric: int) -> np.ndarray:
    """The colours, int64 [S, S, 3]."""
    levels = LEVELS.astype(np.int64)
    match photometric:
        case 0:
            return np.repeat(255 - levels[..., :1], 3, axis=2)
        case 1:
            return np.repeat(levels[..., :1], 3, axis=2)
        case 2:
            return levels[..., :3]
    return np.round((255 - levels[..., :3]) * (255 - levels[..., 3:]) / 255).astype(np.int64)


LAYOUTS = list(itertools.product(SAMPLES, (UNSIGNED, SIGNED, FLOAT), (8, 16, 32, 64), (CHUNKY, PLANAR), "<>"))
LAYOUTS = [layout for layout in LAYOUTS if layout[1:3] != (FLOAT, 8)]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_layout_is_decoded_to_what_was_drawn_or_refused(layout):
    try:
        result = images.decode(written(*layout), PREPARATION)
    except DataError:
        return
    assert np.abs(result - drawn(layout[0])).max() <= 1


def test_the_layouts_that_cameras_scanners_and_microscopes_write_are_read():
    for order in "<>":
        for photometric, kind, bits in [(1, UNSIGNED, 8), (1, UNSIGNED, 16), (1, SIGNED, 32), (1, FLOAT, 32)]:
            images.decode(written(photometric, kind, bits, CHUNKY, order), PREPARATION)
        for photometric, bits in itertools.product((2, 5), (8, 16)):
            images.decode(written(photometric, UNSIGNED, bits, CHUNKY, order), PREPARATION)
        for photometric in (1, 2, 5):
            images.decode(written(photometric, UNSIGNED, 8, PLANAR, order), PREPARATION)


REFUSED = {
    "planes of 16 bits": written(2, UNSIGNED, 16, PLANAR, "<"),
    "signed 8 bits": written(1, SIGNED, 8, CHUNKY, "<"),
    "signed 16 bits": written(1, SIGNED, 16, CHUNKY, ">"),
    "a plane where zero is white": written(0, UNSIGNED, 8, PLANAR, "<"),
    "no photometric": tiff([LEVELS[..., 0].tobytes()], "<", t258=8, t277=1),
    "inks that are not CMYK": written(5, UNSIGNED, 8, CHUNKY, "<", t332=2),
    "YCbCr of fewer colours than pixels": tiff([LEVELS.tobytes()], "<", t258=(8,) * 3, t262=6, t277=3, t530=(2, 2)),
    "a palette of 8 bits": tiff([LEVELS[..., 0].tobytes()], "<", t258=8, t262=3, t277=1, t320=tuple(range(256)) * 3),
}


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED)
def test_a_layout_that_is_not_read_is_refused_with_the_file_and_what_it_is(tmp_path, content):
    (tmp_path / "odd.tif").write_bytes(content)
    with pytest.raises(DataError, match=r"odd\.tif cannot be read as an image: a TIFF whose layout .* save it as PNG"):
        images.decode(tmp_path / "odd.tif", PREPARATION)

"""What `model.json` says of pictures in words: exact enough to do the same elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from ..images import Preparation

#: Steps that are the same for every network, and between them those that are not.
DECODED = """\
Decode the first frame or page, without its colour profile.
Make it 8 bits a channel: of 16 or 12 bits take the upper 8; 32-bit integers as they are if none is above 255, their \
bits 8 to 15 if one is but none above 65535; floats of 0 to 1 as floor(255·x + 0.5). Others are refused.
Convert it to RGB with alpha: a transparent colour has alpha 0, and what knows no transparency 255."""
COMPOSITED = "Put it on the background {background}: floor((colour·alpha + background·(255 - alpha)) / 255 + 0.5)."
GREY = "Make it grey: (19595·R + 38470·G + 7471·B + 32768) >> 16."
TURNED = "Turn it as EXIF's orientation tag (0x0112) says, 2 to 8. From here on it is w wide and h high."
CROP = """\
Cut out the centre: wide = {ratio}·min(w, h·{width}/{height}), high = {ratio}·min(h, w·{height}/{width}), \
box = ((w - wide)/2, (h - high)/2, (w + wide)/2, (h + high)/2) as (left, upper, right, lower), not rounded.
Scale the box to {width}×{height}."""
STRETCH = "Scale all of it, box = (0, 0, w, h), to {width}×{height}."
PAD = """\
Scale all of it, box = (0, 0, w, h), to wide×high: s = min({width}/w, {height}/h), wide = max(1, round(w·s)), \
high = max(1, round(h·s)), halves to even.
Put it at left = floor(({width} - wide)/2), upper = floor(({height} - high)/2) of a picture of {width}×{height} in the \
background's colour, as RGB or grey as above."""
SCALED = """\
Scaling is bilinear and antialiased, along the width first and then along the height, both rounded to whole numbers \
(halves up). With the box in float32, scale = length of the box / new length and support = max(1, scale), output i has \
its centre at begin of the box + (i + 0.5)·scale. It is the sum of the picture's pixels j, floor(centre - support + \
0.5) <= j < floor(centre + support + 0.5), times max(0, 1 - |j + 0.5 - centre|/support) over the sum of these \
weights, rounded to multiples of 2^-22. Pillow: resize((width, height), Image.Resampling.BILINEAR, box=box)."""
NORMALISED = "Normalise in float32: (x/255 - mean)/std, with mean {mean} and std {std} of the channels."
ORDERED = "Order it as [N, C, H, W], here [N, {channels}, {height}, {width}], the channels as {names}."
#: Of networks whose images are no pictures.
ARRAYS = "Images are arrays of {channels} channels, uint8, {height} high and {width} wide."


def steps(preparation: Preparation, mean: Sequence[float], std: Sequence[float]) -> list[str]:
    """The steps in their order. `runner/images.py` does them; a test does them once more, from this text alone."""
    resizing = {"crop": CROP, "stretch": STRETCH, "pad": PAD}[preparation.resize]
    match preparation.channels:
        case 3:
            parts, names = [DECODED, COMPOSITED, TURNED, resizing, SCALED], "red, green, blue"
        case 1:
            parts, names = [DECODED, COMPOSITED, GREY, TURNED, resizing, SCALED], "grey"
        case _:
            parts, names = [ARRAYS], "in the arrays"
    values = {
        "width": preparation.width, "height": preparation.height, "ratio": preparation.crop_ratio, "names": names,
        "background": list(preparation.background), "channels": preparation.channels, "mean": mean, "std": std,
    }  # fmt: skip
    return "\n".join([*parts, NORMALISED, ORDERED]).format(**values).split("\n")

"""Preprocessing described in words for `model.json`, exactly enough to implement it elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from ..images import Preparation

#: The steps that are the same for every network, and between them those that differ.
SIZED = """\
w and h are width and height of the first frame or page, exchanged where EXIF's orientation tag (0x0112) is 5 to 8."""
CROP = """\
Of it the centre is taken: wide = {ratio}·min(w, h·{width}/{height}), high = {ratio}·min(h, w·{height}/{width}), \
box = ((w - wide)/2, (h - high)/2, (w + wide)/2, (h + high)/2) as (left, upper, right, lower), not rounded. It becomes \
W = {width} wide and H = {height} high."""
STRETCH = "All of it is taken, box = (0, 0, w, h), which becomes W = {width} wide and H = {height} high."
PAD = """\
All of it is taken, box = (0, 0, w, h), which becomes W = max(1, round(w·s)) wide and H = max(1, round(h·s)) high, \
halves to even, with s = min({width}/w, {height}/h)."""
DECODED = """\
Decode it, without its colour profile; of a JPEG 1/r along each side by libjpeg's own scaling, r the largest of 1, 2, \
4, 8 with r = 1 or max(4, 1.6·r) <= min((right - left)/W, (lower - upper)/H), and divide the box by r.{luma}
Make it 8 bits a channel: of 16 or 12 bits take the upper 8; 32-bit integers as they are if none is above 255, their \
bits 8 to 15 if one is but none above 65535; floats of 0 to 1 as floor(255·x + 0.5). Others are refused.
Convert it to RGB with alpha: a transparent colour has alpha 0, and everything else 255.
Put it on the background {background}: floor((colour·alpha + background·(255 - alpha)) / 255 + 0.5)."""
LUMA = " A JPEG of luma and chroma is decoded to its luma alone."
GREY = "Make it grey: (19595·R + 38470·G + 7471·B + 32768) >> 16."
TURNED = """\
Turn it upright, as the orientation says, 2 to 8. Of a JPEG it then has ceil(w/r) columns and ceil(h/r) rows, and \
where that mirrors it, what libjpeg filled up comes first: move the box right by ceil(w/r) - w/r if the orientation \
is 2, 3, 6 or 7, and down by ceil(h/r) - h/r if it is 3, 4, 7 or 8."""
SCALED = """\
Scale the box to W×H, bilinear and antialiased, each side separately and rounded to integers (halves up): first \
the height if lower - upper > H, else the width. With the box in float32, scale = length of the box / new length and \
support = max(1, scale), output i has its centre at begin of the box + (i + 0.5)·scale. It is the sum of the picture's \
pixels j, floor(centre - support + 0.5) <= j < floor(centre + support + 0.5), times \
max(0, 1 - |j + 0.5 - centre|/support) over the sum of these weights, rounded to multiples of 2^-22. It is \
Pillow's resize(..., Image.Resampling.BILINEAR, box=...)."""
PADDED = """\
Put it at left = floor(({width} - W)/2), upper = floor(({height} - H)/2) of a picture of \
{width}×{height} in the background's colour, as RGB or grey as above."""
NORMALISED = "Normalise in float32: (x/255 - mean)/std, with mean {mean} and std {std} of the channels."
ORDERED = "Order it as [N, C, H, W], here [N, {channels}, {height}, {width}], the channels as {names}."
#: For networks whose input is not image files.
ARRAYS = "Images are arrays of {channels} channels, uint8, {height} high and {width} wide."


def steps(preparation: Preparation, mean: Sequence[float], std: Sequence[float]) -> list[str]:
    """The steps in order. `runner/images` implements them; a test implements them again from this text alone."""
    resizing = {"crop": CROP, "stretch": STRETCH, "pad": PAD}[preparation.resize]
    padding = [PADDED] if preparation.resize == "pad" else []
    match preparation.channels:
        case 3:
            parts, names = [SIZED, resizing, DECODED, TURNED, SCALED, *padding], "red, green, blue"
        case 1:
            parts, names = [SIZED, resizing, DECODED, GREY, TURNED, SCALED, *padding], "grey"
        case _:
            parts, names = [ARRAYS], "in the arrays"
    values = {
        "width": preparation.width, "height": preparation.height, "ratio": preparation.crop_ratio, "names": names,
        "background": list(preparation.background), "channels": preparation.channels, "mean": mean, "std": std,
        "luma": LUMA if preparation.channels == 1 else "",
    }  # fmt: skip
    return "\n".join([*parts, NORMALISED, ORDERED]).format(**values).split("\n")

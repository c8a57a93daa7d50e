"""Draws images of circles, squares and triangles into folders: `python draw.py FOLDER`."""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw

IMAGES = {"train": 300, "test": 60}
SIDE = 48


def main() -> None:
    """Write every split."""
    generator = random.Random(0)
    for split, count in IMAGES.items():
        for name, corners in {"circle": 40, "square": 4, "triangle": 3}.items():
            folder = Path(sys.argv[1]) / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                draw(corners, generator).save(folder / f"{number:03}.png")


def draw(corners: int, generator: random.Random) -> Image.Image:
    """One regular polygon, turned, shifted and coloured at random, on another colour with noise."""
    back, front = (tuple(generator.randrange(low, low + 100) for _ in range(3)) for low in (0, 150))
    image = Image.new("RGB", (SIDE, SIDE), back)
    radius, turn = generator.uniform(14, 22), generator.uniform(-0.3, 0.3)
    x, y = (generator.uniform(radius, SIDE - radius) for _ in range(2))
    angles = [turn + 2 * math.pi * corner / corners for corner in range(corners)]
    points = [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]
    ImageDraw.Draw(image).polygon(points, fill=front)
    return image


if __name__ == "__main__":
    main()

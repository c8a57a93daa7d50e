"""Formats of pictures, by their names and content, and what in a folder is no picture of the user."""

from __future__ import annotations

#: Suffix of an image file → Pillow's name of its format; what is in a file decides, whatever its suffix.
#: Of some forty others AVIF and JPEG 2000 can ask for much more memory than the pixels that they say they have (a size
#: of 24×24 around 4096×4096; blocks of 4×4), TGA accepts what is not a picture, ICO hides a second file, EPS runs
#: programs.
FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".mpo": "JPEG", ".bmp": "BMP",
    ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM", ".pgm": "PPM", ".pbm": "PPM", ".pnm": "PPM",
    ".gif": "GIF",
}  # fmt: skip
#: What desktops, archives and storage devices leave in folders, in small letters.
SYSTEM = {
    "thumbs.db", "desktop.ini", "__macosx", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "lost+found",
    "system volume information",
}  # fmt: skip
#: What is in the beginning of a file → the format, of those that phones write and that are not read.
UNREAD = {b"ftyp" + brand: "HEIC" for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")}
UNREAD |= {b"ftyp" + brand: "AVIF" for brand in (b"avif", b"avis")}


def is_hidden(name: str) -> bool:
    """Whether a name is hidden, or that of a system's or archive's metadata."""
    return name[0] == "." or name.lower() in SYSTEM


def is_picture(name: str) -> bool:
    """Whether a name has the suffix of a readable picture."""
    return name[name.rfind(".") :].lower() in FORMATS

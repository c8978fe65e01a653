"""Opens a picture file that a person made, and says in words why it cannot where it cannot.

    read("seven.jpg").page -> an upright, opaque RGB picture, at most 960 pixels a side

Files of people are turned by EXIF, transparent, of 16 bits, huge, cut short or no pictures at all.
"""

import io
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from files import PictureError

import numpy as np
from PIL import Image, ImageOps

FORMATS = ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"]
with suppress(ImportError):  # a package that not everybody needs; what iPhones make is HEIC
    from pillow_heif import register_heif_opener

    register_heif_opener(thumbnails=False)
    FORMATS.append("HEIF")
SUFFIXES = set(".png .jpg .jpeg .jfif .bmp .gif .tif .tiff .webp .heic .heif .mpo".split())
OF_CAMERAS = {"JPEG", "MPO", "HEIF"}  # they may have more pixels: Pillow reduces JPEG on the way
MAX_BYTES = 40_000_000
MEGAPIXELS, MEGAPIXELS_OF_CAMERAS = 16, 64
LONGEST = 960  # pixels: the longest side of what `read` gives; digits need no more


class Picture(NamedTuple):
    page: Image.Image  # upright, opaque, RGB, each side at most LONGEST
    scale: float  # how wide a pixel of `page` is, in pixels of the file
    frames: int  # of an animation, of which `page` is the first; 1 otherwise


def read(path: Path) -> Picture:
    """The picture in a file; PictureError."""
    try:
        if path.exists() and not path.is_file():  # opening a FIFO would wait for ever
            raise PictureError("no picture file; give a picture or a folder with pictures in it")
        if path.stat().st_size > MAX_BYTES:
            raise PictureError("more than 40 MB; save it smaller")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata and of many pixels
            image = Image.open(io.BytesIO(path.read_bytes()), formats=FORMATS)
            camera = image.format in OF_CAMERAS
            most = MEGAPIXELS_OF_CAMERAS if camera else MEGAPIXELS
            if image.width * image.height > 1e6 * most:
                raise PictureError(f"more than {most} megapixels; save it smaller")
            frames = 1 if camera else getattr(image, "n_frames", 1)
            longest = max(image.size)
            # A JPEG is decoded no larger than needed, by a half, a quarter or an eighth.
            width, height = (max(1, n * LONGEST // longest) for n in image.size)
            image.draft("RGB", (width, height))
            page = opaque(ImageOps.exif_transpose(image))
            return Picture(page, longest / max(page.size), frames)
    except PictureError:
        raise
    except Exception as error:  # damaged files make decoders raise errors of nearly any type
        why = "damaged, cannot be decoded; save it again"
        if isinstance(error, OSError) and error.strerror:
            why = f"{error.strerror}; check its name and permissions"
        elif isinstance(error, Image.UnidentifiedImageError):
            why = f"not one of {', '.join(FORMATS)}; save it as one (HEIC: pip install pillow-heif)"
        raise PictureError(why) from None


def opaque(image: Image.Image) -> Image.Image:
    """The picture in RGB of 8 bits, on an opaque ground, each side at most LONGEST.

    The ground has the median colour of what is visible. Where most is transparent, what is visible
    is ink alone, and the ground is black or white, whichever is further from it.
    """
    if image.mode[0] in "IF":  # 16 bits, of which 10, 12 or all are used; convert would clip them
        levels = np.asarray(image, np.float32)
        bits = max(8, int(levels.max()).bit_length())
        image = Image.fromarray((levels / 2 ** (bits - 8)).astype(np.uint8))
    transparent = image.has_transparency_data
    image = image.convert("RGBA" if transparent else "RGB")
    image.thumbnail((LONGEST, LONGEST))
    if not transparent:
        return image
    pixels = np.asarray(image)
    visible = pixels[pixels[..., 3] > 127, :3]
    if 2 * len(visible) > pixels[..., 3].size:
        ground = np.median(visible, axis=0).astype(int).tolist()
    else:
        ground = [0 if visible.sum() > 127 * visible.size else 255] * 3
    page = Image.new("RGBA", image.size, (*ground, 255))
    return Image.alpha_composite(page, image).convert("RGB")


def resized(image: Image.Image, longest: int) -> Image.Image:
    """The picture with its longer side `longest` pixels, in the same proportions."""
    before = max(image.size)
    method = Image.Resampling.BILINEAR if longest < before else Image.Resampling.BICUBIC
    size = [max(1, round(n * longest / before)) for n in image.size]
    return image.resize(size, method)

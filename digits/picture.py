"""Opens a picture file that a person made, and says in words why it cannot where it cannot.

    read("seven.jpg") -> an upright, opaque RGB picture, at most 1,280 pixels a side

Files of people are turned by EXIF, transparent, of 16 bits, huge, cut short or no pictures at all.
"""

import io
import stat
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from files import PictureError

MAX_BYTES = 20_000_000
MAX_PIXELS = 16_000_000
FORMATS = ["PNG", "JPEG", "BMP", "GIF", "WEBP"]
LONGEST = 1280  # pixels: the longest side of what `read` gives; a digit needs no more


def read(path: Path) -> Image.Image:
    """The picture in a file: upright, opaque, RGB, each side at most LONGEST; or PictureError."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for ever
            raise PictureError("no picture file; give a picture or a folder with pictures in it")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise PictureError("more than 20 MB; save it smaller")
        with warnings.catch_warnings():
            # Pillow warns of odd metadata, which do no harm, and of many pixels, which we refuse.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            image.draft("RGB", (LONGEST, LONGEST))  # a JPEG is decoded no larger than needed
            return opaque(ImageOps.exif_transpose(image))
    except PictureError:
        raise
    except Exception as error:  # damaged files make decoders raise errors of nearly any type
        raise PictureError(why_unreadable(error)) from None


def why_unreadable(error: Exception) -> str:
    """Why a file could not be read and what to do, in words."""
    if isinstance(error, Image.DecompressionBombError):
        return "more than 16 megapixels; save it smaller"
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a PNG, JPEG, BMP, GIF or WebP; save it as one of these"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}; check its name and permissions"
    return "damaged, cannot be decoded; save it again"


def opaque(image: Image.Image) -> Image.Image:
    """The picture in RGB, on an opaque ground, each side at most LONGEST.

    The ground has the median colour of what is visible, as paper has. Where most of the picture
    is transparent, what is visible is ink alone: the ground is then black or white, whichever is
    further from it.
    """
    image = eight_bits(image).convert("RGBA")
    image.thumbnail((LONGEST, LONGEST))
    pixels = np.asarray(image)
    visible = pixels[pixels[..., 3] > 127, :3]
    if 2 * len(visible) > pixels[..., 3].size:
        red, green, blue = np.median(visible, axis=0)
        ground = int(red), int(green), int(blue), 255
    elif len(visible) and visible.mean() > 127:
        ground = 0, 0, 0, 255
    else:
        ground = 255, 255, 255, 255
    page = Image.new("RGBA", image.size, ground)
    return Image.alpha_composite(page, image).convert("RGB")


def eight_bits(image: Image.Image) -> Image.Image:
    """The picture with 8 bits a channel; convert("L") would clip 16 bits instead of scaling them.

    Files with 16 bits a pixel may use 10, 12 or all of them: the brightest pixel tells.
    """
    if image.mode[0] not in "IF":
        return image
    levels = np.asarray(image, np.float32)
    bits = max(8, int(levels.max()).bit_length())
    return Image.fromarray((levels / 2 ** (bits - 8)).astype(np.uint8))


def resized(image: Image.Image, longest: int) -> Image.Image:
    """The picture with its longer side `longest` pixels, in the same proportions."""
    scale = longest / max(image.size)
    width, height = (max(1, round(n * scale)) for n in image.size)
    smaller = scale < 1
    method = Image.Resampling.BILINEAR if smaller else Image.Resampling.BICUBIC
    return image.resize((width, height), method)

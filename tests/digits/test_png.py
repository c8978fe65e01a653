"""A PNG of 28 x 28 grey pixels is decoded whole, and everything else is refused."""

import io
import random
import zlib

import numpy as np
import pytest
from archives import IMAGES, RNG, chunk, flipped, png
from PIL import Image

from digits.png import decode_png
from files import DataError


def test_every_truncation_of_a_png_is_refused():
    content = png()
    for cut in range(len(content)):
        with pytest.raises(DataError):
            decode_png(content[:cut])
    assert len(content) > 150
    assert decode_png(content) == IMAGES[0].tobytes()


def test_no_flip_in_a_png_differs_in_silence():
    content = png(RNG.integers(0, 256, (28, 28), dtype=np.uint8))
    bits = random.Random(2).sample(range(8 * len(content)), 1000)
    refused = 0
    for damaged in flipped(content, bits):
        with pytest.raises(DataError):
            decode_png(damaged)
        refused += 1
    assert refused == 1000


@pytest.mark.parametrize("options", [{"compress_level": 0}, {"optimize": True}, {"dpi": (72, 72)}])
def test_pngs_of_every_maker_decode(options):
    for image in IMAGES:
        assert decode_png(png(image, **options)) == image.tobytes()


def saved(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **{"format": "PNG"} | options)
    return buffer.getvalue()


GREY = Image.fromarray(IMAGES[0])
OTHERS = {
    "16-bit": saved(Image.fromarray(IMAGES[0].astype(np.uint16))),
    "colour": saved(GREY.convert("RGB")),
    "palette": saved(GREY.convert("P")),
    "alpha": saved(GREY.convert("LA")),
    "1-bit": saved(GREY.convert("1")),
    "27 wide": saved(GREY.crop((0, 0, 27, 28))),
    "29 high": saved(GREY.crop((0, 0, 28, 29))),
    "JPEG": saved(GREY, format="JPEG"),
    "animated": saved(GREY, save_all=True, append_images=[Image.fromarray(IMAGES[1])]),
    "two in one": png() + png(),
    "two headers": png()[:33] + png()[8:],
    "no pixels": png()[:33] + chunk(b"IEND", b""),
    "too few pixels": png()[:33] + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b""),
    "not deflated": png()[:33] + chunk(b"IDAT", b"x" * 99) + chunk(b"IEND", b""),
    "not first": png()[:8] + chunk(b"teSt", b"") + png()[8:],
    "no signature": b"x" + png()[1:],
    "empty": b"",
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_images_are_refused(name):
    with pytest.raises(DataError):
        decode_png(OTHERS[name])

"""Decodes PNGs of 28 x 28 grey pixels after every CRC was checked, and encodes them.

Pillow does not check the CRC of a PNG's pixels, so this file does.
"""

import io
import struct
import zlib

from files import DataError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER = struct.pack(">IIBBBB", 28, 28, 8, 0, 0, 0)  # 28 x 28, 8-bit, greyscale


class WrongFormat(DataError):
    """A file that is no PNG of 28 x 28 grey pixels; it may be whole, and can be converted."""


def decode_png(png: bytes) -> bytes:
    """The 784 bytes of a 28 x 28, 8-bit, greyscale PNG, after every CRC was checked; DataError."""
    kinds, offset = [], len(SIGNATURE)
    if not png.startswith(SIGNATURE):
        raise WrongFormat("not a PNG")
    try:
        while not kinds or kinds[-1] != b"IEND":
            length, kind = struct.unpack_from(">I4s", png, offset)
            end = offset + 8 + length
            if struct.unpack_from(">I", png, end)[0] != zlib.crc32(png[offset + 4 : end]):
                raise DataError("damaged PNG (CRC)")
            kinds.append(kind)
            offset = end + 4
    except struct.error:
        raise DataError("not a whole PNG") from None
    if kinds[0] != b"IHDR" or kinds.count(b"IHDR") != 1:
        raise DataError("a PNG that does not begin with one header")
    if offset != len(png) or b"acTL" in kinds:
        raise WrongFormat("more than one image in a PNG")
    if not png.startswith(HEADER, 16):
        raise WrongFormat(f"a PNG of {_form(png)} instead of 28 x 28 pixels, 8-bit grey")
    from PIL.PngImagePlugin import PngImageFile  # here: a start that finds a cache decodes none

    try:
        return PngImageFile(io.BytesIO(png)).tobytes()
    except Exception as error:  # Pillow passes on whatever its decoder raises
        raise DataError(f"damaged PNG ({type(error).__name__})") from None


def _form(png: bytes) -> str:
    """The size and the kind of pixels that a PNG's header tells, in words."""
    if len(png) < 26:
        return "unknown size"
    width, height, bits, colour = struct.unpack_from(">IIBB", png, 16)
    kinds = {0: "grey", 2: "colour", 3: "palette colour", 4: "grey with alpha"}
    return f"{width} x {height} pixels, {bits}-bit {kinds.get(colour, 'colour with alpha')}"


def encode_png(rows: bytes) -> bytes:
    """A PNG of 28 rows of 29 bytes: 0 (the row is "not filtered"), then the row's 28 pixels."""
    chunks = (b"IHDR", HEADER + b"\0"), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")
    png = SIGNATURE
    for kind, content in chunks:
        crc = zlib.crc32(kind + content)
        png += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)
    return png

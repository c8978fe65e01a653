"""What the tests of archives share: images, PNGs, and members of tar files written by hand."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

END = bytes(1024)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 28, 28), dtype=np.uint8) * (RNG.random((6, 28, 28)) < 0.1)
LABELS = [5, 0, 4, 1, 9, 2]


def png(image=IMAGES[0], **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", **options)
    return buffer.getvalue()


def chunk(kind, content):
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def with_chunk(kind, content):
    """A good PNG with one more chunk after its IHDR."""
    return png()[:33] + chunk(kind, content) + png()[33:]


def member(name, content=b"", kind=tarfile.REGTYPE, layout=tarfile.USTAR_FORMAT, **fields):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(layout, "utf-8") + content + bytes(-len(content) % 512)


def pax(name, content=b"", kind=tarfile.REGTYPE, **records):
    return member(name, content, kind, tarfile.PAX_FORMAT, pax_headers=records)


def tar(*members, end=END):
    return b"".join(members) + end


def images_named(pattern, header=member):
    """The members of all the images, by a pattern for their names."""
    pairs = enumerate(zip(IMAGES, LABELS, strict=True))
    return [header(pattern.format(n, label), png(image)) for n, (image, label) in pairs]


def own_and_pax_name(name, content):
    """As bsdtar writes long names: shortened in the header, whole in a pax record."""
    return pax("short/" + Path(name).name, content, path=name, mtime="1700000000.5")


def flipped(content, bits):
    """Copies of `content`, each with one bit turned over."""
    for bit in bits:
        copy = bytearray(content)
        copy[bit // 8] ^= 1 << bit % 8
        yield bytes(copy)


GOOD = member("a/123456789_7.png", png())


# Every kind of container, in both layouts

LAYOUTS = {"labels in names": "train/{:05d}_{}.png", "labels as folders": "train/{1}/{0:05d}.png"}
CONTAINERS = ("tar", "gzip", "bzip2", "xz", "zip", "zip, not packed", "zip, streamed", "folder")


def files_named(pattern):
    """{name: PNG} of all the images, by a pattern for their names."""
    pairs = enumerate(zip(IMAGES, LABELS, strict=True))
    return {pattern.format(n, label): png(image) for n, (image, label) in pairs}


class Unseekable(io.BytesIO):
    """A stream such as a pipe: zipfile writes the sizes of members after them."""

    def seekable(self):
        return False

    def tell(self):
        raise OSError

    def seek(self, *_):
        raise OSError


def zipped(files, method=zipfile.ZIP_DEFLATED, stream=io.BytesIO):
    """A zip archive of {name or ZipInfo: content}."""
    buffer = stream()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files):
    """A tar archive of {name: content}."""
    return tar(*(member(name, content) for name, content in files.items()))


PACKERS = {
    "tar": tarred,
    "gzip": lambda files: gzip.compress(tarred(files), mtime=0),
    "bzip2": lambda files: bz2.compress(tarred(files)),
    "xz": lambda files: lzma.compress(tarred(files)),
    "zip": zipped,
    "zip, not packed": lambda files: zipped(files, zipfile.ZIP_STORED),
    "zip, streamed": lambda files: zipped(files, stream=Unseekable),
}


def put(path, container, files):
    """Put {name: content} into an archive or a folder of this path, which is new."""
    if container == "folder":
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    else:
        path.write_bytes(PACKERS[container](files))
    return path

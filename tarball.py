"""Tarballs of MNIST's PNGs, read as if the file were out to deceive.

`read_tarball` gives exactly the images that were put in, or raises `DataError`. tarfile reports a
truncated or damaged archive as a shorter one, and Pillow does not check a PNG's CRCs: what they
leave out is checked here. Nothing is ever extracted to disk.
"""

import gzip
import io
import os
import re
import struct
import tarfile
import zlib
from pathlib import Path

import torch
from PIL.PngImagePlugin import PngImageFile

MAX_MEMBERS = 200_000
MAX_MEMBER_BYTES = 64 * 1024
MAX_TAR_BYTES = 1024**3  # unpacked
MAX_END_BYTES = 1024 + 19 * 512  # two blocks of zeros, then at most the rest of a record of 20
MEMBER_NAME = re.compile(r"([0-9]{1,9})_([0-9])\.png")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_HEADER = struct.pack(">IIBBBB", 28, 28, 8, 0, 0, 0)  # 28 x 28, 8-bit, greyscale


class DataError(Exception):
    """Data that cannot be used; its message is one line: what, why, what to do."""


class _Headers:
    """A file as tarfile reads it: the last block is kept, and how much it may read is limited.

    The last block read before a member is its own header, which has a checksum; the long names and
    pax records that override it have none, and tarfile would gather any number of them in memory.
    """

    def __init__(self, file):
        self.file, self.seek, self.tell = file, file.seek, file.tell
        self.left = MAX_MEMBER_BYTES

    def read(self, size):
        self.left -= size
        if self.left < 0:
            raise DataError("a member with more than 64 KiB of headers")
        self.block = self.file.read(size)
        return self.block

    def name(self):
        """The member's name, without folders, as its own header has it; ready for the next."""
        self.left = MAX_MEMBER_BYTES
        name = self.block[:100].partition(b"\0")[0].decode("utf-8", "surrogateescape")
        return _parts(name)[-1]


def read_tarball(path):
    """Images (uint8, N x 28 x 28) and labels (int64, N), ordered by number; DataError otherwise."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # to open a pipe would wait for ever
            raise DataError("not a file")
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            images = _read_images(gzip.GzipFile(fileobj=file) if packed else file)
    except Exception as error:  # tarfile raises whatever a crafted header makes it meet
        why = getattr(error, "strerror", None) or " ".join(str(error).split()) or "cannot be read"
        raise DataError(f"{path}: {why}; nothing of it is used, put a good copy there") from error
    numbers = sorted(images)
    pixels = bytearray().join(images[number][1] for number in numbers)
    labels = [images[number][0] for number in numbers]
    return torch.frombuffer(pixels, dtype=torch.uint8).view(-1, 28, 28), torch.tensor(labels)


def _read_images(file):
    """{number: (label, 784 bytes)} of every image in an open tar file."""
    images, offenders, headers = {}, [], _Headers(file)
    with tarfile.open(fileobj=headers, mode="r:") as tar:
        for count, member in enumerate(tar, 1):
            if count > MAX_MEMBERS or member.offset_data + member.size > MAX_TAR_BYTES:
                raise DataError(f"more than {MAX_MEMBERS:,} members or 1 GiB unpacked")
            tar.members.clear()  # or it keeps every one: 60,000 of them take more than the pixels
            tar.pax_headers.clear()
            try:
                if (match := _image_name(member, headers.name())) is None:
                    continue
                number = int(match[1])
                if number in images:
                    raise DataError(f"a second image with number {number}")
                file.seek(member.offset_data)
                images[number] = int(match[2]), decode_png(file.read(member.size))
            except DataError as error:
                # repr: a name may hold control characters meant for the reader's terminal
                offenders.append(f"{error}: {member.name[:200]!r}")
        end = tar.offset
    if offenders:
        raise DataError(f"{offenders[0]} ({len(offenders):,} such members in all)")
    file.seek(end)
    rest = file.read(MAX_END_BYTES + 1)  # to the end, where gzip compares its own checksum
    if rest.count(0) != len(rest):
        raise DataError(f"damaged, not an archive any more after byte {end:,}")
    if not 1024 <= len(rest) <= MAX_END_BYTES:  # zeros: what is left of a download, perhaps
        raise DataError(f"its last {len(rest):,} bytes are no proper end, images may be missing")
    if not images:
        raise DataError("holds no images")
    return images


def _parts(path):
    """PurePosixPath(path).parts but for the root; MNIST is read in a tenth less time so."""
    return [part for part in path.split("/") if part not in ("", ".")] or [""]


def _image_name(member, header_name):
    """The match of number and label in a member's name, None for what is skipped."""
    parts = _parts(member.name)
    name = parts[-1]
    if member.name.startswith("/") or ".." in parts or re.match(r"(?s)[A-Za-z]:|.*\\", member.name):
        raise DataError("a path that leads out of its folder")
    if "size" in member.pax_headers:
        raise DataError("a size kept where no checksum covers it")
    if member.isdir():
        return None
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
        raise DataError("not a regular file")
    if name.startswith(".") and header_name.startswith("."):
        return None
    match = MEMBER_NAME.fullmatch(name)
    if not match:
        raise DataError("not named {number}_{label}.png")
    if header_name != name:
        raise DataError("a name kept where no checksum covers it (shorten the folder)")
    if not 1 <= member.size <= MAX_MEMBER_BYTES:
        raise DataError(f"{member.size:,} bytes instead of 1 to {MAX_MEMBER_BYTES:,}")
    return match


def decode_png(png):
    """The 784 bytes of a 28 x 28 8-bit greyscale PNG, every chunk's CRC checked."""
    kinds, offset = [], len(PNG_SIGNATURE)
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
    if not png.startswith(PNG_SIGNATURE) or kinds[0] != b"IHDR" or kinds.count(b"IHDR") != 1:
        raise DataError("not a PNG")
    if offset != len(png) or b"acTL" in kinds:
        raise DataError("more than one image in a PNG")
    if not png.startswith(PNG_HEADER, 16):
        raise DataError("a PNG that is not 28x28, 8-bit, greyscale")
    try:
        return PngImageFile(io.BytesIO(png)).tobytes()
    except Exception as error:  # Pillow raises whatever its decoder met
        raise DataError(f"damaged PNG ({type(error).__name__})") from None


def encode_png(rows):
    """A PNG of 28 rows, a 0 ("not filtered") before the pixels of each (uint8, 28 x 29)."""
    chunks = (b"IHDR", PNG_HEADER + b"\0"), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")
    png = PNG_SIGNATURE
    for kind, content in chunks:
        crc = zlib.crc32(kind + content)
        png += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)
    return png


def write_tarball(path, images, labels, folder):
    """Write `{folder}/{number}_{label}.png` for each image, read back before it appears."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        pngs = map(encode_png, torch.nn.functional.pad(images, (1, 0)).numpy())
        for number, (png, label) in enumerate(zip(pngs, labels.tolist(), strict=True)):
            member = tarfile.TarInfo(f"{folder}/{number:05d}_{label}.png")
            member.size = len(png)
            tar.addfile(member, io.BytesIO(png))

    def verify(written):
        back = read_tarball(written)
        if not torch.equal(back[0], images) or not torch.equal(back[1], labels):
            raise DataError(f"{path}: read back differently; is the disk sound?")

    write_whole(path, buffer.getbuffer(), verify)


def write_whole(path, content, verify=lambda written: None):
    """Write bytes so that a kill or a full disk leaves the old file or the new one; OSError."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        verify(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # the rename itself reaches the disk with its folder
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def find_tarball(root, split):
    """`split.tar` or `split.tar.gz` in a folder, None where there is neither."""
    for path in (Path(root, f"{split}.tar"), Path(root, f"{split}.tar.gz")):
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: not a file; move it away")
        if path.is_file():
            return path
    return None

"""Reads and writes tarballs of MNIST PNGs, and rejects damaged or hostile files.

`read_tarball` gives exactly the images that were put in, or raises `DataError`. tarfile reports a
truncated or damaged archive as a shorter one, and Pillow does not check the CRCs of a PNG. This
file checks both. Nothing is ever extracted to disk.
"""

import gzip
import io
import re
import struct
import tarfile
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import torch

from files import DataError, write_whole

MAX_MEMBERS = 200_000
MAX_MEMBER_BYTES = 64 * 1024
MAX_TAR_BYTES = 1024**3  # unpacked
MIN_END_BYTES = 2 * 512  # a tar archive ends with two blocks of zeros ...
MAX_END_BYTES = MIN_END_BYTES + 19 * 512  # ... and may fill up its last record of 20 blocks
GZIP_SIGNATURE = b"\x1f\x8b"
MEMBER_NAME = re.compile(r"([0-9]{1,9})_([0-9])\.png")
WINDOWS_PATH = re.compile(r"[A-Za-z]:|.*\\", re.DOTALL)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_HEADER = struct.pack(">IIBBBB", 28, 28, 8, 0, 0, 0)  # 28 x 28, 8-bit, greyscale


class _TarFile(tarfile.TarFile):
    members: list[tarfile.TarInfo]  # those read so far: tarfile has them, its types do not say so


class _HeaderReader:
    """The file from which tarfile reads headers; keeps the last block, and limits what is read.

    The last block that tarfile reads before it reports a member is the member's own header, which
    has a checksum. Long names and pax records override that header but have no checksum, and
    tarfile would collect any number of them in memory.
    """

    def __init__(self, file: BinaryIO | gzip.GzipFile):
        self.file, self.seek, self.tell = file, file.seek, file.tell
        self.left, self.block = MAX_MEMBER_BYTES, b""

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise DataError("a member has more than 64 KiB of headers")
        self.block = self.file.read(size)
        return self.block

    def name(self) -> str:
        """The member's name in its own header, without folders; then gets ready for the next."""
        self.left = MAX_MEMBER_BYTES
        name = self.block[:100].partition(b"\0")[0].decode("utf-8", "surrogateescape")
        return _parts(name)[-1]


def read_tarball(path: str | Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (uint8, N x 28 x 28) and labels (int64, N) of a tarball, in the order of the numbers.

    The members are `{number}_{label}.png`, in any folder; gzip is allowed. Errors: DataError.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise DataError("not a file")
        with open(path, "rb") as file:
            packed = file.read(2) == GZIP_SIGNATURE
            file.seek(0)
            images = _read_images(gzip.GzipFile(fileobj=file) if packed else file)
    except Exception as error:  # a crafted header can make tarfile raise almost anything
        why = getattr(error, "strerror", None) or " ".join(str(error).split()) or "cannot be read"
        raise DataError(f"{path}: {why}; none of it is used, put a good copy there") from error
    numbers = sorted(images)
    pixels = bytearray().join(images[number][1] for number in numbers)
    labels = [images[number][0] for number in numbers]
    return torch.frombuffer(pixels, dtype=torch.uint8).view(-1, 28, 28), torch.tensor(labels)


def _read_images(file: BinaryIO | gzip.GzipFile) -> dict[int, tuple[int, bytes]]:
    """{number: (label, 784 bytes)} of every image in an open tar file."""
    images, offenders, headers = {}, [], _HeaderReader(file)
    readable = cast(BinaryIO, headers)  # tarfile calls only its read, seek and tell
    with _TarFile.open(fileobj=readable, mode="r:") as tar:
        for count, member in enumerate(tar, 1):
            if count > MAX_MEMBERS or member.offset_data + member.size > MAX_TAR_BYTES:
                raise DataError(f"more than {MAX_MEMBERS:,} members or 1 GiB unpacked")
            tar.members.clear()  # tarfile keeps all of them: 60,000 take more than the pixels
            tar.pax_headers = {}
            try:
                match = _image_name(member, headers.name())
                if match is None:
                    continue
                number = int(match[1])
                if number in images:
                    raise DataError(f"a second image has the number {number}")
                file.seek(member.offset_data)
                images[number] = int(match[2]), decode_png(file.read(member.size))
            except DataError as error:
                # repr, because a name may hold control characters for the reader's terminal
                offenders.append(f"{error}: {member.name[:200]!r}")
        end = tar.offset
    if offenders:
        raise DataError(f"{offenders[0]} ({len(offenders):,} such members in all)")
    file.seek(end)
    rest = file.read(MAX_END_BYTES + 1)  # at the end of its data, gzip compares its own checksum
    if rest.count(0) != len(rest):
        raise DataError(f"damaged: what follows byte {end:,} is not part of a tar archive")
    if not MIN_END_BYTES <= len(rest) <= MAX_END_BYTES:  # a download that was cut off, perhaps
        raise DataError("damaged: it does not end as a tar archive does, images may be missing")
    if not images:
        raise DataError("it holds no images")
    return images


def _parts(path: str) -> list[str]:
    """The parts of a path, without "." and the root."""
    # With PurePosixPath, reading MNIST takes a tenth longer.
    return [part for part in path.split("/") if part not in ("", ".")] or [""]


def _image_name(member: tarfile.TarInfo, header_name: str) -> re.Match[str] | None:
    """The match of number and label in a member's name; None for members that are skipped."""
    parts = _parts(member.name)
    name = parts[-1]
    if member.name.startswith("/") or ".." in parts or WINDOWS_PATH.match(member.name):
        raise DataError("a path that leads out of its folder")
    if "size" in member.pax_headers:
        raise DataError("a size that no checksum covers")
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
        raise DataError("a name that no checksum covers (shorten the folder's name)")
    if not 1 <= member.size <= MAX_MEMBER_BYTES:
        raise DataError(f"{member.size:,} bytes instead of 1 to {MAX_MEMBER_BYTES:,}")
    return match


def decode_png(png: bytes) -> bytes:
    """The 784 bytes of a 28 x 28, 8-bit, greyscale PNG, after every CRC was checked; DataError."""
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
    from PIL.PngImagePlugin import PngImageFile  # here: a start that finds a cache decodes none

    try:
        return PngImageFile(io.BytesIO(png)).tobytes()
    except Exception as error:  # Pillow passes on whatever its decoder raises
        raise DataError(f"damaged PNG ({type(error).__name__})") from None


def encode_png(rows: bytes) -> bytes:
    """A PNG of 28 rows of 29 bytes: 0 (the row is "not filtered"), then the row's 28 pixels."""
    chunks = (b"IHDR", PNG_HEADER + b"\0"), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")
    png = PNG_SIGNATURE
    for kind, content in chunks:
        crc = zlib.crc32(kind + content)
        png += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)
    return png


def write_tarball(
    path: str | Path, images: torch.Tensor, labels: torch.Tensor, folder: str
) -> None:
    """Write images (uint8, N x 28 x 28) and labels (N) as `{folder}/{number}_{label}.png`.

    The tarball is read back before it gets its name. Errors: OSError; DataError if what was read
    back is different; ValueError if there are not as many labels as images.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        rows = torch.nn.functional.pad(images, (1, 0)).numpy()
        for number, (image, label) in enumerate(zip(rows, labels.tolist(), strict=True)):
            png = encode_png(image.tobytes())
            member = tarfile.TarInfo(f"{folder}/{number:05d}_{label}.png")
            member.size = len(png)
            tar.addfile(member, io.BytesIO(png))

    def verify(written: Path) -> None:
        read_images, read_labels = read_tarball(written)
        if not torch.equal(read_images, images) or not torch.equal(read_labels, labels):
            raise DataError(f"{path}: what was written reads back differently; check the disk")

    write_whole(path, buffer.getvalue(), verify)


def find_tarball(root: str | Path, split: str) -> Path | None:
    """`{split}.tar` or `{split}.tar.gz` in the folder `root`; None if it has neither.

    Errors: DataError, if something that is not a file has the name.
    """
    for path in (Path(root, f"{split}.tar"), Path(root, f"{split}.tar.gz")):
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: not a file; move it away")
        if path.is_file():
            return path
    return None

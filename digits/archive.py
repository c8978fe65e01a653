"""Walks through the files of a tar or zip archive or of a folder, and rejects damage and traps.

`members(path)` gives every file that was put in, or raises `DataError`. tarfile reports a truncated
or damaged archive as a shorter one, and zipfile does not look for bytes that belong to no member.
This file checks both. Nothing is ever extracted to disk.
"""

import bz2
import gzip
import io
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from files import DataError

MAX_MEMBERS = 200_000
MAX_MEMBER_BYTES = 64 * 1024
MAX_BYTES = 1024**3  # of all members together, unpacked
MIN_END_BYTES = 2 * 512  # a tar archive ends with two blocks of zeros ...
MAX_END_BYTES = MIN_END_BYTES + 19 * 512  # ... and may fill up its last record of 20 blocks
XZ_MEMORY = 128 * 1024**2  # the largest setting of xz needs 65 MiB
MAX_DIRECTORY_BYTES = 24 * 1024**2  # of a zip archive: zipfile holds all of it in memory
LOCAL_HEADER = struct.Struct("<4s22x2H")  # signature, lengths of the name and of extra fields
DESCRIPTOR_BYTES = (12, 16, 20, 24)  # what may follow a zip member whose flag 8 is set
WINDOWS_PATH = re.compile(r"[A-Za-z]:|.*\\", re.DOTALL)


class Member(NamedTuple):
    """A file in an archive or in a folder."""

    name: str  # with its folders, "/" between them
    parts: list[str]  # of the name, without "." and the root
    own_name: str  # what a checksum or a second copy confirms of the name: its end at least
    read: Callable[[], bytes]  # its content, 1 byte to 64 KiB; DataError
    problem: str = ""  # why it cannot be used, whatever it is called


def members(path: str | Path) -> Iterator[Member]:
    """The files in a tar archive (plain, gzip, bzip2, xz), in a zip archive or in a folder.

    A member's `read` must be called before the next one is taken. Errors: DataError, OSError, and
    what the standard library raises for damaged archives, which is almost anything.
    """
    path = Path(path)
    if path.is_dir():
        yield from _folder_members(path)
        return
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise DataError("not a file")
    with open(path, "rb") as file:
        start = file.read(6)
        file.seek(0)
        if start.startswith((b"PK\3\4", b"PK\5\6")):
            yield from _zip_members(file)
        elif start.startswith(b"\x1f\x8b"):
            yield from _tar_members(gzip.GzipFile(fileobj=file))
        elif start.startswith(b"BZh"):
            yield from _tar_members(_unpacked(file, bz2.BZ2Decompressor))
        elif start == b"\xfd7zXZ\0":
            new = partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, XZ_MEMORY)
            yield from _tar_members(_unpacked(file, new))
        else:
            yield from _tar_members(file)


def split_name(name: str) -> list[str]:
    """The parts of a member's name, without "." and the root; at least one."""
    # With PurePosixPath, reading MNIST takes a tenth longer.
    return [part for part in name.split("/") if part not in ("", ".")] or [""]


def _leads_out(name: str, parts: list[str]) -> bool:
    """Whether a name leads out of the folder into which somebody may extract it."""
    return name.startswith("/") or ".." in parts or bool(WINDOWS_PATH.match(name))


def _of_allowed_size(size: int) -> None:
    """Raise DataError unless a member may have so many bytes."""
    if not 1 <= size <= MAX_MEMBER_BYTES:
        raise DataError(f"{size:,} bytes instead of 1 to {MAX_MEMBER_BYTES:,}")


def _check_limits(count: int, size: int) -> None:
    """Raise DataError where an archive or a folder is too large."""
    if count > MAX_MEMBERS or size > MAX_BYTES:
        raise DataError(f"more than {MAX_MEMBERS:,} members or 1 GiB unpacked")


# tar


class _Unpacker(io.RawIOBase):
    """What a bzip2 or xz file unpacks to; unlike the library's, it refuses bytes after its end."""

    def __init__(
        self, file: BinaryIO, new: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]
    ):
        self.file, self.new, self.decompressor = file, new, new()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # noqa: ANN001, its type has a name only from Python 3.12 on
        while True:
            packed = b""
            if self.decompressor.eof:
                packed = self.decompressor.unused_data or self.file.read(1 << 16)
                if not packed:
                    return 0
                self.decompressor = self.new()  # a file may have several parts
            elif self.decompressor.needs_input:
                packed = self.file.read(1 << 16)
                if not packed:
                    raise DataError("damaged: its end is missing")
            if unpacked := self.decompressor.decompress(packed, len(buffer)):
                buffer[: len(unpacked)] = unpacked
                return len(unpacked)


def _unpacked(
    file: BinaryIO, new: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]
) -> io.BufferedReader:
    """A packed file as a file of what it unpacks to."""
    return io.BufferedReader(_Unpacker(file, new), 1 << 16)


class _TarFile(tarfile.TarFile):
    members: list[tarfile.TarInfo]  # those read so far: tarfile has them, its types do not say so


class _TarReader:
    """The file from which tarfile reads headers, forwards only; limits them, and keeps the last.

    The last block that tarfile reads before it reports a member is the member's own header, which
    has a checksum. Long names and pax records override that header but have no checksum, and
    tarfile would collect any number of them in memory.
    """

    def __init__(self, file: BinaryIO | gzip.GzipFile | io.BufferedReader):
        self.file, self.position = file, 0
        self.left, self.block = MAX_MEMBER_BYTES, b""

    def read(self, size: int) -> bytes:
        """Bytes of headers, for tarfile."""
        self.left -= size
        if self.left < 0:
            raise DataError("a member has more than 64 KiB of headers")
        self.block = self.content(size)
        return self.block

    def content(self, size: int) -> bytes:
        """Bytes of anything else."""
        read = self.file.read(size)
        self.position += len(read)
        return read

    def tell(self) -> int:
        return self.position

    def seek(self, position: int) -> None:
        """Skip bytes: going back would unpack everything again."""
        if position < self.position:
            raise DataError("damaged: a member begins before the end of the one before it")
        while self.position < position:
            if not self.content(min(position - self.position, 1 << 16)):
                return

    def own_name(self) -> str:
        """The member's name in its own header; then gets ready for the next member."""
        self.left = MAX_MEMBER_BYTES
        name, prefix = (
            self.block[start:stop].partition(b"\0")[0] for start, stop in ((0, 100), (345, 500))
        )
        if prefix and self.block[257:263] == b"ustar\0":
            name = prefix + b"/" + name
        return name.decode("utf-8", "surrogateescape")


def _tar_members(file: BinaryIO | gzip.GzipFile | io.BufferedReader) -> Iterator[Member]:
    """The members of an open tar file, which must end as a tar file does."""
    reader = _TarReader(file)
    readable = cast(BinaryIO, reader)  # tarfile calls only its read, seek and tell
    with _TarFile.open(fileobj=readable, mode="r:") as tar:
        for count, member in enumerate(tar, 1):
            _check_limits(count, member.offset_data + member.size)
            tar.members.clear()  # tarfile keeps all of them: 60,000 take more than the pixels
            tar.pax_headers = {}
            name, own_name, problem = member.name, reader.own_name(), ""
            parts = split_name(name)
            if _leads_out(name, parts):
                problem = "a path that leads out of its folder"
            elif "size" in member.pax_headers:
                problem = "a size that no checksum covers"
            elif member.isdir():
                continue
            elif member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
                problem = "not a regular file"
            read = partial(_tar_content, reader, member)
            yield Member(name, parts, own_name, read, problem)
        end = tar.offset
    read = reader.position - end  # tarfile has looked at the block that is no header any more
    if read != len(reader.block):
        raise DataError("damaged: its last header is not whole")
    rest = reader.block
    rest += reader.content(MAX_END_BYTES + 1)  # at the end of its data, gzip compares its checksum
    if rest.count(0) != len(rest):
        raise DataError(f"damaged: what follows byte {end:,} is not part of a tar archive")
    if not MIN_END_BYTES <= len(rest) <= MAX_END_BYTES:  # a download that was cut off, perhaps
        raise DataError("damaged: it does not end as a tar archive does, images may be missing")


def _tar_content(reader: _TarReader, member: tarfile.TarInfo) -> bytes:
    _of_allowed_size(member.size)
    reader.seek(member.offset_data)
    return reader.content(member.size)


# zip


class _DirectoryReader:
    """The file from which zipfile reads an archive's directory, with a limit."""

    def __init__(self, file: BinaryIO):
        self.file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if size > MAX_DIRECTORY_BYTES:
            raise DataError(f"more than {MAX_MEMBERS:,} members")
        return self.file.read(MAX_DIRECTORY_BYTES if size < 0 else size)  # it asks for 64 KiB


def _zip_members(file: BinaryIO) -> Iterator[Member]:
    """The members of an open zip file; each of its bytes must belong to one, or to the directory.

    The directory at the end tells where members are, and each member has a header that repeats its
    name: both must agree, and a gap would be a member that the directory has lost.
    """
    archive = zipfile.ZipFile(cast(BinaryIO, _DirectoryReader(file)))  # only read, seek and tell
    entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
    _check_limits(len(entries), sum(entry.file_size for entry in entries))
    starts = [entry.header_offset for entry in entries] + [archive.start_dir]
    if starts[0] != 0:
        raise DataError("damaged: it does not begin as a zip archive does")
    file.seek(-22 - len(archive.comment), os.SEEK_END)
    if file.read(4) != b"PK\5\6":
        raise DataError("damaged: it does not end as a zip archive does")
    for entry, following in zip(entries, starts[1:], strict=True):
        file.seek(entry.header_offset)
        signature, name_length, extra_length = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
        encoding = "utf-8" if entry.flag_bits & 0x800 else "cp437"
        repeated = file.read(name_length).decode(encoding)
        start = entry.header_offset + LOCAL_HEADER.size + name_length + extra_length
        gap = following - start - entry.compress_size
        if signature != b"PK\3\4" or repeated != entry.orig_filename:
            raise DataError("damaged: its directory and its members do not agree")
        if gap not in (DESCRIPTOR_BYTES if entry.flag_bits & 8 else (0,)):
            raise DataError("damaged: members overlap or are missing")
        name = repeated.replace("\\", "/")  # Windows PowerShell writes folders with a backslash
        parts = split_name(name)
        kind, problem = stat.S_IFMT(entry.external_attr >> 16), ""
        if _leads_out(name, parts):
            problem = "a path that leads out of its folder"
        elif name.endswith("/") and entry.file_size == 0:
            continue
        elif name.endswith("/") or (entry.create_system == 3 and kind not in (0, stat.S_IFREG)):
            problem = "not a regular file"
        elif entry.flag_bits & 1:
            problem = "encrypted; pack it again without a password"
        elif entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            problem = "packed by a method other than deflate; pack it again in the usual way"
        read = partial(_zip_content, file, start, entry)
        yield Member(name, parts, name, read, problem)


def _zip_content(file: BinaryIO, start: int, entry: zipfile.ZipInfo) -> bytes:
    _of_allowed_size(entry.file_size)
    file.seek(start)
    content = file.read(min(entry.compress_size, 2 * MAX_MEMBER_BYTES))
    if entry.compress_type == zipfile.ZIP_DEFLATED:
        inflater = zlib.decompressobj(-15)
        try:
            content = inflater.decompress(content, MAX_MEMBER_BYTES + 1)
        except zlib.error:
            raise DataError("damaged (deflate)") from None
    if len(content) != entry.file_size or zlib.crc32(content) != entry.CRC:
        raise DataError("damaged (CRC)")
    return content


# Folders


def _folder_members(folder: Path) -> Iterator[Member]:
    """The files in a folder and the folders in it, in the order of their names."""
    size = 0
    for count, (name, entry) in enumerate(_entries(folder, ""), 1):
        size += entry.stat(follow_symlinks=False).st_size
        _check_limits(count, size)
        if entry.is_symlink() or not entry.is_dir():
            regular = entry.is_file(follow_symlinks=False)
            problem = "" if regular else "not a regular file (links are not followed)"
            read = partial(_file_content, entry.path)
            yield Member(name, name.split("/"), name, read, problem)


def _entries(folder: str | Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """What is in a folder and in the folders in it: names from there on, and entries."""
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        yield prefix + entry.name, entry
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(entry.path, f"{prefix}{entry.name}/")


def _file_content(path: str) -> bytes:
    """What a regular file holds, read whole; DataError if it changes meanwhile."""

    def opened(path: str, flags: int) -> int:
        # A pipe that took the file's place would wait for ever, a link could lead anywhere.
        careful = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
        return os.open(path, flags | careful)

    try:
        with open(path, "rb", buffering=0, opener=opened) as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise DataError("not a regular file")
            _of_allowed_size(before.st_size)
            content = file.read(before.st_size + 1) or b""
            after = os.fstat(file.fileno())
    except OSError as error:
        raise DataError(error.strerror or type(error).__name__) from error
    if len(content) != before.st_size or before.st_mtime_ns != after.st_mtime_ns:
        raise DataError("changed while it was read; start again")
    return content

"""The ground floor: a file is written whole or not at all; errors that end in one line."""

from __future__ import annotations  # Python 3.8 must get as far as the line that refuses it

import contextlib
import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

FULL = {errno.ENOSPC, errno.EDQUOT}  # the disk, or this user's share of it
PAUSES = (0.05, 0.1, 0.2, 0.4, 0.5, 0.75)  # seconds, two in all
DAY = 24 * 60 * 60  # seconds


class UserError(Exception):
    """An error that a user can cause; its message is one line: what, why, what to do."""

    status = 1  # the program's exit status
    same_on_every_rank = False  # then one process says it for all


class DataError(UserError):
    """Images or labels that cannot be used."""


class CheckpointError(UserError):
    """A run or checkpoint that cannot be used."""


class PictureError(UserError):
    """A person's picture that has no answer."""


class LostRank(UserError):
    """Another process of a distributed run has ended, or hangs."""


class Diverged(UserError):
    """A loss or weight that is no finite number any more."""

    same_on_every_rank = True


def write_whole(
    path: str | Path, content: bytes | memoryview, verify: Callable[[Path], None] | None = None
) -> None:
    """Write a file so that a kill or a full disk leaves the old file or the new one, whole.

    `verify` looks at the written file before it gets its name, and may raise. Errors: OSError,
    which names this file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if verify:
            verify(temporary)
        _retry_while_held(lambda: os.replace(temporary, path))
        _flush_folder(path.parent)
    except OSError as error:
        _name(error, temporary, path)
        raise
    finally:
        with contextlib.suppress(OSError):  # it must not hide the error that is on its way
            temporary.unlink(missing_ok=True)


def check_writable(folder: str | Path) -> None:
    """Create a file in a folder and remove it again; OSError, which names the folder."""
    trial = Path(folder, f".writable.{os.getpid()}.tmp")
    try:
        trial.write_bytes(b"x")
        _retry_while_held(trial.unlink)
    except OSError as error:
        _name(error, trial, folder)
        raise


def _retry_while_held(action: Callable[[], object]) -> None:
    """Do something to a file; try again for two seconds while Windows refuses it.

    Excel, OneDrive or a virus scanner may hold a file open, most of them for a moment only.
    """
    for pause in PAUSES:
        try:
            action()
            return
        except PermissionError:
            time.sleep(pause)
    try:
        action()
    except PermissionError as error:
        error.strerror = f"{error.strerror}, another program may have it open"
        raise


def _flush_folder(folder: Path) -> None:
    """Let the new name of a file in a folder reach the disk, where the system can do that.

    Some network drives cannot flush a folder: only a full disk is an error.
    """
    if os.name != "posix":
        return
    try:
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
    except OSError as error:
        if error.errno in FULL:
            raise


def _name(error: OSError, temporary: Path, path: str | Path) -> None:
    """Let an error that names no file, or a temporary one, name the file that people know."""
    if error.filename is None or str(error.filename) == str(temporary):
        error.filename = str(path)
        error.filename2 = None


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove the temporary files of `name` in a folder that killed processes left there.

    Files of living processes stay, unless they are older than a day: then another process has got
    the number of the killed one.
    """
    for leftover in folder.glob(f".{name}.*.tmp"):
        with contextlib.suppress(OSError, ValueError, OverflowError):
            old = leftover.stat().st_mtime < time.time() - DAY
            if old or not _is_alive(int(leftover.name.split(".")[-2])):
                leftover.unlink()


def _is_alive(pid: int) -> bool:
    """Whether a process of this number may be running."""
    if os.name != "posix":
        return False  # the question would end the process; but Windows keeps files that are open
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True

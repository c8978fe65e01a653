"""The ground floor: a file is written whole or not at all; errors that end in one line."""

import contextlib
import os
import time
from pathlib import Path

HOUR = 3600  # seconds

# Every file of this project that imports torch imports this one first. Threads of libgomp spin
# while they wait for each other; as torch comes, a second busy program then makes a run up to a
# hundred times slower. libgomp reads this once, when torch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1500")


class UserError(Exception):
    """An error that a user can cause; its message is one line: what, why, what to do."""

    status = 1  # the program's exit status


class ConfigError(UserError):
    """An option's value that makes no sense."""

    status = 2  # of a bad command line

    def __init__(self, option: str, why: str):
        super().__init__(f"argument --{option.replace('_', '-')}: {why}")


class DataError(UserError):
    """Images or labels that cannot be used."""


class CheckpointError(UserError):
    """A run or checkpoint that cannot be used."""


class PictureError(UserError):
    """A person's picture that cannot be opened."""


def write_whole(path: str | Path, content: bytes | memoryview) -> None:
    """Write a file so that a kill or a full disk leaves the old file or the new one, whole.

    Errors: OSError, which names this file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        replace_when_free(temporary, path)
        if os.name == "posix":  # the new name reaches the disk, too
            with contextlib.suppress(OSError):  # some folders cannot be read, some not flushed
                folder = os.open(path.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        with contextlib.suppress(OSError):  # the error that is on its way is the one to show
            temporary.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove temporary files that killed processes left beside a file an hour ago or earlier."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        with contextlib.suppress(OSError):
            if leftover.stat().st_mtime < time.time() - HOUR:
                leftover.unlink()


def replace_when_free(temporary: Path, path: Path) -> None:
    """Try for two seconds: Excel, OneDrive or a virus scanner may hold a file on Windows."""
    for _ in range(20):
        with contextlib.suppress(PermissionError):
            return os.replace(temporary, path)
        time.sleep(0.1)
    return os.replace(temporary, path)

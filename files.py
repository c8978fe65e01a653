"""The ground floor: a file is written whole or not at all; errors that end in one line."""

import os
from collections.abc import Callable
from pathlib import Path


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

    `verify` looks at the written file before it gets its name, and may raise. Errors: OSError.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if verify:
            verify(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # the new name itself reaches the disk with its folder
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

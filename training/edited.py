"""Notices files that were edited after an interactive session had imported them.

Python imports a file only once. In a notebook, an edited model.py would therefore be trained as it
was before the edit, without a word.
"""

from __future__ import annotations  # as in training/program.py

import builtins
import os
import sys
from pathlib import Path

from files import UserError

PROJECT = Path(__file__).resolve().parent.parent
ROOMS = "digits", "figures", "handwriting", "study", "training"
_imported_as: dict[str, bytes | None] = {}  # {module: its file when it was imported, if known}


def _project_files() -> dict[str, Path]:
    """The files of the project by the names of their modules, without the script that runs."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    return {
        ".".join(path.relative_to(PROJECT).with_suffix("").parts): path
        for folder in [
            PROJECT,
            *(PROJECT / r for r in ("digits", "training", "handwriting", "figures", "study")),
        ]
        for path in folder.glob("*.py")
        if not (script and path == Path(script).resolve())
    }


def remember_files() -> None:
    """Keep what the project's files hold until they are imported."""
    for name, path in _project_files().items():
        if name not in sys.modules:
            _imported_as[name] = path.read_bytes()
        elif name not in _imported_as:
            _imported_as[name] = path.read_bytes() if _is_as_compiled(path, name) else None


def _is_as_compiled(path: Path, name: str) -> bool:
    """Whether a file has the time and size that Python noted when it compiled it for importing.

    Where Python takes no notes, or may not, the file is taken for unchanged.
    """
    spec = sys.modules[name].__spec__
    note = Path(spec.cached if spec and spec.cached else "")
    if sys.dont_write_bytecode or not note.is_file() or not os.access(note.parent, os.W_OK):
        return True
    header, now = note.read_bytes()[:16], path.stat()
    noted = [int.from_bytes(header[start : start + 4], "little") for start in (4, 8, 12)]
    return noted[0] != 0 or noted[1:] == [int(now.st_mtime) % 2**32, now.st_size % 2**32]


def require_unchanged_files() -> None:
    """Raise UserError if a module is not what its file holds now: Python imports it only once."""
    remember_files()
    for name, path in _project_files().items():
        if name in sys.modules and path.read_bytes() != _imported_as[name]:
            where = path.relative_to(PROJECT)
            what = "the kernel" if hasattr(builtins, "__IPYTHON__") else "Python"
            raise UserError(
                f"{where}: it was edited after this session had imported it; restart {what}, "
                "then give the command again"
            )

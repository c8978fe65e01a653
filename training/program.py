"""A script's first and last lines: the parser, threads, errors in one line, the exit status.

Exit status: 0 done; 1 an error; 2 a bad command line; 130 interrupted (Ctrl-C). Nothing here
imports torch, which takes a second in which Ctrl-C must work, too.
"""

from __future__ import annotations  # Python 3.9 must get as far as the line that refuses it

import argparse
import builtins
import functools
import gc
import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from files import ConfigError, UserError


def begin(name: str) -> None:
    """The first call of a script, before it imports torch; `name` is the script's `__name__`."""
    if sys.version_info < (3, 10):  # noqa: UP036
        sys.exit("error: this Python is too old; start this with Python 3.10 or newer")
    if importlib.util.find_spec("torch") is None:
        sys.exit(
            f"error: PyTorch is not installed for {sys.executable}; activate the environment that "
            "has it, or run python -m pip install -r requirements.txt"
        )
    if name == "__main__" and not in_notebook():
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the program begins: no traceback
        gc.disable()  # scanning what imports allocate for garbage takes half a second


def end(status: int) -> None:
    """The last call of a script: ends the process, but not a notebook's kernel."""
    try:
        sys.stdout.flush()
    except OSError:  # said already, or nobody reads it any more; Python must not try it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if world_size() > 1:  # a thread of gloo may still run, and Python's own way to end could abort
        os._exit(status)
    if not in_notebook():
        sys.exit(status)


def guarded(main: Callable[..., int]) -> Callable[..., int]:
    """A program whose user's errors become one line and an exit status; a decorator."""

    @functools.wraps(main)
    def program(argv: Sequence[str] | None = None) -> int:
        if in_notebook() and "ipykernel" in sys.argv[0]:
            argv = argv or []  # sys.argv has the kernel's own options
        elif signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if not gc.isenabled():
            gc.freeze()
            gc.enable()
        try:
            status = main(argv)
            sys.stdout.flush()
        except SystemExit as stopped:  # of the parser: help was shown, or the command line was bad
            return stopped.code if isinstance(stopped.code, int) else 0
        except KeyboardInterrupt as interrupt:
            words = "finished work is safe, and the same command continues (main.py: --resume)"
            tell(str(interrupt) or f"interrupted; {words}")
            return 130
        except UserError as error:
            tell(f"error: {error}", every_rank=not isinstance(error, ConfigError))
            return error.status
        except BrokenPipeError:  # nobody reads the output any more
            return 1
        except OSError as error:
            what = f"{error.filename or 'output'}: {error.strerror or error}"
            tell(f"error: {what}; free some space or make it writable, then try again", True)
            return 1
        return status

    return program


def tell(line: str, every_rank: bool = False) -> None:
    """Print a line on stderr, where a person sees it although stdout goes to a file."""
    rank = os.environ.get("RANK", "0") if world_size() > 1 else "0"
    if rank == "0" or every_rank:
        print(f"rank {rank}: {line}" if rank != "0" else line, file=sys.stderr, flush=True)


class Parser(argparse.ArgumentParser):
    """Reports a bad command line as one line that names the option, with status 2."""

    def __init__(self, description: str | None, epilog: str | None = None):
        super().__init__(
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        tell(f"error: {message}; see --help")
        sys.exit(2)


def whole(text: str) -> int:
    """A converter for argparse; int() would also take 1_0 and digits of other scripts."""
    if not re.fullmatch("[+-]?[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def real(text: str) -> float:
    """A converter for argparse; float() would also take nan, inf and 1_0."""
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", text, re.IGNORECASE):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number such as 0.01")
    return float(text)


def command_line(argv: Sequence[str] | None) -> str:
    """The command that starts this program again, as a person can paste it."""
    if world_size() > 1 or in_notebook():
        return "the same command"
    words = ["python", sys.argv[0], *(sys.argv[1:] if argv is None else argv)]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def in_notebook() -> bool:
    return hasattr(builtins, "__IPYTHON__")


def world_size() -> int:
    text = os.environ.get("WORLD_SIZE", "1")
    return int(text) if text.isdecimal() else 1  # training.distributed refuses what is no number

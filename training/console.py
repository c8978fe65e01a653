"""Signals and errors become one line and an exit status; nothing here imports torch.

Importing torch takes a second, and Ctrl-C must end the program in order in that second, too.
"""

import argparse
import gc
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from files import UserError


def rank() -> int:
    """Number of this process under torchrun; 0 for the only process."""
    return int(os.environ.get("RANK", 0))


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM."""

    def __init__(self, signum: int):
        super().__init__(signum)
        self.status = 128 + signum


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
        if int(os.environ.get("LOCAL_RANK", 0)) == 0:  # the other ranks were given the same line
            print(f"error: {message}; see --help", file=sys.stderr)
        sys.exit(2)


def tell(line: str, every_rank: bool = False) -> None:
    """Print a line on stderr, where a person sees it although stdout goes to a file."""
    if every_rank or rank() == 0:
        print(line, file=sys.stderr, flush=True)


def before_imports() -> None:
    """For scripts: until torch is imported, Ctrl-C ends the process without a traceback.

    Scanning what imports allocate for garbage takes half a second, so the collector waits.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.disable()


def after_imports() -> None:
    """For scripts: the collector works again, and never scans what the imports allocated."""
    gc.freeze()
    gc.enable()


def guarded(
    program: Callable[[], int], clean_up: Callable[[], None] = lambda: None, advice: str = ""
) -> int:
    """Run a program and give its exit status; errors of the user and signals become one line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console may lack a character
    handler = _interrupt if rank() == 0 else signal.SIG_DFL
    former = {signum: signal.signal(signum, handler) for signum in _SIGNALS}
    try:
        return program()
    except SystemExit as stopped:  # of the parser: help was shown, or the command line was bad
        return stopped.code if isinstance(stopped.code, int) else 1
    except Interrupted as interrupted:
        tell("interrupted; the same command continues, and finished work is safe")
        return interrupted.status
    except UserError as error:
        tell(f"error: {error}", every_rank=not error.same_on_every_rank)
        return error.status
    except BrokenPipeError:
        tell(f"error: output: the program that reads it has closed it{advice}")
    except OSError as error:
        where = error.filename or "disk"
        what = f"{where}: {error.strerror or error}"
        tell(f"error: {what}; free some space or make it writable, then try again", every_rank=True)
    finally:
        for signum, handler in former.items():
            signal.signal(signum, handler)
        clean_up()
    return 1


_SIGNALS = signal.SIGINT, signal.SIGTERM


def _interrupt(signum: int, frame: object) -> NoReturn:
    """Stop in order; a second signal ends the process at once."""
    alone = int(os.environ.get("WORLD_SIZE", 1)) == 1
    again = signal.SIG_DFL if alone else signal.SIG_IGN  # torchrun sends its signal repeatedly
    for either in _SIGNALS:
        signal.signal(either, again)
    raise Interrupted(signum)

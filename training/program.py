"""Signals and errors become one line and an exit status; nothing here imports torch.

Importing torch takes a second, and Ctrl-C must end the program in order in that second, too.

Exit status: 0 done; 1 an error, also where the program that reads the output has ended; 2 a bad
command line; 130 interrupted (Ctrl-C); 143 terminated.
"""

from __future__ import annotations  # Python 3.8 must get as far as the line that refuses it

import argparse
import builtins
import contextlib
import difflib
import errno
import gc
import importlib.util
import io
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from files import FULL, UserError
from training.edited import PROJECT, remember_files, require_unchanged_files

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

OLDEST_PYTHON = (3, 10)
ON_WINDOWS = os.name == "nt"


# The environment


def number_from_environment(name: str, default: int) -> int:
    """A number that torchrun sets; the default where it is missing or no number."""
    try:
        return int(os.environ.get(name, default))
    except ValueError:
        return default  # training.distributed refuses it


def rank() -> int:
    """Number of this process under torchrun; 0 for the only process."""
    if number_from_environment("WORLD_SIZE", 1) == 1:
        return 0
    return number_from_environment("RANK", 0)


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel, or IPython in a terminal."""
    return hasattr(builtins, "__IPYTHON__")


def interactive() -> bool:
    """Whether this process goes on after the program: a notebook, IDLE, a Python prompt."""
    prompt = hasattr(sys, "ps1") or bool(sys.flags.interactive)
    return in_notebook() or prompt or "idlelib.run" in sys.modules


def shows_progress_bars() -> bool:
    """Whether stderr can show a line that changes: it is a terminal or a notebook."""
    isatty = getattr(sys.stderr, "isatty", lambda: False)
    return in_notebook() or isatty()


# Messages


def tell(line: str, every_rank: bool = False) -> None:
    """Print a line on stderr, where a person sees it although stdout goes to a file."""
    if every_rank or rank() == 0:
        try:
            print(line, file=sys.stderr, flush=True)
        except OSError:  # nobody reads it any more
            _discard(sys.stderr)


_OTHER_WORDS = {"--learning-rate": "--lr", "--l2": "--weight-decay", "--data": "--data-dir"}


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
        message += self._suggestion(message)
        first_here = number_from_environment("LOCAL_RANK", 0) == 0  # all have the same line
        tell(f"error: {message}; see --help", every_rank=first_here)
        sys.exit(2)

    def _suggestion(self, message: str) -> str:
        """The option that was meant by one that there is not."""
        wrong = re.search(r"unrecognized arguments: (--[\w-]+)", message)
        if not wrong:
            return ""
        there = list(self._option_string_actions)
        meant = [_OTHER_WORDS.get(wrong[1], "")]
        meant += difflib.get_close_matches(wrong[1].replace("_", "-"), there, 1, 0.7)
        return next((f"; is {option} meant?" for option in meant if option in there), "")

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Print the help; UserError where nobody reads it."""
        try:
            print(self.format_help(), end="", file=file)
            sys.stdout.flush()
        except OSError as error:
            raise UserError(_in_words(error)) from None


def command_line(argv: Sequence[str], resume: bool = False) -> str:
    """The command that starts this program again, as a person can paste it.

    `argv` is like sys.argv: the script, then its options. With `resume` the command continues the
    run. Where the command is not known, the text says which one is meant.
    """
    dropped = {"--resume", "--overwrite"} if resume else {"--resume"}
    words = [word for word in argv if word not in dropped] + ["--resume"] * resume
    again = " with --resume" * resume
    processes = number_from_environment("WORLD_SIZE", 1)
    if processes > number_from_environment("LOCAL_WORLD_SIZE", processes):
        return f"the same torchrun command{again}"
    if not (PROJECT / Path(argv[0]).name).is_file():  # main.main was called, in a notebook say
        return f"the same call{again}"
    if in_notebook():
        return f"%run {_quoted(words)}"
    if processes > 1:
        return _quoted(["torchrun", "--nproc-per-node", str(processes), *words])
    typed = sys.orig_argv[0] if argv[0] in sys.orig_argv else "python"  # .venv/bin/python, say
    return _quoted([typed, *words])


def _quoted(words: Sequence[str]) -> str:
    """A command as this system's shell takes it."""
    return subprocess.list2cmdline(words) if ON_WINDOWS else shlex.join(words)


# A script's first and last lines


def before_imports(name: str) -> None:
    """The first call of a script, before it imports torch; `name` is the script's `__name__`.

    It refuses a Python that is too old or has no PyTorch, and keeps the threads of torch from
    spinning for long. Until torch is imported, Ctrl-C then ends a script without a traceback.
    """
    if sys.version_info < OLDEST_PYTHON:
        found, needed = (".".join(map(str, v[:2])) for v in (sys.version_info, OLDEST_PYTHON))
        sys.exit(f"error: Python {found} is too old; start this with Python {needed} or newer")
    if importlib.util.find_spec("torch") is None:
        sys.exit(
            f"error: PyTorch is not installed for {sys.executable}; activate the environment that "
            "has it, or run python -m pip install -r requirements.txt"
        )
    if "GOMP_SPINCOUNT" not in os.environ and "OMP_WAIT_POLICY" not in os.environ:
        # Threads of libgomp spin while they wait for each other. By default they spin for so long
        # that a second busy program makes a run up to a hundred times slower.
        os.environ["GOMP_SPINCOUNT"] = "1500"
    if interactive():
        remember_files()
    elif name == "__main__":
        _occupy_closed_streams()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        gc.disable()  # scanning what imports allocate for garbage takes half a second


def after_imports() -> None:
    """For scripts: the collector works again, and never scans what the imports allocated."""
    if not interactive():
        gc.freeze()
        gc.enable()


def end(status: int) -> None:
    """The last call of a script: ends the process, but not a notebook's kernel or a prompt."""
    if interactive():
        return
    if number_from_environment("WORLD_SIZE", 1) > 1:
        # A thread of gloo may still run, and Python's own way to end would then abort at times.
        _flush_or_discard(sys.stdout)
        _flush_or_discard(sys.stderr)
        os._exit(status)
    sys.exit(status)


def _occupy_closed_streams() -> None:
    """Open the null device in the place of a closed stdin, stdout or stderr.

    Otherwise the next file that is opened, a checkpoint say, would get the number of the closed
    stream, and what libraries print would be written into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


# The program between them


def guarded(
    program: Callable[[], int],
    clean_up: Callable[[bool], None] = lambda succeeded: None,
    advice: str = "",
    no_memory: str = "not enough memory; close other programs, then try again",
) -> int:
    """Run a program and give its exit status; errors of the user and signals become one line.

    `clean_up` is called at the end and told whether the status is 0. `advice` says how to go on
    after an error of a disk or of the output, and what is safe. `no_memory` is the message where
    the memory is not enough. An error of the program itself goes through, with its traceback.
    """
    status = 1
    with _usable_streams():
        former = _catch_signals()
        try:
            status = _status(program)
        except Interrupted as interrupted:
            tell("interrupted; finished work is safe, and the same command continues")
            status = interrupted.status
        except KeyboardInterrupt:  # a second interrupt in a notebook, while the first one's ends
            tell("interrupted")
            status = 128 + signal.SIGINT
        except UserError as error:
            tell(f"error: {error}", every_rank=not error.same_on_every_rank)
            status = error.status
        except Exception as error:
            if _is_lack_of_memory(error):
                tell(f"error: {no_memory}", every_rank=True)
            elif isinstance(error, OSError):
                tell(f"error: {_in_words(error, advice)}", every_rank=True)
            else:
                raise
        finally:
            for signum, handler in former.items():
                signal.signal(signum, signal.SIG_DFL if handler is None else handler)
            clean_up(status == 0)
            _flush_or_discard(sys.stdout)
    return status


def _status(program: Callable[[], int]) -> int:
    """Run a program and give its status; it is not done before its output is written."""
    if sys.stdout is None:
        raise UserError(f"output: stdout is closed; send it to a file or to {os.devnull}")
    if interactive():
        require_unchanged_files()
    try:
        status = program()
    except SystemExit as stopped:  # of the parser: help was shown, or the command line was bad
        if isinstance(stopped.code, str):
            tell(stopped.code)
            return 1
        status = stopped.code or 0
    sys.stdout.flush()
    return status


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether Python, torch on any device, or the system could not allocate memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    signs = "not enough memory", "allocate memory", "out of memory", "bad_alloc"
    return isinstance(error, (RuntimeError, OSError)) and any(sign in str(error) for sign in signs)


def _in_words(error: OSError, advice: str = "") -> str:
    """What happened to which file, and what to do."""
    why = error.strerror or str(error)
    if error.filename is not None:
        what = f"{error.filename}: {why}"
    elif error.errno not in _OF_OUTPUT:
        what = why
    elif error.errno in FULL:
        what = f"output: {why}"
    else:
        what = f"output: the program that reads it has closed it ({why})"
        return f"{what}; {advice}" if advice else what
    then = f"then {advice or 'try again'}"
    if error.errno in FULL:
        return f"{what}; free some space, {then}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{what}; make it writable, {then}"
    return f"{what}; correct this, {then}"


# What writing to a stream raises. Every file of this project is written by `write_whole`, whose
# errors have the file's name. Windows has EINVAL where others have EPIPE.
_OF_OUTPUT = {errno.EPIPE, errno.EINVAL, errno.EBADF, errno.EIO, *FULL}


# Streams


@contextlib.contextmanager
def _usable_streams() -> Generator[None, None, None]:
    """Streams that take every character; a closed stderr is like the null device."""
    with contextlib.ExitStack() as stack:
        if sys.stderr is None:
            null = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stderr(null))
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # notebooks and IDLE have others
                stack.callback(_set_errors, stream, stream.errors)
                _set_errors(stream, "replace")  # a console may lack a character
        yield


def _set_errors(stream: io.TextIOWrapper, errors: str | None) -> None:
    with contextlib.suppress(OSError, ValueError):  # it flushes a stream that may be closed
        stream.reconfigure(errors=errors)


def _flush_or_discard(stream: TextIO | None) -> None:
    """Flush a stream; if nobody reads it any more, forget what it holds."""
    if stream is not None:
        try:
            stream.flush()
        except (OSError, ValueError):
            _discard(stream)


def _discard(stream: TextIO) -> None:
    """Send what a stream still holds to the null device: at its end, Python writes it once more."""
    if interactive():
        return  # the session's own stream
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        stream.flush()


# Signals


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM."""

    def __init__(self, signum: int):
        super().__init__(signum)
        self.status = 128 + signum


def _catch_signals() -> dict:
    """Let signals stop the program in order; gives the handlers that they had."""
    if threading.current_thread() is not threading.main_thread():
        return {}  # Python allows it in the main thread alone
    # A signal that ends a notebook's kernel is the kernel's.
    signals = (signal.SIGINT,) if in_notebook() else (signal.SIGINT, signal.SIGTERM)
    former = {signum: signal.getsignal(signum) for signum in signals}

    def interrupt(signum: int, frame: object) -> NoReturn:
        """Stop in order; a second signal ends a process at once, and a notebook's cell."""
        for either in signals:
            if interactive():
                again = former[either]
            else:  # torchrun sends its signal repeatedly
                alone = number_from_environment("WORLD_SIZE", 1) == 1
                again = signal.SIG_DFL if alone else signal.SIG_IGN
            signal.signal(either, again)
        raise Interrupted(signum)

    for signum in signals:
        signal.signal(signum, interrupt if rank() == 0 else signal.SIG_DFL)
    return former

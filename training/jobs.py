"""Runs commands as processes side by side, a fixed number at a time.

A child ends when its parent does, however that ends: it watches its standard input, which closes
with the parent.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from training.program import shows_progress_bars

from tqdm import tqdm

POLL = 0.1  # seconds
PATIENCE = 5  # seconds that children have to end in order


def end_with_parent() -> None:
    """In a child: end this process when the parent has ended."""

    def watch() -> None:
        os.read(sys.stdin.fileno(), 1)  # returns when the pipe is closed; has no lock to hold
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_all(
    commands: Mapping[str, Sequence[str]],
    jobs: int,
    total: int,
    done: Callable[[], int],
    tell_end: Callable[[str, int, str], str],
) -> int:
    """Run {name: command} with `jobs` processes at a time; gives how many of them failed.

    `done` counts finished epochs, of `total`, for the progress bar. `tell_end` makes the line for a
    process that has ended, of its name, its status and the last line that it wrote to stderr.
    """
    waiting, failed = dict(commands), 0
    running: dict[str, tuple[subprocess.Popen, IO[bytes]]] = {}
    with tqdm(total=total, initial=done(), unit="epoch", disable=not shows_progress_bars()) as bar:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    name = next(iter(waiting))
                    running[name] = start(waiting.pop(name))
                    bar.set_description(" and ".join(running))
                time.sleep(POLL)
                bar.update(done() - bar.n)
                for name in [
                    name for name, (process, _) in running.items() if process.poll() is not None
                ]:
                    process, errors = running.pop(name)
                    failed += process.returncode != 0
                    errors.seek(0)
                    lines = errors.read().decode(errors="replace").splitlines() or [""]
                    bar.write(tell_end(name, process.returncode, lines[-1]))
        finally:
            for process, _ in running.values():
                process.terminate()
            deadline = time.monotonic() + PATIENCE
            for process, _ in running.values():
                try:
                    process.wait(max(0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
    return failed


def start(command: Sequence[str]) -> tuple[subprocess.Popen, IO[bytes]]:
    """Start a process with one thread; gives it and the file that takes what it says on stderr."""
    errors = tempfile.TemporaryFile()  # noqa: SIM115
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        env=environment,
    )
    return process, errors

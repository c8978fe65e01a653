"""What several test files share: a small data set, and runs in processes that may be killed."""

import os
import signal
import sys
import threading
import traceback
from pathlib import Path

import main
from digits.archive import write_tarball

import torch
from tqdm import tqdm

ROOT = Path(main.__file__).parent

# tqdm's own lock is shared with forked processes, and stays locked when one of them is killed.
tqdm.set_lock(threading.RLock())


def write_data(folder, train=600, test=200):
    """Two tarballs of noise in which a bright block tells the digit; gives the folder."""
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", train), ("test", test)):
        labels = torch.randint(10, (count,), generator=generator)
        images = torch.randint(60, (count, 28, 28), generator=generator, dtype=torch.uint8)
        for image, label in zip(images, labels.tolist(), strict=True):
            row, column = divmod(label, 4)
            image[8 * row + 3 : 8 * row + 9, 7 * column + 1 : 7 * column + 6] += 150
        write_tarball(folder / f"{split}.tar", images, labels, split)
    return folder


def stopping(module, name, number, stop, put=setattr):
    """Call `stop` before the number-th call of a module's function."""
    real, calls = getattr(module, name), []

    def stopped(*arguments, **named):
        calls.append(name)
        if len(calls) == number:
            stop()
        return real(*arguments, **named)

    put(module, name, stopped)


def interrupt():
    """Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


def fork(work, output="output.txt"):
    """Run a function in a process of its own, its output in a file; gives the process's id.

    Its exit status is what the function returns, or 99 after a traceback.
    """
    pid = os.fork()
    if pid:
        return pid
    status = 99
    try:
        sys.stdout = sys.stderr = open(output, "w", encoding="utf-8")  # noqa: SIM115
        status = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def ended(pid, seconds=60):
    """The exit status of a forked process, minus the signal's number if one ended it."""
    signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))  # a hang, not a failure
    signal.alarm(seconds)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        signal.alarm(0)


def same(a, b):
    """Whether two checkpoints, or parts of them, are equal bit for bit, seconds and names apart."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(
            same(a[key], b[key]) for key in a if key not in ("seconds", "name")
        )
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b

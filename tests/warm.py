"""Runs Python programs that need not wait until PyTorch is imported.

A helper process imports once what all programs of this project import. For each program it forks,
and the fork does what Python does with its arguments. Nothing of this project is imported before.
Where processes cannot be forked, Python is started as usual.
"""

import atexit
import functools
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback

SECONDS = 240  # a program that takes longer hangs, and is killed


def run(arguments, folder, path=()):
    """Run Python with a script or `-c` and code in a folder, `path` as its PYTHONPATH.

    Gives the finished process, its output as text.
    """
    arguments = list(map(str, arguments))
    changes = {"PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONDONTWRITEBYTECODE": "1"}
    if not hasattr(os, "fork"):
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env=os.environ | changes,
            capture_output=True,
            encoding="utf-8",
            timeout=SECONDS,
        )
    with tempfile.TemporaryDirectory() as outputs:
        out, err = (os.path.join(outputs, name) for name in ("out", "err"))
        request = [arguments, str(folder), os.environ | changes, out, err]
        print(json.dumps(request), file=helper().stdin, flush=True)
        status = int(helper().stdout.readline())
        told = [open(file, encoding="utf-8").read() for file in (out, err)]
    return subprocess.CompletedProcess(arguments, status, *told)


@functools.cache
def helper():
    """The helper process; it ends when its input does."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
    started = subprocess.Popen([sys.executable, __file__], **pipes)
    atexit.register(started.stdin.close)
    return started


def serve():
    """Do what is asked, one line each; answer with the exit status of the program."""
    import matplotlib.backends.backend_agg
    import numpy
    import PIL.Image
    import scipy.ndimage
    import torch._dynamo

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            program(*json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def program(arguments, folder, environment, out, err):
    """Become the program; this never returns."""
    signal.alarm(SECONDS)
    for number, file in ((0, os.devnull), (1, out), (2, err)):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    first, *sys.argv = ["-c", "-c", *arguments[2:]] if arguments[0] == "-c" else ["", *arguments]
    here = "" if first else os.path.dirname(os.path.abspath(arguments[0]))
    sys.path[0:1] = [here, *environment["PYTHONPATH"].split(os.pathsep)]
    status = 0
    try:
        if first:
            exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
        else:
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve()

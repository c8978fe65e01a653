"""Runs Python programs that need not wait until PyTorch is imported.

A helper process imports once what all programs of this project import, and nothing of the project.
For each program it forks, and the fork does what Python does with its arguments.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

IMPORTED = "torch", "numpy", "PIL.Image", "scipy.ndimage", "matplotlib.backends.backend_agg"
SECONDS = 240  # a program that takes longer hangs, and is killed


def run(arguments, folder, path=()):
    """Run Python with a script or `-c` and code in a folder, `path` as its PYTHONPATH.

    Gives the finished process, its output as text.
    """
    arguments, search = [str(word) for word in arguments], os.pathsep.join(map(str, path))
    environment = os.environ | {"PYTHONPATH": search, "PYTHONDONTWRITEBYTECODE": "1"}
    if not hasattr(os, "fork"):
        how = {"capture_output": True, "encoding": "utf-8", "timeout": SECONDS}
        return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, **how)
    with tempfile.TemporaryDirectory() as place:
        outputs = [Path(place, stream) for stream in ("out", "err")]
        request = [arguments, str(folder), environment, *map(str, outputs)]
        print(json.dumps(request), file=helper().stdin, flush=True)
        status = int(helper().stdout.readline())
        texts = [output.read_text(encoding="utf-8") for output in outputs]
    return subprocess.CompletedProcess(arguments, status, *texts)


@functools.cache
def helper():
    """The helper process; it ends when its input does."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
    started = subprocess.Popen([sys.executable, __file__], **pipes)
    atexit.register(started.stdin.close)
    return started


def serve():
    """Run the program of each line and answer with its exit status."""
    gc.disable()  # imports and forks take less time without it
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    for line in sys.stdin:
        pid = os.fork() or program(*json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def program(arguments, folder, environment, out, err):
    """Become the program; this never returns."""
    gc.enable()
    signal.alarm(SECONDS)
    for number, file in ((0, os.devnull), (1, out), (2, err)):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    code = arguments[1] if arguments[0] == "-c" else None
    sys.argv = arguments if code is None else ["-c", *arguments[2:]]
    here = os.path.dirname(os.path.abspath(arguments[0])) if code is None else ""
    sys.path[0:1] = [here, *environment["PYTHONPATH"].split(os.pathsep)]
    status = 1
    try:
        if code is None:
            runpy.run_path(arguments[0], run_name="__main__")
        else:
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve()

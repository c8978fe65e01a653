"""Runs Python programs that need not wait until PyTorch is imported.

A helper process imports once what all programs of this project import. For each program it forks,
and the fork does what Python does with its arguments. Nothing of this project is imported before.
Where processes cannot be forked, Python is started as usual.
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
UNWRITTEN = {"PYTHONDONTWRITEBYTECODE": "1"}
SECONDS = 240  # a program that takes longer hangs, and is killed


def run(arguments, folder, path=()):
    """Run Python with a script or `-c` and code in a folder, `path` as its PYTHONPATH.

    Gives the finished process, its output as text.
    """
    return run_together([(arguments, folder, {"PYTHONPATH": os.pathsep.join(map(str, path))})])[0]


def run_together(programs):
    """Run several programs at the same time: the arguments, folder and environment of each."""
    programs = [
        (list(map(str, arguments)), str(folder), {**os.environ, **UNWRITTEN, **changes})
        for arguments, folder, changes in programs
    ]
    if not hasattr(os, "fork"):
        return [start_python(*program) for program in programs]
    with tempfile.TemporaryDirectory() as folder:
        outputs = [[f"{folder}/{k}.out", f"{folder}/{k}.err"] for k in range(len(programs))]
        request = [[*program, *files] for program, files in zip(programs, outputs, strict=True)]
        print(json.dumps(request), file=helper().stdin, flush=True)
        statuses = json.loads(helper().stdout.readline())
        told = [[Path(file).read_text(encoding="utf-8") for file in files] for files in outputs]
    return [
        subprocess.CompletedProcess(program[0], status, *texts)
        for program, status, texts in zip(programs, statuses, told, strict=True)
    ]


def start_python(arguments, folder, environment):
    """What a fork does, where there are none."""
    how = {"capture_output": True, "encoding": "utf-8", "timeout": SECONDS}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, **how)


@functools.cache
def helper():
    """The helper process; it ends when its input does."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
    started = subprocess.Popen([sys.executable, __file__], **pipes)
    atexit.register(started.stdin.close)
    return started


def serve():
    """Do what is asked: a line has programs; the answer has their exit statuses."""
    gc.disable()  # imports and forks take less time without it
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    for line in sys.stdin:
        started = [os.fork() or program(*one) for one in json.loads(line)]
        print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in started], flush=True)


def program(arguments, folder, environment, out, err):
    """Become the program; this never returns."""
    gc.enable()
    signal.alarm(SECONDS)
    for number, file in ((0, os.devnull), (1, out), (2, err)):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    first, *sys.argv = ["-c", "-c", *arguments[2:]] if arguments[0] == "-c" else ["", *arguments]
    here = "" if first else os.path.dirname(os.path.abspath(arguments[0]))
    sys.path[0:1] = [here, *environment.get("PYTHONPATH", here).split(os.pathsep)]
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

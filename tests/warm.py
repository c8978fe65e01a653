"""Runs Python programs that need not wait until PyTorch is imported.

A server imports once what all programs of this project import, and nothing of the project. Each
program is a fork of it, which does what Python does with its arguments.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = str(Path(__file__).parent.parent)
SECONDS = 240  # a program that takes longer hangs, and is killed
SERVER = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
SERVER.set_forkserver_preload(
    ["torch", "numpy", "PIL.Image", "scipy.ndimage", "matplotlib.backends.backend_agg"]
)


def run(arguments, folder, path=()):
    """Run Python with a script or `-c` and code in a folder, `path` as its PYTHONPATH.

    Gives the finished process, its output as text.
    """
    arguments, path = list(map(str, arguments)), list(map(str, path))
    changes = {"PYTHONPATH": os.pathsep.join(path), "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory() as place:
        outputs = [Path(place, stream) for stream in ("out", "err")]
        how = arguments, folder, path, os.environ | changes, outputs
        process = SERVER.Process(target=program, args=how)
        process.start()
        process.join(SECONDS)
        process.kill()
        process.join()
        texts = [output.read_text(encoding="utf-8") for output in outputs]
    return subprocess.CompletedProcess(arguments, process.exitcode, *texts)


def program(arguments, folder, path, environment, outputs):
    """Become the program."""
    for number, output in enumerate(outputs, 1):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    installed = [place for place in sys.path if "packages" in place or not place.startswith(ROOT)]
    if arguments[0] == "-c":
        sys.argv, sys.path = ["-c", *arguments[2:]], ["", *path, *installed]
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        here = str(Path(arguments[0]).resolve().parent)
        sys.argv, sys.path = arguments, [here, *path, *installed]
        runpy.run_path(arguments[0], run_name="__main__")

"""A script's first and last lines: errors, Ctrl-C and lost readers end in one line and a status."""

import ast
import errno
import functools
import gc
import importlib
import os
import re
import runpy
import signal
import subprocess
import sys

import files
from files import ConfigError, UserError
from training import program

import pytest
from helpers import ROOT

SCRIPTS = "main", "predict", "reproduce", "export"
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("GOMP", "OMP"))}
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals, pipes and forks")


def start(arguments, folder, path=ROOT):
    """Python in a process of its own, whose stdout and stderr can be read."""
    environment = ENVIRONMENT | {"PYTHONUNBUFFERED": "", "PYTHONPATH": str(path)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment, **streams)


# Before torch is imported


@pytest.mark.parametrize("name", [*SCRIPTS, "files", "training/__init__", "training/program"])
def test_an_old_python_can_read_what_refuses_it(name):
    text = (ROOT / f"{name}.py").read_text(encoding="utf-8")
    ast.parse(text, feature_version=(3, 8))


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize(
    ("version", "line"),
    [
        ((3, 9, 1), "error: this Python is too old; start this with Python 3.10 or newer"),
        (sys.version_info, f"error: PyTorch is not installed for {sys.executable}; "),
    ],
)
def test_a_wrong_python_is_refused_in_one_line(name, version, line, monkeypatch):
    for module in ("files", "training", "training.program"):  # they are imported again
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / f"{name}.py"), run_name="__main__")
    assert ended.value.code.startswith(line) and "\n" not in ended.value.code


@posix
@pytest.mark.parametrize("name", SCRIPTS)
def test_ctrl_c_while_torch_is_imported_is_no_traceback(name, tmp_path):
    for module in ("torch.py", "numpy.py"):
        (tmp_path / module).write_text("import signal\nsignal.raise_signal(signal.SIGINT)")
    process = start([ROOT / f"{name}.py"], tmp_path, path=tmp_path)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == -signal.SIGINT


@functools.cache
def imported(path):
    """What a file imports, in order; before each of the project's modules what that imports."""
    names = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or node.names[0].name
            for name in (module, *(f"{module}.{alias.name}" for alias in node.names)):
                own = ROOT / f"{name.replace('.', '/')}.py"
                names += [*(imported(own) if own.exists() else []), name]
    return names


def test_threads_spin_shortly_whichever_module_is_imported_first():
    """It imports files.py before torch; hubconf.py does not, for torch.hub has imported torch."""
    paths = {*ROOT.glob("*.py"), *ROOT.glob("*/*.py")} - {ROOT / "hubconf.py"}
    for path in paths - {*ROOT.glob("tests/*"), *ROOT.glob("benchmarks/*")}:
        first = [name for name in imported(path) if name in ("files", "torch")]
        assert first[:1] != ["torch"], path
    assert {"files", "torch"} <= {*imported(ROOT / "main.py")}


@pytest.mark.parametrize(
    ("own", "expected"),
    [({}, "1500"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_spin_as_the_user_says(own, expected, monkeypatch):
    environment = ENVIRONMENT | own
    monkeypatch.setattr(os, "environ", environment)
    runpy.run_path(files.__file__)
    assert environment.get("GOMP_SPINCOUNT") == expected


def test_a_program_in_the_background_goes_on_where_ctrl_c_is_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell's script starts `main.py &`
    try:
        program.begin("__main__")
        assert program.guarded(lambda argv: signal.raise_signal(signal.SIGINT) or 7)([]) == 7
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN and gc.isenabled()
    finally:
        signal.signal(signal.SIGINT, before)


# How a program ends


def failing(error):
    @program.guarded
    def main(argv):
        raise error

    return main


FULL = errno.ENOSPC, "The disk is full"
ADVICE = "The disk is full; free some space or make it writable, then try again\n"
SAFE = "interrupted; finished work is safe, and the same command continues (main.py: --resume)\n"
ENDS = [  # error, exit status, stderr
    (UserError("x.png: no digit"), 1, "error: x.png: no digit\n"),
    (ConfigError("batch_size", "is odd"), 2, "error: argument --batch-size: is odd\n"),
    (OSError(*FULL, "runs/a/checkpoint.pt"), 1, f"error: runs/a/checkpoint.pt: {ADVICE}"),
    (OSError(*FULL), 1, f"error: output: {ADVICE}"),
    (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, ""),
    (KeyboardInterrupt("interrupted: epoch 1 is safe"), 130, "interrupted: epoch 1 is safe\n"),
    (KeyboardInterrupt(), 130, SAFE),
    (SystemExit(2), 2, ""),
    (SystemExit(None), 0, ""),
]


@pytest.mark.parametrize(("error", "status", "line"), ENDS)
def test_what_ends_in_one_line(error, status, line, capsys):
    assert failing(error)([]) == status
    assert capsys.readouterr() == ("", line)


@pytest.mark.parametrize("error", [RuntimeError("shapes"), KeyError("layers"), MemoryError()])
def test_a_students_own_error_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        failing(error)([])


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_and_a_bad_command_line(name, capsys):
    script = importlib.import_module(name)
    assert script.main(["--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: ") and script.__doc__.split("\n")[0] in out and not err
    assert script.main(["x", "--nothing"]) == 2
    out, err = capsys.readouterr()
    assert re.fullmatch("error: unrecognized arguments: .*--nothing; see --help\n", out + err)


PROGRAM = """
from files import UserError
from training import program
program.begin(__name__)

@program.guarded
def main(argv=None):
    BODY
    return 0

program.end(main())
"""
BODIES = [  # what the program does, its exit status and stderr where nobody reads its output
    ("for number in range(99999): print('epoch', number)", 1, ""),
    ("print('the answer')", 1, ""),
    ("program.Parser('A program').parse_args(['--help'])", 0, ""),
    ("print('a'); raise UserError('x.png: no digit')", 1, "error: x.png: no digit\n"),
    ("print('a'); raise KeyboardInterrupt('stopped')", 130, "stopped\n"),
]


@posix
@pytest.mark.parametrize(("body", "status", "line"), BODIES)
def test_a_lost_reader_ends_a_program_quietly(body, status, line, tmp_path):
    process = start(["-c", PROGRAM.replace("BODY", body)], tmp_path)
    process.stdout.close()
    with process:
        assert process.stderr.read() == line
    assert process.returncode == status


# Notebooks; tests/test_notebook.py tries a real one


def test_a_notebook_is_left_as_it_was(monkeypatch, capsys):
    def state():
        return signal.getsignal(signal.SIGINT), gc.isenabled(), sys.stdout, sys.stderr

    monkeypatch.setattr("builtins.__IPYTHON__", True, raising=False)
    monkeypatch.setattr(sys, "argv", ["/lib/ipykernel_launcher.py", "-f", "kernel.json"])
    before = state()
    program.begin("__main__")
    assert program.guarded(lambda argv: len(argv))(None) == 0  # not the kernel's own options
    for error, status, _ in ENDS:
        program.end(failing(error)(None))  # the kernel goes on
        assert failing(error)(None) == status and state() == before
    assert program.command_line(["--epochs", "2"]) == "the same command"

"""Signals, errors and broken streams end in one line and a documented status.

Most tests start a small program that imports console alone, because torch takes a second.
"""

import argparse
import ast
import errno
import gc
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from files import UserError
from training import edited
from training import program as console

ROOT = Path(console.__file__).parent.parent
SCRIPTS = "main.py", "predict.py", "reproduce.py"
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and a shell")
full_disk = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")

HEAD = """
import os, sys
sys.path.insert(0, ROOT)
from training import program as console
console.before_imports(__name__)
""".replace("ROOT", repr(str(ROOT)))


def start(script, cwd, **environment):
    """A script in a process of its own; its stdout and stderr can be read."""
    command = [sys.executable, str(script)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=cwd, env=os.environ | environment, **streams)


def small_program(folder, body):
    """A script whose program, under guarded, has this body; gives its path."""
    path = folder / "program.py"
    indented = body.replace("\n", "\n    ")
    path.write_text(f"{HEAD}\ndef program():\n    {indented}\n\nconsole.after_imports()\n")
    with open(path, "a") as file:
        file.write("console.end(console.guarded(program, advice='continue with --resume'))\n")
    return path


def fake_torch(folder, body):
    """A folder for PYTHONPATH whose torch does something else than torch."""
    (folder / "torch.py").write_text(body)
    (folder / "numpy.py").write_text(body)  # predict.py imports it first
    return {"PYTHONPATH": str(folder)}


# Before torch is imported


@pytest.mark.parametrize(
    "name", [*SCRIPTS, "files.py", "training/__init__.py", "training/program.py"]
)
def test_an_old_python_can_read_what_refuses_it(name):
    ast.parse((ROOT / name).read_text(encoding="utf-8"), feature_version=(3, 8))


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_old_python_is_refused_in_one_line_before_torch_is_imported(name, tmp_path):
    (tmp_path / "old.py").write_text(
        f"import runpy, sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "sys.version_info = (3, 9, 1, 'final', 0)\n"
        f"runpy.run_path({str(ROOT / name)!r}, run_name='__main__')\n"
    )
    fake = fake_torch(tmp_path, "raise SystemExit('torch was imported')")
    process = start(tmp_path / "old.py", cwd=tmp_path, **fake)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert err == "error: Python 3.9 is too old; start this with Python 3.10 or newer\n"


@posix
@pytest.mark.parametrize("name", SCRIPTS)
def test_ctrl_c_while_torch_is_imported_is_no_traceback(name, tmp_path):
    body = "import time\nprint('importing', flush=True)\ntime.sleep(60)"
    with start(ROOT / name, cwd=tmp_path, **fake_torch(tmp_path, body)) as process:
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, "1500"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, None),
    ],
)
@pytest.mark.parametrize("name", ["__main__", "main"])
def test_threads_spin_shortly_unless_the_user_says_how(name, own, expected, monkeypatch):
    for variable in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in own.items():
        monkeypatch.setenv(variable, value)
    before = signal.getsignal(signal.SIGINT)
    try:
        console.before_imports(name)
        assert gc.isenabled() == (name != "__main__")
    finally:
        gc.enable()
        signal.signal(signal.SIGINT, before)
    assert os.environ.get("GOMP_SPINCOUNT") == expected


@pytest.mark.parametrize("how", [["main.py"], ["-c", "import main"]])
def test_the_threads_of_torch_read_it(how, tmp_path):
    fake = fake_torch(tmp_path, "import os\nraise SystemExit(os.environ['GOMP_SPINCOUNT'])")
    environment = os.environ | fake
    environment.pop("GOMP_SPINCOUNT", None)
    command = [sys.executable, *how]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stderr == "1500\n"


# Streams

PRINTING = "for number in range(9999):\n    print('epoch', number, flush=True)\nreturn 0"
HELP = "console.Parser('A program').parse_args(['--help'])"
LOST = "error: output: the program that reads it has closed it (Broken pipe)"


@posix
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("body", "line"),
    [
        (PRINTING, f"{LOST}; continue with --resume\n"),
        (PRINTING.replace(", flush=True", ""), f"{LOST}; continue with --resume\n"),
        ("print('the answer')\nreturn 0", f"{LOST}; continue with --resume\n"),
        (HELP, f"{LOST}\n"),
        ("print('a')\nraise console.UserError('x.png: no digit')", "error: x.png: no digit\n"),
    ],
    ids=["flushed", "buffered", "short", "help", "error"],
)
def test_a_lost_reader_is_one_line_and_status_1(body, line, unbuffered, tmp_path):
    if unbuffered and "no digit" in body:
        line = f"{LOST}; continue with --resume\n"
    process = start(small_program(tmp_path, body), cwd=tmp_path, PYTHONUNBUFFERED=unbuffered)
    process.stdout.close()
    with process:
        assert process.stderr.read() == line
    assert process.returncode == 1


def shell(redirection, script, cwd):
    """A script started by the shell, with streams as they are given to it."""
    command = ["sh", "-c", f'"$@" {redirection}', "sh", sys.executable, str(script)]
    environment = os.environ | {"PYTHONUNBUFFERED": ""}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60
    )


@posix
@pytest.mark.parametrize(
    ("redirection", "status", "out", "err"),
    [
        (">&-", 1, "", "error: output: stdout is closed; send it to a file or to /dev/null\n"),
        (">&- 2>&-", 1, "", ""),
        ("2>&-", 0, "trained\n", ""),
        ("<&- 2>&-", 0, "trained\n", ""),
        ("2>/dev/full", 0, "trained\n", ""),
        (
            ">/dev/full",
            1,
            "",
            "error: output: No space left on device; free some space, then continue with "
            "--resume\n",
        ),
        (">/dev/full 2>&1", 1, "", ""),
    ],
)
def test_closed_and_full_streams(redirection, status, out, err, tmp_path):
    if "full" in redirection and not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    body = "console.tell('warning: x')\nopen('ran', 'w').close()\nprint('trained')\nreturn 0"
    done = shell(redirection, small_program(tmp_path, body), tmp_path)
    warning = "" if "2>" in redirection or ">&-" in redirection else "warning: x\n"
    assert (done.returncode, done.stdout, done.stderr) == (status, out, warning + err)
    assert (tmp_path / "ran").exists() == (">&-" not in redirection.split())  # not in silence


@posix
def test_what_libraries_print_to_a_closed_stream_gets_into_no_file(tmp_path):
    body = "with open('checkpoint', 'w'):\n    os.write(2, b'a warning')\nreturn 0"
    assert shell("2>&-", small_program(tmp_path, body), tmp_path).returncode == 0
    assert (tmp_path / "checkpoint").read_text() == ""


class Bare:
    """A stream as in IDLE and other programs: without reconfigure, isatty and fileno."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_streams_that_can_only_be_written_to(monkeypatch):
    out, err = Bare(), Bare()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert not console.shows_progress_bars()

    def program():
        print("größe")
        raise UserError("data: missing; download it")

    assert console.guarded(program) == 1
    assert (out.text, err.text) == ("größe\n", "error: data: missing; download it\n")
    assert (sys.stdout, sys.stderr) == (out, err)


def test_a_stream_takes_every_character_and_is_put_back(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    assert console.guarded(lambda: print("größe") or 0) == 0
    assert stream.buffer.getvalue() == b"gr??e\n" and stream.errors == "strict"


# Errors


def told(program, capsys, **how):
    """The status of a program under guarded, and the only line that it leaves on stderr."""
    status = console.guarded(program, **how)
    (line,) = capsys.readouterr().err.splitlines()
    return status, line


def failing(error):
    def program():
        raise error

    return program


@pytest.mark.parametrize(
    ("number", "what"),
    [
        (errno.ENOSPC, "free some space, then continue"),
        (errno.EDQUOT, "free some space, then continue"),
        (errno.EACCES, "make it writable, then continue"),
        (errno.EROFS, "make it writable, then continue"),
        (errno.EIO, "correct this, then continue"),
    ],
)
def test_an_error_of_a_file_says_what_which_and_how_to_go_on(number, what, capsys):
    error = OSError(number, os.strerror(number), "runs/a/checkpoint.pt")
    line = f"error: runs/a/checkpoint.pt: {os.strerror(number)}; {what}"
    assert told(failing(error), capsys, advice="continue") == (1, line)


def test_a_pipe_to_another_program_is_no_file(capsys):
    error = BrokenPipeError(errno.EPIPE, "Broken pipe")
    assert told(failing(error), capsys) == (1, LOST)


class OutOfMemoryError(RuntimeError):
    """As torch.cuda names its own."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("std::bad_alloc"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_lack_of_memory_is_one_line(error, capsys):
    line = "not enough memory for this batch; use a smaller --batch-size"
    assert told(failing(error), capsys, no_memory=line) == (1, f"error: {line}")


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), KeyError("layers")]
)
def test_a_students_own_error_keeps_its_traceback(error):
    ended = []
    with pytest.raises(type(error)):
        console.guarded(failing(error), ended.append)
    assert ended == [False]


@pytest.mark.parametrize(
    ("program", "status"),
    [
        (lambda: 0, 0),
        (lambda: 130, 130),
        (failing(UserError("x")), 1),
        (failing(SystemExit(2)), 2),
        (failing(SystemExit(None)), 0),
        (failing(SystemExit("a word")), 1),
    ],
)
def test_the_clean_up_knows_whether_the_program_succeeded(program, status):
    ended = []
    assert console.guarded(program, ended.append) == status
    assert ended == [status == 0]


# The environment and the command line


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, 0),
        ({"RANK": "1", "WORLD_SIZE": "2"}, 1),
        ({"RANK": "1"}, 0),  # not of a group: its messages are for a person
        ({"RANK": "abc", "WORLD_SIZE": "2"}, 0),
        ({"RANK": "1", "WORLD_SIZE": "abc"}, 0),
    ],
)
def test_whatever_the_environment_holds_somebody_reports(environment, rank, monkeypatch, capsys):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert console.rank() == rank
    console.guarded(failing(UserError("x")))
    assert capsys.readouterr().err == "error: x\n"


def test_a_bad_command_line_is_one_line_whatever_the_environment_holds(monkeypatch, capsys):
    monkeypatch.setenv("LOCAL_RANK", "abc")
    parser = console.Parser("A program")
    assert isinstance(parser, argparse.ArgumentParser)
    assert told(lambda: parser.parse_args(["--nothing"]) and 0, capsys) == (
        2,
        "error: unrecognized arguments: --nothing; see --help",
    )


ARGV = ["main.py", "--name", "it's a", "--overwrite"]


@pytest.mark.parametrize(
    ("system", "environment", "again", "more"),
    [
        ("posix", {}, """python main.py --name 'it'"'"'s a' --overwrite""", "--resume"),
        ("nt", {}, 'python main.py --name "it\'s a" --overwrite', "--resume"),
        (
            "posix",
            {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
            """torchrun --nproc-per-node 2 main.py --name 'it'"'"'s a' --overwrite""",
            "--resume",
        ),
        (
            "posix",
            {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"},
            "the same torchrun command",
            "with --resume",
        ),
        ("posix", {"WORLD_SIZE": "abc"}, """python main.py --name 'it'"'"'s a' --overwrite""", ""),
    ],
)
def test_the_command_that_continues(system, environment, again, more, monkeypatch):
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(console, "ON_WINDOWS", system == "nt")
    assert console.command_line(ARGV) == again
    assert console.command_line([*ARGV, "--resume"]) == again
    if more:
        resumed = again.replace(" --overwrite", "") + f" {more}"
        assert console.command_line(ARGV, resume=True) == resumed
        assert console.command_line([*ARGV, "--resume"], resume=True) == resumed


def test_the_command_has_the_python_that_was_typed(monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", [".venv/bin/python", "main.py"], raising=False)
    assert console.command_line(["main.py"]) == ".venv/bin/python main.py"


@pytest.mark.parametrize("started_as", ["ipykernel_launcher.py", "/usr/bin/ipython", "-c", ""])
def test_a_call_is_continued_with_a_call(started_as):
    argv = [started_as, "-f", "kernel.json"]
    assert console.command_line(argv) == "the same call"
    assert console.command_line(argv, resume=True) == "the same call with --resume"


# Notebooks; tests/test_notebook.py tries a real one


@pytest.fixture
def notebook(monkeypatch, tmp_path):
    """This process is a notebook's, whose project has one script; conftest froze objects."""
    gc.unfreeze()
    (tmp_path / "script.py").touch()
    monkeypatch.setattr(console, "PROJECT", tmp_path)
    monkeypatch.setattr(edited, "_imported_as", {})
    monkeypatch.setattr("builtins.__IPYTHON__", True, raising=False)
    yield
    gc.freeze()


def state():
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    return handlers, gc.isenabled(), gc.get_freeze_count(), sys.stdout, sys.stderr


def test_a_cell_is_continued_with_a_cell(notebook):
    assert console.command_line(["script.py"], resume=True) == "%run script.py --resume"


def test_a_notebook_is_left_as_it_was(notebook, capsys):
    before = state()
    console.before_imports("__main__")
    console.after_imports()
    for program in (lambda: 0, failing(UserError("x")), failing(SystemExit(2))):
        console.end(console.guarded(program))  # raises nothing
        assert state() == before
    with pytest.raises(ZeroDivisionError):
        console.guarded(lambda: 1 // 0)
    assert state() == before


def test_a_script_ends_with_its_status():
    for status in (0, 130):
        with pytest.raises(SystemExit) as ended:
            console.end(status)
        assert ended.value.code == status


@posix
def test_interrupts_of_a_cell_stop_the_program_and_not_the_kernel(notebook, capsys):
    seen = []

    def program():
        try:
            signal.raise_signal(signal.SIGINT)
        except console.Interrupted as interrupted:
            seen.append(interrupted.status)
            signal.raise_signal(signal.SIGINT)  # while the first one's pictures are drawn
        return 0

    before = state()
    assert told(program, capsys) == (130, "interrupted")
    assert seen == [130] and state() == before


# A session that has imported a module before it was edited

SESSION = """
import builtins, sys, time
builtins.__IPYTHON__ = True
sys.path.insert(0, ".")

def edit(text):
    with open("model.py", "w") as file:
        file.write(text)

def main():
    from training import program as console
    console.before_imports("main")
    import model
    status = console.guarded(lambda: print(model.NAME) or 0)
    print(status)

"""


@pytest.fixture
def session(tmp_path):
    """A function that runs lines of Python in a session of a project with a small model.py."""
    (tmp_path / "training").mkdir()
    for name in ("files.py", "training/__init__.py", "training/program.py", "training/edited.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "model.py").write_text("NAME = 'old'\n")
    past = time.time() - 60
    os.utime(tmp_path / "model.py", (past, past))

    def session(lines, notes=True):
        (tmp_path / "session.py").write_text(SESSION + lines)
        command = [sys.executable, "session.py"]
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "" if notes else "1"}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout.split(), done.stderr

    return session


RESTART = (
    "error: model.py: it was edited after this session had imported it; restart the kernel, then "
    "give the command again\n"
)
NEW = "NAME = 'new'\n"


@pytest.mark.parametrize(
    ("lines", "out", "err"),
    [
        ("main()\nmain()", ["old", "0", "old", "0"], ""),
        (f"main()\nedit({NEW!r})\nmain()", ["old", "0", "1"], RESTART),
        (f"edit({NEW!r})\nmain()\nmain()", ["new", "0", "new", "0"], ""),
        (f"import model\nedit({NEW!r})\nmain()\nmain()", ["1", "1"], RESTART * 2),
        (f"main()\nedit({NEW!r})\nmain()\nedit('NAME = \\'old\\'\\n')\nmain()", None, RESTART),
        (
            f"main()\nedit({NEW!r})\nimport subprocess\n"
            "subprocess.run([sys.executable, '-c', 'import model'])\nmain()",
            ["old", "0", "1"],
            RESTART,
        ),
        ("import os\nos.utime('model.py')\nmain()\nos.utime('model.py')\nmain()", None, ""),
    ],
    ids=["same", "after", "before", "model first", "undone", "compiled elsewhere", "touched"],
)
def test_a_module_that_was_edited_after_its_import_is_never_used(session, lines, out, err):
    printed, errors = session(lines)
    assert printed == (out or (["old", "0", "1"] if err else ["old", "0"]) + ["old", "0"])
    assert errors == err


def test_a_note_that_python_did_not_renew_proves_no_edit(session):
    """Of a version before this one: where bytecode may not be written, the old one stays."""
    assert session("import model") == ([], "")
    lines = f"edit({NEW!r})\nimport model\nmain()"
    assert session(lines, notes=False) == (["new", "0"], "")


def test_a_script_does_not_look_at_its_files(tmp_path, monkeypatch):
    monkeypatch.setattr(edited, "_project_files", lambda: pytest.fail("it looked"))
    assert console.guarded(lambda: 0) == 0


def test_a_python_without_torch_gets_one_line(tmp_path):
    start = [sys.executable, "-S", str(ROOT / "main.py")]  # -S: without installed packages
    found = subprocess.run(start, cwd=tmp_path, capture_output=True, text=True)
    (line,) = found.stderr.splitlines()
    assert found.returncode == 1
    assert line.startswith("error: PyTorch is not installed for ")
    assert "requirements.txt" in line

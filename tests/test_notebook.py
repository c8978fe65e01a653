"""The scripts in a real notebook kernel: run twice, interrupted, and with an edited network."""

import contextlib
import os
import queue
import re
import shutil
import time

import numpy as np
import pictures
import pytest
from helpers import ROOT, write_data

pytest.importorskip("ipykernel", reason="needs ipykernel: pip install -r requirements-dev.txt")
from jupyter_client import KernelManager

PATIENCE = 120  # seconds for one cell, also on a busy machine
MLP = "'--data-dir', 'small', '--device', 'cpu', '--model', 'mlp'"
STATE = (
    "import gc, signal, sys; "
    "print([signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)], gc.isenabled(), "
    "gc.get_freeze_count(), sys.stdout, sys.stderr)"
)


class Notebook:
    """A kernel in a folder, and what its cells print."""

    def __init__(self, folder):
        self.folder = folder
        self.manager = KernelManager()
        private = {
            "IPYTHONDIR": str(folder / ".ipython"),
            "JUPYTER_RUNTIME_DIR": str(folder / ".jupyter"),
        }
        self.manager.start_kernel(cwd=str(folder), env=os.environ | private)
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def cell(self, code, meanwhile=lambda: None):
        """Run a cell, and something else meanwhile; gives its stdout, stderr and result."""
        number = self.client.execute(code)
        meanwhile()
        told, result = {"stdout": "", "stderr": ""}, None
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=PATIENCE)
            except queue.Empty:
                pytest.fail(f"the cell hangs: {code}")
            if message["parent_header"].get("msg_id") != number:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                told[content["name"]] += content["text"]
            elif kind == "execute_result":
                result = content["data"]
            elif kind == "error":
                pytest.fail("\n".join(content["traceback"]))
            elif kind == "status" and content["execution_state"] == "idle":
                return told["stdout"], told["stderr"], result


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """A kernel in a copy of the project, with small data."""
    folder = tmp_path_factory.mktemp("project")
    for path in ROOT.glob("*.py"):
        shutil.copy(path, folder)
    for name in ("digits", "training", "pretrained"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("small", "data", "damaged"):
        (folder / name).mkdir()
    write_data(folder / "small")
    write_data(folder / "data")
    for name in ("train.tar", "test.tar"):
        (folder / "damaged" / name).write_bytes(b"no tarball")
    pictures.pen_on_squared_paper(7, np.random.default_rng(0)).save(folder / "seven.png")
    with contextlib.closing(Notebook(folder)) as notebook:
        notebook.state = notebook.cell(STATE)
        yield notebook


@pytest.fixture(autouse=True)
def same_state(notebook):
    """Signal handlers, garbage collector and streams are the kernel's own after each test."""
    yield
    assert notebook.cell(STATE) == notebook.state


def test_the_scripts_run_one_after_the_other_and_twice(notebook):
    run = f"%run main.py {MLP.replace(',', '')} --epochs 1"
    call = f"import main; main.main([{MLP}, '--epochs', '1'])"
    read = "%run predict.py --checkpoint pretrained/lenet5.pt seven.png"
    for _ in range(2):
        out, err, _ = notebook.cell(run)
        assert re.search(r"\nmlp_\w+: test accuracy", out)
        assert "error" not in err
        out, err, result = notebook.cell(call)
        assert result == {"text/plain": "0"} and "test accuracy" in out and "error" not in err
        out, err, _ = notebook.cell(read)
        assert "seven.png: 7 (" in out and err == ""


@pytest.mark.parametrize(
    ("option", "value", "status", "line"),
    [
        ("--epochs", "z", 2, r"error: argument --epochs: .*; see --help"),
        ("--data-dir", "damaged", 1, r"error: damaged.train\.tar: .*"),
    ],
)
def test_a_run_that_fails_leaves_a_line(notebook, option, value, status, line):
    out, err, _ = notebook.cell(f"%run main.py {MLP.replace(',', '')} {option} {value}")
    assert re.fullmatch(line + "\n", err) and "Traceback" not in out
    code = f"import main; main.main([{MLP}, {option!r}, {value!r}])"
    out, err, result = notebook.cell(code)
    assert re.fullmatch(line + "\n", err) and result == {"text/plain": str(status)}


@pytest.mark.skipif(os.name != "posix", reason="interrupts of a cell as POSIX has them")
@pytest.mark.parametrize("magic", [True, False])
def test_an_interrupt_of_the_cell_stops_the_run_in_order(notebook, magic):
    name = f"long{magic}"
    metrics = notebook.folder / "runs" / name / "metrics.csv"

    def interrupt():
        deadline = time.monotonic() + PATIENCE
        while not (metrics.exists() and len(metrics.read_text().splitlines()) > 3):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        notebook.manager.interrupt_kernel()

    options = f"{MLP}, '--epochs', '9999', '--name', {name!r}"
    if magic:
        code = f"%run main.py {options.replace(',', '')}"
    else:
        code = f"import main; main.main([{options}])"
    out, err, result = notebook.cell(code, interrupt)
    assert re.search(r"interrupted: epoch \d+ of \d+ is safe in ", err)
    assert "%run main.py" in err if magic else "the same call with --resume" in err
    assert "epoch 1:" in err  # the progress bar
    assert f"{name}_curves.png" in out and "test accuracy" in out
    assert magic or result == {"text/plain": "130"}


def test_the_lines_of_the_documentation_show_a_picture(notebook):
    text = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    section = text.split("## In a notebook")[1].split("\n## ")[0]
    (code,) = re.findall("```python\n(.*?)```", section, re.DOTALL)
    _, err, result = notebook.cell(code)
    assert "image/png" in result and "error" not in err


def test_an_edited_network_is_not_ignored(notebook):
    """The last test here: the kernel has to be restarted after it."""
    path = notebook.folder / "model.py"
    path.write_text(path.read_text(encoding="utf-8") + "\n# an edit\n", encoding="utf-8")
    line = (
        "error: model.py: it was edited after this session had imported it; restart the kernel, "
        "then give the command again\n"
    )
    for script in ("main.py --epochs 1", "predict.py seven.png"):
        out, err, _ = notebook.cell(f"%run {script}")
        assert (out, err) == ("", line)
    out, err, result = notebook.cell("import main; main.main(['--epochs', '1'])")
    assert (out, err, result) == ("", line, {"text/plain": "1"})

"""The scripts in a real notebook kernel: run twice, from an import, interrupted, as documented."""

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
STATE = (
    "import gc, signal, sys; print(signal.getsignal(signal.SIGINT), gc.isenabled(), "
    "sys.stdout, sys.stderr)"
)


class Notebook:
    """A kernel in a folder, and what its cells print."""

    def __init__(self, folder):
        self.folder, self.manager = folder, KernelManager()
        private = {"IPYTHONDIR": f"{folder}/.ipython", "JUPYTER_RUNTIME_DIR": f"{folder}/.jupyter"}
        self.manager.start_kernel(cwd=str(folder), env=os.environ | private)
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)
        self.state = self.cell(STATE)

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def cell(self, code, meanwhile=lambda: None):
        """Run a cell, and something else meanwhile; gives its stdout, stderr and result."""
        number = self.client.execute(code)
        meanwhile()
        texts, result = {"stdout": "", "stderr": ""}, None
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=PATIENCE)
            except queue.Empty:
                pytest.fail(f"the cell hangs: {code}")
            if message["parent_header"].get("msg_id") != number:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                texts[content["name"]] += content["text"]
            elif kind == "execute_result":
                result = content["data"]
            elif kind == "error":
                pytest.fail("\n".join(content["traceback"]))
            elif kind == "status" and content["execution_state"] == "idle":
                return texts["stdout"], texts["stderr"], result


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """A kernel in a copy of the project with small data."""
    skip = shutil.ignore_patterns(".*", "tests", "runs", "plots", "data", "docs", "__pycache__")
    folder = shutil.copytree(ROOT, tmp_path_factory.mktemp("notebook") / "project", ignore=skip)
    write_data(folder / "data")
    pictures.pen_on_squared_paper(7, np.random.default_rng(0)).save(folder / "seven.png")
    with contextlib.closing(Notebook(folder)) as notebook:
        yield notebook


@pytest.fixture(autouse=True)
def same_state(notebook):
    """Signal handlers, garbage collector and streams are the kernel's own after each test."""
    yield
    assert notebook.cell(STATE) == notebook.state


ZERO = {"text/plain": "0"}
CELLS = [  # code, what its stdout holds, its last line on stderr, its result
    ("%run main.py --model mlp --epochs 1", r"\nmlp_\w+: test accuracy", "", None),
    ("import main; main.main(['--model', 'mlp'])", r"\nmlp_\w+: test accuracy", "", ZERO),
    ("from main import main; main()", r"\nlenet5_\w+: test accuracy", "", ZERO),
    ("%run predict.py --checkpoint pretrained/lenet5.pt seven.png", r"seven.png: 7 \(", "", None),
    ("%run main.py --epochs z", "^$", "error: argument --epochs: .*; see --help", None),
    ("main(['--resume', '--name', 'a'])", "", "error: runs.a: no such .*", {"text/plain": "1"}),
]


@pytest.mark.parametrize("time", [1, 2])
def test_the_scripts_run_one_after_the_other_and_twice(time, notebook):
    for code, words, line, value in CELLS:
        out, err, result = notebook.cell(code)
        assert re.search(words, out) and "Traceback" not in out + err, out + err
        lines = re.sub(".*\r|note: .*", "", err).split("\n")  # without bars
        assert re.fullmatch(line, "".join(lines)) and result == value


@pytest.mark.skipif(os.name != "posix", reason="interrupts of a cell as POSIX has them")
@pytest.mark.parametrize("start", ["%run main.py {}", "import main; main.main('{}'.split())"])
def test_an_interrupt_of_the_cell_stops_the_run_in_order(notebook, start):
    name = f"long{len(start)}"
    metrics = notebook.folder / "runs" / name / "metrics.csv"

    def interrupt():
        deadline = time.monotonic() + PATIENCE
        while not (metrics.exists() and len(metrics.read_text().splitlines()) > 3):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        notebook.manager.interrupt_kernel()

    code = start.format(f"--model mlp --epochs 9999 --name {name}")
    out, err, result = notebook.cell(code, interrupt)
    words = r"interrupted: epoch \d+ of 9999 is safe in .*; to continue: .* --resume\n"
    assert re.search(words, err) and "Traceback" not in out + err
    assert result in (None, {"text/plain": "130"})


def test_the_lines_of_the_documentation_show_a_picture(notebook):
    text = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    section = text.split("## In a notebook")[1].split("\n## ")[0]
    code = re.findall("```python\n(.*?)```", section, re.DOTALL)[0]
    _, err, result = notebook.cell(code)
    assert "image/png" in result and "error" not in err


def test_a_network_that_is_typed_into_a_cell_can_be_trained(notebook):
    code = """
from model import MODELS, CustomMLP
class Typed(CustomMLP): pass
MODELS["typed"] = Typed
fit(Config(model="typed", epochs=1), train_set, test_set).config.name
"""
    assert "typed_epochs1" in notebook.cell(code)[2]["text/plain"]
    assert "Typed on " in notebook.cell("%run main.py --model typed --epochs 1")[0]

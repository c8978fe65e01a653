"""The scripts in a real notebook kernel: run twice, from an import, interrupted, as documented."""

import os
import re
import shutil
import threading
import time

import numpy as np
import pictures
import pytest
from helpers import ROOT, write_data

pytest.importorskip("ipykernel", reason="needs ipykernel: pip install -r requirements-dev.txt")
from jupyter_client.manager import start_new_kernel

PATIENCE = 120  # seconds for one cell, also on a busy machine
STATE = "import gc, signal, sys; print(signal.getsignal(2), gc.isenabled(), sys.stdout, sys.stderr)"
UNDRAWN = "from matplotlib.figure import Figure\nFigure.savefig = lambda *_, **options: None"


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """A kernel in a copy of the project with small data: folder, manager, and what runs a cell."""
    skip = shutil.ignore_patterns(".*", "tests", "runs", "plots", "data", "docs")
    folder = shutil.copytree(ROOT, tmp_path_factory.mktemp("notebook") / "project", ignore=skip)
    write_data(folder / "data", 600, 100)
    pictures.pen_on_squared_paper(7, np.random.default_rng(0)).save(folder / "seven.png")
    private = {"IPYTHONDIR": f"{folder}/.ipython", "JUPYTER_RUNTIME_DIR": f"{folder}/.jupyter"}
    manager, client = start_new_kernel(cwd=str(folder), env=os.environ | private)

    def cell(code):
        """Run a cell; gives its stdout, stderr and result."""
        sent, texts, result = [], {"stdout": "", "stderr": ""}, None
        reply = client.execute_interactive(code, output_hook=sent.append, timeout=PATIENCE)
        for message in sent:
            content = message["content"]
            if message["msg_type"] == "stream":
                texts[content["name"]] += content["text"]
            elif message["msg_type"] == "execute_result":
                result = content["data"]
        assert reply["content"]["status"] == "ok" and "Traceback" not in str(texts), reply
        return *texts.values(), result

    yield folder, manager, cell
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_the_lines_of_the_documents_show_a_picture_and_train_a_network_of_a_cell(notebook):
    _, _, cell = notebook
    state = cell(STATE)
    text = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    section = text.split("## In a notebook")[1].split("\n## ")[0]
    code = re.findall("```python\n(.*?)```", section, re.DOTALL)[0]
    _, err, result = cell(code)
    assert "image/png" in result and "error" not in err
    cell("import model\nclass Typed(model.CustomMLP): pass\nmodel.MODELS['typed'] = Typed")
    out, *_ = cell("fit(Config(model='typed', epochs=1), train_set, test_set)")
    assert "typed_epochs1_data: Typed on data" in out and cell(STATE) == state


LONG = "--model mlp --epochs 9999 --name long"  # is interrupted
STOPPED = r"interrupted: epoch \d+ of 9999 is safe in .*; to continue: .* --resume"
CELLS = [  # code, what its stdout holds, its stderr without bars and notes, its result
    ("%run main.py --model mlp --epochs 1", r"\nmlp_\w+: test accuracy", "", None),
    ("import main; main.main(['--model', 'mlp'])", r"\nmlp_\w+: test accuracy", "", "0"),
    ("from main import main; main()", r"\nlenet5_\w+: test accuracy", "", "0"),
    ("%run predict.py --checkpoint pretrained/lenet5.pt seven.png", r"seven.png: 7 \(", "", None),
    ("%run main.py --epochs z", "^$", "error: argument --epochs: .*; see --help", None),
    ("main(['--resume', '--name', 'a'])", "", "error: runs.a: no such run to resume; .*", "1"),
]
if os.name == "posix":  # which interrupts a cell with a signal
    CELLS.append((f"%run main.py {LONG}", "", STOPPED, None))
    CELLS.append((f"main('{LONG}'.split())", "", STOPPED, "130"))


def test_the_scripts_run_one_after_the_other_and_twice(notebook):
    """Signal handlers, garbage collector and streams are the kernel's own after each of them."""
    folder, manager, cell = notebook
    metrics, state = folder / "runs" / "long" / "metrics.csv", cell(STATE)
    cell(UNDRAWN)  # each run would draw for half a second

    def interrupt():
        while not (metrics.exists() and len(metrics.read_text().splitlines()) > 3):
            time.sleep(0.05)
        manager.interrupt_kernel()

    for code, words, line, value in CELLS + CELLS[:1]:
        if LONG in code:
            shutil.rmtree(metrics.parent, ignore_errors=True)
            threading.Thread(target=interrupt, daemon=True).start()
        out, err, result = cell(code)
        assert re.search(words, out), out
        assert re.fullmatch(line, re.sub(".*\r|note: .*|\n", "", err)), err
        assert result == (value and {"text/plain": value}) and cell(STATE) == state

"""The house is built as it is drawn: imports only run downwards, and nothing heavy comes early."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter

from helpers import ROOT

FLOORS = [  # from the ground up; a module imports from floors below, or beside it on its own floor
    ["files"],
    ["digits.picture", "digits.tarball", "digits.png", "digits.archive", "digits.idx"],
    ["digits.cache", "digits.synthetic", "digits.nondigits", "digits.augment", "digits.photo"],
    ["digits.download"],
    ["dataset", "model"],
    ["training.edited", "training.console", "training.distributed"],
    ["training.plotting", "training.tally", "training.seeding", "training.optim", "training.mix"],
    ["training.portable"],
    ["training.charts", "training.source", "training.jobs", "training.intervals"],
    ["training.reading", "training.labelled", "training.steps"],
    ["training.checkpoint", "training.config", "training.cli", "training.folder"],
    ["training.report", "training.compare", "training.data", "training.experiments"],
    ["training.results"],
    ["main"],
    ["predict", "reproduce"],
    ["export", "hubconf"],
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def imports(path):
    """The project's modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found & FLOOR.keys()


def rooms():
    """{module: path} of all files of the project, packages' own aside."""
    paths = [path for place in (".", "digits", "training") for path in (ROOT / place).glob("*.py")]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in paths
        if path.name != "__init__.py"
    }


def test_every_file_has_a_floor():
    assert set(rooms()) == set(FLOOR)


def test_imports_only_run_downwards():
    for name, path in rooms().items():
        above = [other for other in imports(path) if FLOOR[other] > FLOOR[name]]
        assert not above, f"{name} imports {above}"


def test_imports_make_no_circle():
    graph = {name: imports(path) for name, path in rooms().items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)


def test_a_module_says_in_its_first_line_what_it_holds():
    for name, path in rooms().items():
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert text.splitlines()[:1] and text[0].isupper(), name


def loaded(code):
    """The modules that a program has loaded at its end."""
    code += "; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_nothing_heavy_is_imported_before_it_is_needed():
    early = loaded("import main")
    assert not early & {"matplotlib", "torchvision", "scipy", "PIL.JpegImagePlugin", "PIL.Image"}


def test_the_console_stands_before_torch():
    assert "torch" not in loaded("from training import console")

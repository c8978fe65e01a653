"""The house is as it is drawn: small rooms, imports that only run downwards, nothing heavy."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest
from helpers import ROOT

ROOMS = [  # from the ground up: a file imports from its own room and from those before it
    "files",
    "digits",
    "dataset model",
    "handwriting",
    "figures",
    "integers",
    "training",
    "study",
    "main predict hubconf",
    "reproduce export benchmarks",
]
LINES = {  # of Python in each room, at most: before one grows, look for what could go
    "scripts": 1165,
    "digits": 870,
    "handwriting": 880,
    "figures": 580,
    "integers": 250,
    "training": 1515,
    "study": 515,
    "benchmarks": 460,
    "tests": 7120,
}
FLOOR = {name: floor for floor, names in enumerate(ROOMS) for name in names.split()}
PATHS = [*ROOT.glob("*.py"), *(path for room in FLOOR for path in ROOT.glob(f"{room}/*.py"))]


def name(path):
    """The module of a file; a room's own name is that of its __init__.py."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path):
    """The project's modules that a file imports, anywhere in it."""
    modules, names = {name(path) for path in PATHS}, set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names & modules


def test_imports_run_downwards_and_make_no_circle():
    graph = {name(path): imports(path) for path in PATHS}
    for module, imported in graph.items():
        above = [other for other in imported if floor(other) > floor(module)]
        assert not above, f"{module} imports {above}"
    TopologicalSorter(graph).prepare()


def floor(module):
    return FLOOR[module.split(".")[0]]


@pytest.mark.parametrize("room", LINES)
def test_a_room_stays_small(room):
    paths = ROOT.glob("*.py") if room == "scripts" else (ROOT / room).rglob("*.py")
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)
    assert lines <= LINES[room], f"{room} has {lines} lines"


def test_a_module_says_in_its_first_line_what_it_holds():
    for path in PATHS:
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or " "
        assert text[0].isupper(), path


def test_nothing_heavy_is_imported_before_it_is_needed():
    code = "import main, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    heavy = {"matplotlib", "torchvision", "scipy", "PIL.Image"}
    assert done.returncode == 0 and not heavy & set(done.stdout.split()), done.stderr

"""What the documents say about the code is so: links, names and the walkthrough's network."""

import ast
import re

import model

import pytest
import torch
from helpers import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


def names(path):
    """What a file defines: functions, classes, their methods, and constants."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{one.name}" for one in node.body if hasattr(one, "name")}
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_headings_and_functions_that_exist(document):
    links = LINK.findall(document.read_text(encoding="utf-8"))
    for text, target in links:
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        path = (document.parent / name) if name else document
        assert path.exists(), target
        if heading:
            lines = path.read_text(encoding="utf-8").splitlines()
            titles = [line.lstrip("# ").lower() for line in lines if line.startswith("#")]
            slugs = [re.sub(r"[^\w -]", "", title).replace(" ", "-") for title in titles]
            assert heading in slugs, target
        if path.suffix == ".py" and (code := re.fullmatch(r"`([\w.]+)`", text)):
            assert code[1] in names(path) | {path.name}, f"{target} does not define {text}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_page_opens_with_a_heading_and_its_sentence(document):
    heading, empty, sentence, *_ = document.read_text(encoding="utf-8").splitlines()
    assert heading.startswith("# ") and empty == "" and re.match(r"[A-Z`]", sentence)


def test_the_readme_is_short_and_the_walkthrough_has_two_screens():
    assert len((ROOT / "README.md").read_bytes()) <= 6000
    walkthrough = (ROOT / "docs" / "walkthrough.md").read_text(encoding="utf-8")
    assert len(walkthrough.splitlines()) <= 110


def test_the_walkthroughs_network_can_be_trained():
    text = (ROOT / "docs" / "walkthrough.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    space = dict(vars(model))
    exec(code, space)
    network = space["MODELS"]["lenet1998"]()
    assert sum(weight.numel() for weight in network.parameters()) == 61_706  # of the usual table
    images = torch.zeros(2, 1, 28, 28)
    assert network(images).shape == (2, 10) and list(space["MODELS"]) == [
        *model.MODELS,
        "lenet1998",
    ]


def test_the_path_of_a_training_is_as_short_as_the_documents_say():
    files = [ROOT / name for name in ("model.py", "main.py", "dataset.py")]
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files) < 400
    for document in (ROOT / "README.md", ROOT / "docs" / "walkthrough.md"):
        assert "than 400 lines" in document.read_text(encoding="utf-8")

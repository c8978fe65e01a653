"""What the documents say about the code is so: links and names; tests/test_student.py runs it."""

import re
import symtable

import pytest
from helpers import ROOT

WALKTHROUGH = ROOT / "docs" / "walkthrough.md"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


def names(path):
    """What a file defines: functions, classes, constants, and what is in them."""
    table = symtable.symtable(path.read_text(encoding="utf-8"), path.name, "exec")
    own = [symbol for symbol in table.get_symbols() if not symbol.is_imported()]
    found = {symbol.get_name() for symbol in own if symbol.is_assigned()}
    for inner in table.get_children():
        found |= {f"{inner.get_name()}.{name}" for name in inner.get_identifiers()}
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


def test_documents_and_the_path_of_a_training_are_as_short_as_they_should_be():
    assert len((ROOT / "README.md").read_bytes()) <= 6000
    assert len(WALKTHROUGH.read_text(encoding="utf-8").splitlines()) <= 110
    files = [ROOT / name for name in ("model.py", "main.py", "dataset.py")]
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files) < 400
    for document in (ROOT / "README.md", WALKTHROUGH):
        assert "than 400 lines" in document.read_text(encoding="utf-8")

"""predict.py --labels: it counts the pictures that are read, and rejects wrong tables in a line."""

from files import DataError
from handwriting import labelled

import pytest


@pytest.mark.parametrize(
    ("label", "text", "right"),
    [
        ("12 34", "12\n34", True),
        ("1234", "12  34", True),  # a space in a row separates two numbers
        ("12", "1?2", True),
        ("", "", True),
        ("567", "57", False),
        ("12", "1\n2", False),
        ("", "8", False),
    ],
)
def test_a_picture_is_read_where_all_digits_and_rows_are(label, text, right):
    assert labelled.is_read(label, text) == right


def test_the_report_counts_pictures():
    results = [("page", True), ("page", False), ("page", False), ("other", True)]
    page, other, everything = labelled.report(results).splitlines()
    assert page.split() == "page 1 of 3 right 33.33 %".split()
    assert other.split() == "other 1 of 1 right 100.00 %".split()
    assert everything.split() == "all 2 of 4 right 50.00 %".split()


def test_a_table_names_pictures_beside_itself(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("file,label,kind\na.png,7,\nb/c.png,12 34,page\nd.png,none,\n")
    assert labelled.read_labels(path) == [
        labelled.Labelled(tmp_path / "a.png", "7"),
        labelled.Labelled(tmp_path / "b" / "c.png", "12 34", "page"),
        labelled.Labelled(tmp_path / "d.png", ""),
    ]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"file,label\na.png,seven\n", "line 2: no file and label"),
        (b"name,label\na.png,7\n", "line 2: no file and label"),
        (b"file;label\na.png;7\n", "line 2: no file and label"),
        (b"file,label\n", "no rows"),
        (b"\xff\xfe\0", "not a CSV file"),
        (None, "No such file"),
    ],
)
def test_a_table_that_makes_no_sense_is_one_line(content, why, tmp_path):
    path = tmp_path / "labels.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"^[^\n]*{why}[^\n]*; [^\n]+$"):
        labelled.read_labels(path)

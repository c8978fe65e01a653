"""predict.py --labels: when a picture is read, and tables that are rejected in a line."""

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

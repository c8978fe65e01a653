"""predict.py --labels: its counts are those of an independent oracle, and wrong tables are told."""

import itertools
from pathlib import Path

import pytest

from files import DataError
from handwriting import labelled


def distance(a, b):
    """Levenshtein's distance, as it is defined."""
    if not a or not b:
        return len(a) + len(b)
    changed = distance(a[1:], b[1:]) + (a[0] != b[0])
    return min(changed, distance(a[1:], b) + 1, distance(a, b[1:]) + 1)


def test_aligned_digits_have_the_fewest_differences():
    words = ["".join(word) for n in range(4) for word in itertools.product("12", repeat=n)]
    for written, read in itertools.product([*words, "1234", "5123"], repeat=2):
        pairs = labelled.aligned(written, read)
        assert "".join(a for a, _ in pairs) == written and "".join(b for _, b in pairs) == read
        assert sum(a != b for a, b in pairs) == distance(written, read)


def test_the_report_counts_pictures_and_digits():
    results = [
        labelled.Read("12 34", "page", "12 34"),
        labelled.Read("567", "page", "57"),
        labelled.Read("12", "page", "1 2"),  # each digit right, but not the rows
        labelled.Read("", "other", ""),
        labelled.Read("", "other", "8"),
    ]
    lines = labelled.report(results).splitlines()
    assert lines[1].split() == ["page", "3", "1", "33.33", "%", "88.89", "%"]
    assert lines[2].split() == ["other", "2", "1", "50.00", "%", "-"]
    assert lines[3].split() == ["all", "5", "2", "40.00", "%", "77.78", "%"]
    confusion = {line.split()[0]: line.split()[1:] for line in lines[7:]}
    assert confusion["6"][10] == "1" and confusion["-"][8] == "1" and confusion["1"][1] == "2"
    assert sum(int(n) for row in confusion.values() for n in row if n != ".") == 10


def test_a_table_names_pictures_beside_itself(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("file,label\na.png,7\nb/c.png,12 34\nd.png,none\n")
    assert labelled.read_labels(path) == [
        labelled.Labelled(tmp_path / "a.png", "7"),
        labelled.Labelled(tmp_path / "b" / "c.png", "12 34"),
        labelled.Labelled(tmp_path / "d.png", ""),
    ]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"file,label\na.png,seven\n", "line 2: no file and label"),
        (b"name,label\na.png,7\n", "line 2: no file and label"),
        (b"file,label\n", "no rows"),
        (b"file;label\na.png;7\n", "line 1: no commas"),
        (b"\xff\xfe\0", "not a CSV file"),
        (None, "No such file"),
    ],
)
def test_a_table_that_makes_no_sense_is_one_line(content, why, tmp_path):
    path = Path(tmp_path / "labels.csv")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"^[^\n]*{why}[^\n]*; [^\n]+$"):
        labelled.read_labels(path)

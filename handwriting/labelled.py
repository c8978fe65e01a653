"""Pictures whose digits are known: the table of predict.py --labels, and how many are read.

file,label,kind                    kind may be missing
page.jpg,5328 794 616,page         the digits in reading order, a space between two rows
cat.jpg,none,other                 a picture without a digit
"""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from files import DataError


class Labelled(NamedTuple):
    """A picture with what is written on it."""

    file: Path
    label: str = ""  # the digits in reading order, a space between two rows
    kind: str = "picture"


def read_labels(path: Path) -> list[Labelled]:
    """The rows of a CSV file; DataError where one makes no sense."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or "not a CSV file"
        raise DataError(f"{path}: {why}; give a CSV file with the columns file and label") from None
    pictures = []
    for number, row in enumerate(rows, 2):
        name, label = row.get("file"), (row.get("label") or "").strip()
        if not name or not re.fullmatch("none|[0-9]+( [0-9]+)*", label):
            what = f"{path}, line {number}: no file and label with a comma between them"
            raise DataError(f'{what}; write "a.png,7", "b.png,12 34" or "c.png,none"')
        kind = (row.get("kind") or "").strip() or "picture"
        pictures.append(Labelled(path.parent / name, label.replace("none", ""), kind))
    if not pictures:
        raise DataError(f"{path}: no rows; give a CSV file with the columns file and label")
    return pictures


def is_read(label: str, text: str) -> bool:
    """Whether all digits and rows of a picture were read, and no other."""
    return label == " ".join(re.sub("[? ]", "", row) for row in text.splitlines())


def report(results: Sequence[tuple[str, bool]]) -> str:
    """How many pictures of each kind are read rightly; `results` are kinds and whether they are."""
    lines = []
    for kind in [*dict.fromkeys(kind for kind, _ in results), "all"]:
        right = [is_right for other, is_right in results if kind in (other, "all")]
        share = 100 * sum(right) / max(1, len(right))
        lines.append(f"{kind:12}{sum(right):>7} of {len(right):>5} right{share:>10.2f} %")
    return "\n".join(lines)

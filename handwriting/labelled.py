"""How well pictures are read whose labels are known: predict.py --labels.

file,label,kind                    kind may be missing
page.jpg,5328 794 616,page         the digits in reading order, a space between two rows
cat.jpg,none,other                 a picture without a digit
"""

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from files import DataError


class Labelled(NamedTuple):
    """A picture with what is written on it."""

    file: Path
    label: str  # the digits in reading order, a space between two rows; "" if there is none
    kind: str = "picture"


class Read(NamedTuple):
    """A picture with what was read of it."""

    label: str
    kind: str
    text: str  # as the label; without "?"

    @property
    def right(self) -> bool:
        """Whether all digits and rows were read, and no other."""
        return self.text == self.label

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The digits written and read, each beside the other's; see `aligned`."""
        return aligned(self.label.replace(" ", ""), self.text.replace(" ", ""))


def read_labels(path: Path) -> list[Labelled]:
    """The rows of a CSV file; DataError where one makes no sense."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            rows = list(table)
    except (OSError, UnicodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or "not a CSV file"
        raise DataError(f"{path}: {why}; give a CSV file with the columns file and label") from None
    head = table.fieldnames or []
    if len(head) == 1 and re.search("[;\t]", head[0]):
        raise DataError(f"{path}, line 1: no commas; save it as a CSV file with commas")
    pictures = []
    for number, row in enumerate(rows, 2):
        name, label = row.get("file"), (row.get("label") or "").strip()
        if not name or not re.fullmatch("none|[0-9]+( [0-9]+)*", label):
            why = 'no file and label, such as "a.png,7", "b.png,12 34" or "c.png,none"'
            raise DataError(f"{path}, line {number}: {why}; correct it")
        kind = (row.get("kind") or "").strip() or "picture"
        pictures.append(Labelled(path.parent / name, label.replace("none", ""), kind))
    if not pictures:
        raise DataError(f"{path}: no rows; give a CSV file with the columns file and label")
    return pictures


def aligned(written: str, read: str) -> list[tuple[str, str]]:
    """Pairs of a digit written and the digit read for it; "" on the side where there is none.

    They are those with the fewest differences: their number is Levenshtein's edit distance.
    """
    ways: list[list[tuple[int, list[tuple[str, str]]]]] = [[(0, [])]]
    for column, digit in enumerate(read):
        ways[0].append((column + 1, [*ways[0][column][1], ("", digit)]))
    for line, digit in enumerate(written):
        row = [(line + 1, [*ways[line][0][1], (digit, "")])]
        for column, answer in enumerate(read):
            steps = [
                (ways[line][column], (digit, answer)),
                (ways[line][column + 1], (digit, "")),
                (row[column], ("", answer)),
            ]
            ways_here = [(cost + (a != b), [*before, (a, b)]) for (cost, before), (a, b) in steps]
            row.append(min(ways_here, key=lambda way: way[0]))
        ways.append(row)
    return ways[-1][-1][1]


def report(results: Sequence[Read]) -> str:
    """A table by kind, and a confusion of the digits written and read."""
    lines = [f"{'kind':12}{'pictures':>10}{'right':>7}{'exact':>10}{'by digit':>10}"]
    kinds = list(dict.fromkeys(one.kind for one in results))
    for kind in kinds:
        lines.append(_row(kind, [one for one in results if one.kind == kind]))
    if len(kinds) > 1:
        lines.append(_row("all", results))
    pairs = [pair for one in results for pair in one.pairs]
    if any(written for written, _ in pairs):
        lines += ["", "rows: the digit written; columns: the digit read; -: none"]
        lines.append("    " + "".join(f"{digit:>5}" for digit in "0123456789-"))
        for written in [*"0123456789", ""]:
            counts = [pairs.count((written, digit)) for digit in [*"0123456789", ""]]
            row = "".join(f"{count or '.':>5}" for count in counts)
            lines.append(f"{written or '-':>4}{row}")
    return "\n".join(lines)


def _row(kind: str, results: Sequence[Read]) -> str:
    right = sum(one.right for one in results)
    written = _written(results)
    wrong = sum(a != b for one in results for a, b in one.pairs)
    by_digit = f"{100 * (1 - wrong / written):.2f} %" if written else "-"
    exact = f"{100 * right / len(results):.2f} %"
    return f"{kind:12}{len(results):>10}{right:>7}{exact:>10}{by_digit:>10}"


def _written(results: Iterable[Read]) -> int:
    return sum(len(one.label.replace(" ", "")) for one in results)

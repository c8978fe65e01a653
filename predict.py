"""Reads your own handwriting: every digit of a picture; shipped weights make training optional.

    $ python predict.py page.jpg
    weights: pretrained/handwriting.pt (lenet5, test accuracy 99.56 %)
    page.jpg:
    5328
    794
    plots/predictions.png

The figure shows what was found and how sure the network is; look there when an answer is wrong.
What the network is less than 60 % sure of is no digit, or cannot be read: "?".
"""

from training import program

program.begin(__name__)

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from files import PictureError, UserError
from handwriting import labelled, picture, reading
from training.checkpoint import PLOTS, edited, load, network

import numpy as np
from torch import nn

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".heic", ".heif", ".mpo"}
SHIPPED = Path(__file__).resolve().parent / "pretrained" / "handwriting.pt"
FIGURE = PLOTS / "predictions.png"
RUNNER_UP = 0.1  # the second digit is printed from this probability on


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Give a command line the option `checkpoint`."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=SHIPPED,
        help="weights, such as those of a run of yours (default: the shipped ones)",
    )


def read_command_line(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's options: `images`, `checkpoint`, `labels`, `json`."""
    parser = program.Parser(__doc__)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="pictures, or folders of them")
    add_checkpoint(parser)
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="CSV",
        help="read the pictures that a table names (file, label, kind), and say how many are right",
    )
    parser.add_argument("--json", action="store_true", help="print the answers as JSON")
    options = parser.parse_args(arguments)
    if bool(options.images) == bool(options.labels):
        parser.error("give pictures, or --labels with a table of them")
    return options


def printable(text: str | Path) -> str:
    """The text with control characters, which a file's name may hold, made visible."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def picture_paths(names: Iterable[str]) -> Iterator[Path]:
    """Paths of pictures: files as they are, folders as the pictures directly in them, sorted."""
    for path in map(Path, names):
        inside = []
        if os.path.isdir(path) and os.access(path, os.R_OK):
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        yield from inside or [path]  # picture.read says what is wrong with any other folder


def weights_in_words(path: Path, checkpoint: dict) -> str:
    """A checkpoint in one line: where it is, which network, how good, trained on what."""
    config, history = checkpoint["config"], checkpoint["history"]
    facts = [config.model]
    if history:
        tested_on = "validation" if config.val_size else "test"
        facts.append(f"{tested_on} accuracy {100 * history[-1]['test_accuracy']:.2f} %")
    else:
        facts.append("nothing is known of their training")
    if edited(checkpoint):
        facts.append(
            "WARNING: model.py was edited since they were trained, so answers may be wrong"
        )
    if config.data == "generated":
        facts.append("trained on generated digits, not on MNIST")
    elif config.data != "mnist":
        facts.append(f"trained on {config.data}, not on MNIST")
    if config.mix == "none":
        facts.append("trained without --recipe handwriting, so they call nearly everything a digit")
    return f"weights: {printable(path)} ({', '.join(facts)})"


def examine(path: Path, weights: nn.Module) -> dict:
    """One picture's record: `file`, and `rows` of digits, `text` and `page`, or the `error`."""
    record: dict = {"file": str(path)}
    try:
        page, scale, frames = picture.read(path)
    except PictureError as error:
        program.tell(f"error: {printable(path)}: {printable(str(error))}")
        return record | {"error": str(error)}
    rows = reading.read(weights, page)
    record |= {"page": page, "rows": rows, "text": reading.as_text(rows), "scale": scale}
    return record | ({"note": f"the first of {frames} frames"} if frames > 1 else {})


def answer_in_words(record: dict) -> str:
    """What a person reads of one picture, after a colon: the digit and how sure, or the page."""
    digits = [digit for row in record["rows"] for digit in row]
    note = f" ({record['note']})" if "note" in record else ""
    if not record["text"]:
        return f" no digit found{note}"
    if len(digits) > 1:
        several_rows = "\n" in record["text"]
        return note + ("\n" if several_rows else " ") + record["text"]
    ranked = sorted(enumerate(digits[0].probabilities), key=lambda pair: -pair[1])
    likely = [f"{digit} ({100 * p:.1f} %)" for digit, p in ranked[:2] if p >= RUNNER_UP]
    return f" {' or '.join(likely)}{note}"


def as_json(record: dict) -> dict:
    """A record as docs/handwriting.md describes it."""
    if "error" in record:
        return record
    digits = [
        {
            "box": np.rint(record["scale"] * digit.box).astype(int).tolist(),
            "digit": int(str(digit)) if digit.sure else None,
            "probabilities": [round(float(p), 6) for p in digit.probabilities],
        }
        for row in record["rows"]
        for digit in row
    ]
    notes = {"note": record["note"]} if "note" in record else {}
    return {"file": record["file"], "text": record["text"], "digits": digits, **notes}


def draw_figure(records: Sequence[dict]) -> None:
    """Write the figure of all pictures that could be opened, whole or not at all."""
    from figures import page as pages  # late: matplotlib takes 0.3 s
    from figures import style

    panels = []
    for record in records:
        digits = [digit for row in record["rows"] for digit in row]
        scale = 1 / max(record["page"].size)
        marks = [(digit.box * scale, str(digit), digit.probabilities.max()) for digit in digits]
        answer = answer_in_words(record).strip().replace("\n", " / ")
        text = f"{printable(Path(record['file']).name)[-28:]}: {answer}"
        seen = (digits[0].seen, digits[0].probabilities) if len(digits) == 1 else ()
        panels.append(pages.Prediction(text, np.asarray(record["page"]), marks, *seen))
    try:
        style.save(pages.predictions(panels), FIGURE)
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"{FIGURE}: {why}; make it writable, then try again") from None


def answer_all(options: argparse.Namespace) -> int:
    """Answers for every picture; gives the exit status, 1 if one could not be opened."""
    aside = sys.stderr if options.json else sys.stdout
    table = labelled.read_labels(options.labels) if options.labels else []
    checkpoint = load(options.checkpoint)
    print(weights_in_words(options.checkpoint, checkpoint), file=aside)
    weights = network(checkpoint)
    paths = [one.file for one in table] or picture_paths(options.images)
    records = [examine(path, weights) for path in paths]
    opened = [record for record in records if "page" in record]
    if options.json:
        whole = {"checkpoint": str(options.checkpoint), "threshold": reading.SURE}
        print(json.dumps(whole | {"results": [as_json(record) for record in records]}, indent=1))
    if table:
        opened = judged(table, records, aside)
    elif not options.json:
        for record in opened:
            print(f"{printable(record['file'])}:{answer_in_words(record)}")
    if opened:
        draw_figure(opened)
        print(FIGURE, file=aside)
    return 0 if len(opened) == len(records) else 1


def judged(table: Sequence[labelled.Labelled], records: Sequence[dict], to: TextIO) -> list[dict]:
    """Print how many of the pictures are right; gives those that were opened, the wrong first."""
    right, wrong, results = [], [], []
    for one, record in zip(table, records, strict=True):
        if "page" in record:
            text = " ".join(record["text"].replace("?", "").split())
            results.append(labelled.Read(one.label, one.kind, text))
            (right if results[-1].right else wrong).append(record)
    print(labelled.report(results), file=to)
    return wrong + right


@program.guarded
def main(arguments: Sequence[str] | None = None) -> int:
    """The program; gives its exit status."""
    return answer_all(read_command_line(arguments))


if __name__ == "__main__":
    program.end(main())

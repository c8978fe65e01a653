"""Reads your own handwriting: every digit of a picture; shipped weights make training optional.

    $ python predict.py page.jpg
    weights: pretrained/handwriting.pt (lenet5, test accuracy 99.51 %)
    page.jpg:
    5328
    794
    plots/predictions.png

The figure shows what was found and how sure the network is; look there when an answer is wrong.
What the network is less than 50 % sure of is no digit, or cannot be read: "?".
"""

from training import program

program.begin(__name__)

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from glob import glob
from operator import itemgetter
from pathlib import Path

from files import PictureError
from handwriting import labelled, picture, reading
from training.checkpoint import PLOTS, edited, load, network

import numpy as np

SHIPPED = Path(__file__).resolve().parent / "pretrained" / "handwriting.pt"
FIGURE = PLOTS / "predictions.png"
SHOWN = 40  # pictures in the figure
RUNNER_UP = 0.1  # the second digit is printed from this probability on
NEARLY = 0.9  # where neither of two digits is sure, both are named if together they have this


def printable(text: str | Path) -> str:
    """The text with control characters, which a file's name may hold, made visible."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def picture_paths(names: Iterable[str]) -> Iterator[Path]:
    """Paths of pictures: files as they are, folders as the pictures directly in them, sorted.

    Where no file has the name, * and ? in it stand for any letters: Windows leaves that to us.
    """
    for name in names:
        is_pattern = set(name) & set("*?") and not os.path.exists(name)
        for path in map(Path, (is_pattern and sorted(glob(name))) or [name]):
            files = sorted(path.iterdir()) if path.is_dir() and os.access(path, os.R_OK) else []
            inside = [file for file in files if file.suffix.lower() in picture.SUFFIXES]
            if inside and len(files) > len(inside):
                count = len(files) - len(inside)
                program.tell(f"note: {printable(path)}: {count} other files were passed over")
            yield from inside or [path]  # picture.read says what is wrong with any other folder


def weights_in_words(path: Path, checkpoint: dict) -> str:
    """A checkpoint in one line: where it is, which network, how good, trained on what."""
    config, history = checkpoint["config"], checkpoint["history"]
    facts = [config.model, "nothing is known of their training"]
    if history:
        facts[1] = f"{config.evaluated} accuracy {100 * history[-1]['test_accuracy']:.2f} %"
    if edited(checkpoint):
        facts += ["WARNING: model.py was edited since they were trained, so answers may be wrong"]
    if config.data != "mnist":
        data = "generated digits" if config.data == "generated" else config.data
        facts += [f"trained on {data}, not on MNIST"]
    if config.mix == "none":
        facts += [
            "trained without --recipe handwriting, so the shipped ones decide what is a digit"
        ]
    return f"weights: {printable(path)} ({', '.join(facts)})"


def as_record(rows: reading.Rows, opened: picture.Picture) -> dict:
    """What is read of a picture, as docs/handwriting.md describes it."""
    digits = [
        {
            "box": np.rint(opened.scale * digit.box).astype(int).tolist(),
            "digit": int(str(digit)) if digit.sure else None,
            "probabilities": [round(float(p), 6) for p in digit.probabilities],
        }
        for digit in sum(rows, [])
    ]
    note = {"note": f"the first of {opened.frames} frames"} if opened.frames > 1 else {}
    return {"text": reading.as_text(rows), "digits": digits, **note}


def answer_in_words(record: dict) -> str:
    """What a person reads of one picture, after a colon: the digit and how sure, or the page."""
    text, digits = record["text"], record["digits"]
    answer = text or "no digit found"
    if len(digits) == 1:
        ranked = sorted(enumerate(digits[0]["probabilities"]), key=lambda pair: -pair[1])[:2]
        if text:
            likely = [f"{digit} ({100 * p:.1f} %)" for digit, p in ranked if p >= RUNNER_UP]
            answer = " or ".join(likely)
        elif sum(p for _, p in ranked) > NEARLY:
            answer = f"{ranked[0][0]} or {ranked[1][0]}, not sure"
    note = f" ({record['note']})" if "note" in record else ""
    return note + ("\n" if "\n" in text else " ") + answer


def read_command_line(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options `images`, `checkpoint`, `labels`, `json`."""
    parser = program.Parser(__doc__)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="pictures, or folders of them")
    words = "weights, such as those of a run of yours (default: the shipped ones)"
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED, help=words)
    words = "read the pictures that a table names (file, label, kind), and say how many are right"
    parser.add_argument("--labels", type=Path, metavar="CSV", help=words)
    parser.add_argument("--json", action="store_true", help="print the answers as JSON")
    options = parser.parse_args(argv)
    if bool(options.images) == bool(options.labels):
        parser.error("give pictures, or --labels with a table of them")
    return options


@program.guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Answer for each picture as soon as it is read; gives the exit status."""
    options = read_command_line(argv)
    table = labelled.read_labels(options.labels) if options.labels else []
    pictures = table or map(labelled.Labelled, picture_paths(options.images))
    checkpoint = load(options.checkpoint)
    weights = judge = network(checkpoint)
    if checkpoint["config"].mix == "none":  # everything looks like a digit to them
        judge = network(load(SHIPPED))
    aside = sys.stderr if options.json else sys.stdout
    print(weights_in_words(options.checkpoint, checkpoint), file=aside)
    if options.json:
        settings = {"checkpoint": str(options.checkpoint), "threshold": reading.SURE}
        print(json.dumps(settings)[:-1], ', "results": [', sep="")
    status, results, panels = 0, [], []
    for number, (path, label, kind) in enumerate(pictures):
        try:
            opened = picture.read(path)
        except PictureError as error:
            program.tell(f"error: {printable(path)}: {printable(str(error))}")
            status, record = 1, {"error": str(error)}
        else:
            rows = reading.read(weights, opened.page, judge)
            record = as_record(rows, opened)
            answer = answer_in_words(record)
            if not table and not options.json:
                print(f"{printable(path)}:{answer}", flush=True)
            right = bool(table) and labelled.is_read(label, record["text"])
            results.append((kind, right))
            caption = f"{printable(path.name)[-28:]}: {answer.strip()}".replace("\n", " / ")
            panels.append((right, caption, opened.page, rows))
            panels = sorted(panels, key=itemgetter(0))[:SHOWN]  # what is read wrongly comes first
        if options.json:
            print("," * (number > 0) + json.dumps({"file": str(path), **record}), flush=True)
    if options.json:
        print("]}")
    if table:
        print(labelled.report(results), file=aside)
    if results:
        from figures import page, style  # late: matplotlib takes 0.3 s

        style.save(page.predictions([page.answered(*panel) for _, *panel in panels]), FIGURE)
        print(FIGURE, file=aside)
    return status


if __name__ == "__main__":
    program.end(main())

"""Reads your own handwritten digits; the shipped weights make training optional.

    $ python predict.py seven.jpg
    weights: pretrained/lenet5.pt (lenet5, test accuracy 99.65 %)
    seven.jpg: 7 (99.8 %)
    plots/predictions.png

The figure shows what the network saw and how sure it is; look there when an answer is wrong.
"""

from training import console

console.before_imports(__name__)

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from dataset import normalize
from digits import photo, picture
from files import PictureError, UserError
from training.checkpoint import PLOTS, RUNS, edited, load, network

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"}
SHIPPED = Path(__file__).resolve().parent / "pretrained" / "lenet5.pt"
FIGURE = PLOTS / "predictions.png"
THUMBNAIL = 160  # pixels: the longer side of a picture in the figure
RUNNER_UP = 0.1  # the second digit is printed from this probability on


def read_command_line(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's options: `images`, `checkpoint`, `json`."""
    parser = console.Parser(__doc__)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="pictures, or folders of them")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        help="weights (default: your newest run's, else the shipped ones)",
    )
    parser.add_argument("--json", action="store_true", help="print the answers as JSON")
    return parser.parse_args(arguments)


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


def newest_checkpoint() -> Path:
    """The checkpoint that the user's latest training wrote, else the shipped one."""
    runs = RUNS.glob("*/checkpoint.pt")
    return max(runs, key=lambda path: path.stat().st_mtime, default=SHIPPED)


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
        facts.append("WARNING: model.py was edited since they were trained, expect wrong answers")
    if config.data == "generated":
        facts.append("trained on generated digits, not on MNIST")
    elif config.data != "mnist":
        facts.append(f"trained on {config.data}, not on MNIST")
    return f"weights: {printable(path)} ({', '.join(facts)})"


def classify(checkpoint: dict, images: Sequence[np.ndarray]) -> np.ndarray:
    """Probabilities (N x 10) of the digits in images (N x 28 x 28, uint8), in one batch."""
    with torch.inference_mode():
        logits = network(checkpoint)(normalize(torch.from_numpy(np.stack(images))))
    return logits.softmax(dim=1).numpy()


def examine(path: Path) -> dict:
    """One picture's record: its file, a thumbnail, the 28 x 28 the network sees, or the error."""
    record: dict = {"file": str(path)}
    try:
        page = picture.read(path)
        record["thumbnail"] = np.asarray(picture.resized(page, THUMBNAIL))
        record["seen"], record["others"] = photo.prepare(page)
    except PictureError as error:
        record["error"] = str(error)
        console.tell(f"error: {printable(path)}: {printable(record['error'])}")
    return record


def answer_in_words(record: dict) -> str:
    """What a person reads of one picture: the digit, how sure, the runner-up when it is close."""
    if "digit" not in record:
        return record["error"].partition(";")[0]
    ranked = sorted(enumerate(record["probabilities"]), key=lambda pair: -pair[1])
    likely = [f"{digit} ({100 * p:.1f} %)" for digit, p in ranked[:2] if p >= RUNNER_UP]
    others = f", the largest of {record['others'] + 1} digits" if record["others"] else ""
    return " or ".join(likely) + others


def draw_figure(records: Sequence[dict]) -> None:
    """Write the figure of all pictures that could be opened, whole or not at all."""
    from training import plotting  # late: matplotlib takes 0.3 s

    rows = []
    for record in records:
        name = printable(Path(record["file"]).name)[-28:]
        text = f"{name}: {answer_in_words(record)}"
        rows.append(
            (text, record["thumbnail"], record.get("seen"), record.get("probabilities")),
        )
    try:
        plotting.predictions(FIGURE, rows)
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"{FIGURE}: {why}; make it writable, then try again") from None


def answer_all(options: argparse.Namespace) -> int:
    """Answers for every picture that has an answer; gives the exit status."""
    aside = sys.stderr if options.json else sys.stdout
    path = options.checkpoint or newest_checkpoint()
    checkpoint = load(path)
    print(weights_in_words(path, checkpoint), file=aside)
    records = [examine(one) for one in picture_paths(options.images)]
    found = [record for record in records if "seen" in record]
    if found:
        probabilities = classify(checkpoint, [record["seen"] for record in found])
        for record, row in zip(found, probabilities, strict=True):
            record.update(digit=int(row.argmax()), confidence=float(row.max()))
            record["probabilities"] = [round(float(p), 6) for p in row]
    if options.json:
        pixels = {"thumbnail", "seen"}
        results = [{k: v for k, v in r.items() if k not in pixels} for r in records]
        print(json.dumps({"checkpoint": str(path), "results": results}, indent=1))
    else:
        for record in found:
            print(f"{printable(record['file'])}: {answer_in_words(record)}")
    opened = [record for record in records if "thumbnail" in record]
    if opened:
        draw_figure(opened)
        print(FIGURE, file=aside)
    return 0 if len(found) == len(records) else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; gives its exit status."""

    def program() -> int:
        try:
            return answer_all(read_command_line(arguments))
        except console.Interrupted as interrupted:
            return interrupted.status  # there is no run that could be continued

    return console.guarded(program)


if __name__ == "__main__":
    console.after_imports()
    console.end(main())

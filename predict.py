"""Reads your own handwritten digits; the shipped weights make training optional.

    $ python predict.py seven.jpg
    weights: pretrained/lenet5.pt (lenet5, test accuracy 99.65 %)
    seven.jpg: 7 (99.8 %)
    plots/predictions.png

The picture shows what the network saw and how sure it is; look there when an answer is wrong.
"""

import argparse
import gc
import json
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    gc.disable()  # as in main.py

import numpy as np
import torch

from checkpoint import CheckpointError, load
from dataset import normalize
from model import build
from options import Parser
from preprocess import PictureError, fit, prepare, read

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"}
SHIPPED = Path(__file__).resolve().parent / "pretrained" / "lenet5.pt"
FIGURE = Path("plots") / "predictions.png"
CLOSE = 0.1  # a runner-up at least this probable is printed


def parse(arguments=None):
    """The command line's options."""
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="pictures, or folders of them")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        help="weights (default: your newest run's, else the shipped ones)",
    )
    parser.add_argument("--json", action="store_true", help="print the answers as JSON")
    return parser.parse_args(arguments)


def printable(text):
    """The text with control characters, which a file's name may hold, made visible."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def expand(names):
    """Paths of pictures: files as they are, folders as the pictures directly in them, sorted."""
    for path in map(Path, names):
        inside = []
        if os.path.isdir(path) and os.access(path, os.R_OK):
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        yield from inside or [path]  # of a folder without pictures, read() says what is wrong


def newest_checkpoint():
    """The checkpoint that the user's latest training wrote, else the shipped one."""
    runs = Path("runs").glob("*/checkpoint.pt")
    return max(runs, key=lambda path: path.stat().st_mtime, default=SHIPPED)


def describe(path, checkpoint):
    """A checkpoint in one line: where it is, which network, how good, trained on what."""
    facts = [checkpoint["config"]["model"]]
    history = checkpoint["history"]
    if history and history[-1].get("test_accuracy") is not None:
        facts.append(f"test accuracy {100 * history[-1]['test_accuracy']:.2f} %")
    if checkpoint["config"]["data"] == "generated":
        facts.append("trained on generated digits, not on MNIST")
    return f"weights: {printable(path)} ({', '.join(facts)})"


def classify(checkpoint, images):
    """Probabilities (N x 10) of the digits in images (N x 28 x 28, uint8), in one batch."""
    model = build(checkpoint["config"])
    model.load_state_dict(checkpoint["model"])
    with torch.inference_mode():
        logits = model.eval()(normalize(torch.from_numpy(np.stack(images))))
    return logits.softmax(dim=1).numpy()


def examine(path):
    """One picture's record: its file, a thumbnail, the 28 x 28 the network sees, or the error."""
    record = {"file": str(path)}
    try:
        page = read(path)
        record["thumbnail"] = np.asarray(fit(page, 160))
        record["seen"], record["others"] = prepare(page)
    except PictureError as error:
        record["error"] = str(error)
        print(f"error: {printable(path)}: {printable(error)}", file=sys.stderr)
    return record


def answer(record):
    """What a person reads of one picture: the digit, how sure, the runner-up when it is close."""
    if "digit" not in record:
        return record["error"].partition(";")[0]
    ranked = sorted(enumerate(record["probabilities"]), key=lambda pair: -pair[1])
    likely = [f"{digit} ({100 * p:.1f} %)" for digit, p in ranked[:2] if p >= CLOSE]
    others = f", the largest of {record['others'] + 1} digits" if record["others"] else ""
    return " or ".join(likely) + others


def draw(records):
    """Write the figure of every picture that could be decoded, whole or not at all."""
    import plotting  # late: matplotlib takes 0.3 s

    rows = [
        (
            f"{printable(Path(record['file']).name)[-28:]}: {answer(record)}",
            record["thumbnail"],
            record.get("seen"),
            record.get("probabilities"),
        )
        for record in records
    ]
    plotting.predictions(FIGURE, rows)


def run(options):
    """Answers for every picture that has an answer; returns the exit status."""
    aside = sys.stderr if options.json else sys.stdout
    path = options.checkpoint or newest_checkpoint()
    checkpoint = load(path)
    print(describe(path, checkpoint), file=aside)
    records = [examine(picture) for picture in expand(options.images)]
    found = [record for record in records if "seen" in record]
    if found:
        probabilities = classify(checkpoint, [record["seen"] for record in found])
        for record, row in zip(found, probabilities, strict=True):
            record.update(digit=int(row.argmax()), confidence=float(row.max()))
            record["probabilities"] = [round(float(p), 6) for p in row]
    if options.json:
        pictures = {"thumbnail", "seen"}
        results = [{k: v for k, v in r.items() if k not in pictures} for r in records]
        print(json.dumps({"checkpoint": str(path), "results": results}, indent=1))
    else:
        for record in found:
            print(f"{printable(record['file'])}: {answer(record)}")
    decoded = [record for record in records if "thumbnail" in record]
    if decoded:
        draw(decoded)
        print(FIGURE, file=aside)
    return 0 if len(found) == len(records) else 1


def main(arguments=None):
    """The program; gives its exit status."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a file's name may have any character
    options = parse(arguments)
    try:
        return run(options)
    except CheckpointError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:  # a picture's own are in its record
        print(f"error: {FIGURE}: {error.strerror}; make it writable", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 1


if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    sys.exit(main())

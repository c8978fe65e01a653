"""Exports a network: as a page to draw on, for any browser, or as ONNX, for other programs.

    $ python export.py lenet5.html
    weights: pretrained/handwriting.pt (lenet5, test accuracy 99.56 %)
    lenet5.html

The page is export.html with the weights in it; it needs no server and sends no request. The ONNX
file takes images (N x 1 x 28 x 28, from 0, background, to 1, ink) and gives logits (N x 10).
"""

from training import program

program.begin(__name__)

import argparse
import contextlib
import html
import json
from collections.abc import Sequence
from pathlib import Path

from digits.idx import MEAN, STD
from files import UserError, write_whole
from handwriting.mix import SURE
from predict import RUNNER_UP, add_checkpoint, printable, weights_in_words
from training import portable
from training.checkpoint import load, network

from torch import nn

MARK = "lenet5-mnist export.py"  # in every file that this program writes
TEMPLATE = Path(__file__).resolve().with_name("export.html")


def read_command_line(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's options: `destination`, `checkpoint`, `overwrite`."""
    parser = program.Parser(__doc__)
    parser.add_argument(
        "destination", type=Path, help="the file to write: a page (.html), or ONNX (.onnx)"
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a file that another program wrote"
    )
    options = parser.parse_args(arguments)
    if options.destination.suffix not in (".html", ".onnx"):
        parser.error(f"{printable(options.destination)}: its ending is neither .html nor .onnx")
    return options


def require_own(path: Path) -> None:
    """Raise UserError if there is a file that this program did not write."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        if MARK.encode() not in file.read(2000):
            what = "exists, and this program did not write it"
            raise UserError(f"{printable(path)}: {what}; give another name, or --overwrite")


def page(model: nn.Module, checkpoint: dict) -> bytes:
    """The template with a network in it; UserError."""
    layers = portable.layers_of(model)
    title = getattr(model, "title", type(model).__name__)
    facts = [title, f"{sum(weights.numel() for weights in model.parameters()):,} parameters"]
    if history := checkpoint["history"]:
        tested_on = "validation" if checkpoint["config"].val_size else "test"
        facts.append(f"{tested_on} accuracy {100 * history[-1]['test_accuracy']:.2f}\u00a0%")
    values = {
        "layers": [portable.as_json(layer) for layer in layers],
        "mean": MEAN,
        "std": STD,
        "sure": SURE,
        "runner_up": RUNNER_UP,
    }
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, value in {
        "mark": MARK,
        "title": html.escape(title),
        "facts": html.escape(", ".join(facts)),
        "network": json.dumps(values, indent=1),
    }.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text.encode()


def export(options: argparse.Namespace) -> int:
    """Write the file; gives the exit status."""
    path = options.destination
    if not options.overwrite:
        require_own(path)
    checkpoint = load(options.checkpoint)
    print(weights_in_words(options.checkpoint, checkpoint))
    model = network(checkpoint)
    is_page = path.suffix == ".html"
    write_whole(path, page(model, checkpoint) if is_page else portable.onnx(model, MARK))
    print(printable(path))
    return 0


@program.guarded
def main(arguments: Sequence[str] | None = None) -> int:
    """The program; gives its exit status."""
    return export(read_command_line(arguments))


if __name__ == "__main__":
    program.end(main())

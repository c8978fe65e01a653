"""The looks that all figures share; `save` writes one as a PNG file.

Figures are matplotlib's `Figure` and not pyplot's, which keeps each figure and may open a window.
"""

import io
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from files import write_whole


@contextmanager
def own_settings() -> Generator[None]:
    """Draw with matplotlib's own settings, whatever a person's matplotlibrc says; a decorator.

    Somebody's `text.usetex: True` would need LaTeX, and the picture would not be the same.
    """
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A file's name may have letters that the font lacks; they are drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        warnings.simplefilter("ignore", DeprecationWarning)  # of libraries that matplotlib uses
        matplotlib.rcdefaults()
        yield


@own_settings()
def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as a PNG file, whole or not at all. Errors: OSError."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, facecolor="white")
    write_whole(path, buffer.getvalue())


def literal(text: str) -> str:
    """A text that matplotlib draws as it is: "$", as in the name of a file, starts no formula."""
    return text.replace("$", r"\$")  # parse_math=False would be ignored where lines are wrapped


def titled(heading: str, width: float, height: float) -> Figure:
    """An empty figure with a heading; width and height are in inches."""
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(width, height), layout=layout)
    figure.suptitle(literal(heading), fontsize=13, fontweight="bold", wrap=True)
    return figure


def small_print(figure: Figure, *lines: str) -> None:
    """Write lines in small grey letters at the foot of a figure; empty lines are left out."""
    text = "\n".join(line for line in lines if line)
    figure.supxlabel(literal(text), fontsize=8.5, color="0.35", wrap=True)

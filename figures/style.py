"""The looks that all figures share; `save` writes one as a PNG file.

Figures are matplotlib's `Figure` and not pyplot's, which keeps each figure and may open a window.
"""

import io
import textwrap
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from files import write_whole

import matplotlib
from matplotlib.figure import Figure

BLUE, RED = "#4477aa", "#cc3311"
COLORS = (BLUE, RED, "#228833", "#ee7733", "#aa3377", "#33bbee", "#bbaa00", "#777777")
LOOKS: dict[Any, Any] = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "figure.constrained_layout.h_pad": 0.1,  # inches
    "figure.constrained_layout.w_pad": 0.1,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "text.parse_math": False,  # "$", as in the name of a file, starts no formula
}


@contextmanager
def own_settings() -> Generator[None]:
    """Draw with the settings above, whatever a person's matplotlibrc says; a decorator.

    Somebody's `text.usetex: True` would need LaTeX, and the picture would not be the same.
    """
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A file's name may have letters that the font lacks; they are drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        warnings.simplefilter("ignore", DeprecationWarning)  # of libraries that matplotlib uses
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(LOOKS)
        yield


@own_settings()
def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as a PNG file, whole or not at all. Errors: OSError."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, facecolor="white")
    write_whole(path, buffer.getvalue())


def titled(width: float, height: float, heading: str, *small_print: str) -> Figure:
    """An empty figure of this size in inches, with a heading, and lines in small grey letters."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(textwrap.fill(heading, int(7.5 * width)), fontsize=13, fontweight="bold")
    lines = [textwrap.fill(line, int(15 * width)) for line in small_print if line]
    figure.supxlabel("\n".join(lines), fontsize=8.5, color="0.35")
    return figure

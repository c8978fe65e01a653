"""Numbers in, a matplotlib Figure out; knows nothing of runs."""

import os
import sys
import warnings
from contextlib import suppress

# MPLBACKEND may name a backend that does not exist, and no figure here needs one. One that exists
# stays chosen: a notebook shows its own figures with it.
if "matplotlib" not in sys.modules:
    backend = os.environ.pop("MPLBACKEND", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # matplotlib uses deprecated parts of other libraries
        import matplotlib.figure
    if backend is not None:
        os.environ["MPLBACKEND"] = backend
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = backend

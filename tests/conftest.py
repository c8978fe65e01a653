"""One thread each: the networks and sets of the tests are too small to share between threads."""

import gc
import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, and for what tests start

# A shell that starts pytest in the background lets it ignore SIGINT; many tests send one.
signal.signal(signal.SIGINT, signal.default_int_handler)
gc.disable()

# Only a loss of power would show whether a write waits for the disk, and each one waits 10 ms.
os.fsync = os.fstat


def pytest_collection_finish():
    """What was imported stays: to look for garbage in it again and again takes time."""
    gc.freeze()
    gc.enable()

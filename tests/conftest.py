"""One thread each: the networks and sets of the tests are too small to share between threads."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, and for what tests start

"""One thread per process: what worker processes are told before they load a numerical library."""

from __future__ import annotations

import os

_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def one_thread() -> None:
    """Tell numerical libraries that are loaded from now on to use one thread.

    Several processes with a pool of threads each would wait for one another.
    """
    os.environ.update(dict.fromkeys(_VARIABLES, "1"))

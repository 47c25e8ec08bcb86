"""What numerical libraries are told of threads before they are loaded."""

from __future__ import annotations

import os

_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def wait_asleep() -> None:
    """Let threads that wait for one another sleep, in libraries that are loaded from now on.

    By default OpenMP's spin. Beside one other busy process on two cores the one that spins keeps
    the one that it waits for from its core, and the same work took eleven times as long. What the
    environment says of it already counts.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def one_thread() -> None:
    """Tell numerical libraries that are loaded from now on to use one thread.

    Several processes with a pool of threads each would wait for one another.
    """
    os.environ.update(dict.fromkeys(_VARIABLES, "1"))

"""What numerical libraries are told of threads before they are loaded."""

from __future__ import annotations

import os

_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def wait_briefly() -> None:
    """Let threads that wait for one another spin for some microseconds and then sleep, in libraries
    that are loaded from now on.

    By default OpenMP's spin on. Beside one busy process on two cores the thread that spins keeps
    the one that it waits for from its core: discovery took 54 s for what one thread does in 5.
    Spinning so briefly it takes 8.5, and on an idle machine no longer than before. What the
    environment says of waiting counts.
    """
    if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
        os.environ["GOMP_SPINCOUNT"] = "10000"


def one_thread() -> None:
    """Tell numerical libraries that are loaded from now on to use one thread.

    Several processes with a pool of threads each would wait for one another.
    """
    os.environ.update(dict.fromkeys(_VARIABLES, "1"))

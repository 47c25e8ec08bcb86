"""What numerical libraries are told of threads, and that they are told before they are loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_TOLD = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
_ASKED = f"import sage, sys, os; print(*map(os.environ.get, {_TOLD}), 'torch' in sys.modules)"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({}, ("None", "10000")),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ("ACTIVE", "None")),
        ({"GOMP_SPINCOUNT": "7"}, ("None", "7")),
    ],
)
def test_threads_wait_briefly_unless_the_environment_says_otherwise(
    said: dict[str, str], told: tuple[str, str]
) -> None:
    environment = {name: text for name, text in os.environ.items() if name not in _TOLD} | said
    asked = subprocess.run(
        [sys.executable, "-c", _ASKED], env=environment, capture_output=True, text=True, check=True
    )
    assert asked.stdout.split() == [*told, "False"]

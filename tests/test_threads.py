"""What numerical libraries are told of threads, and that they are told before they are loaded."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_ASKED = "import sage, sys, os; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"


@pytest.mark.parametrize("said", [None, "ACTIVE"])
def test_threads_sleep_while_they_wait_unless_the_environment_says_otherwise(
    said: str | None,
) -> None:
    environment = {name: text for name, text in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {} if said is None else {"OMP_WAIT_POLICY": said}
    told = subprocess.run(
        [sys.executable, "-c", _ASKED], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == [said or "PASSIVE", "False"]

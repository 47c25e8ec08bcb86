"""Shared by the tests of tasks: real tokenizers, and what a script prints under two hash seeds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from sage.task.tokens import FastTokenizer


@pytest.fixture(scope="session")
def real_tokenizer(shared_data: Path) -> Callable[[str], FastTokenizer]:
    """Name of a model -> its tokenizer."""
    from transformers import AutoTokenizer

    return cache(lambda name: AutoTokenizer.from_pretrained(shared_data / "tokenizers" / name))


@pytest.fixture
def printed_under_two_hash_seeds() -> Callable[[str], tuple[str, str]]:
    """Code -> what it prints in a process with one hash seed, and in one with another."""

    def printed(code: str) -> tuple[str, str]:
        first, second = (
            subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, "PYTHONHASHSEED": seed},
                cwd=Path(__file__).parents[2],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for seed in ("1", "2")
        )
        return first, second

    return printed

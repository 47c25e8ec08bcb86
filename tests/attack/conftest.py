"""Shipped models, loaded once, and their folders to make broken copies of."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import sage
from sage.models.base import Model

ZOO = Path(sage.__file__).parent / "zoo"


@pytest.fixture(scope="session")
def tiny_gpt2() -> Model:
    return sage.load_model("tiny-gpt2", device="cpu")


@pytest.fixture
def gpt2_folder(tmp_path: Path) -> Path:
    """A copy of tiny-gpt2's folder, without its SAEs."""
    folder = tmp_path / "gpt2"
    shutil.copytree(ZOO / "tiny-gpt2", folder, ignore=shutil.ignore_patterns("saes"))
    return folder

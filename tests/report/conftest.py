"""One report on results with everything in them that can go wrong, shared by the tests that read
it."""

from __future__ import annotations

from pathlib import Path

import pytest

from report.made import everything, write
from sage.report import write_report


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("results"), *everything())


@pytest.fixture(scope="session")
def report(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the written report."""
    out = tmp_path_factory.mktemp("report")
    assert write_report([results], out).page == out / "index.html"
    return out

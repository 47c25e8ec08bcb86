"""One report on results with everything in them that can go wrong, shared by its tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from report.by_hand import every_case, write_results
from sage.report import write_report


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_results(tmp_path_factory.mktemp("results"), *every_case())


@pytest.fixture(scope="session")
def report(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the written report."""
    out = tmp_path_factory.mktemp("report")
    assert write_report([results], out).page == out / "index.html"
    return out

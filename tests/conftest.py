"""Shared by all tests: no network, a cache of their own, one thread for each worker, and the data
that stands beside the checkout."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import hypothesis
import jaxtyping
import pytest

os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    WANDB_MODE="disabled",
    MPLBACKEND="Agg",
)
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
else:
    os.environ["SAGE_CACHE"] = tempfile.mkdtemp(prefix="sage-cache-")
    atexit.register(shutil.rmtree, os.environ["SAGE_CACHE"], ignore_errors=True)

# Every module that names shapes is checked for them at each call. Elsewhere pyright says as much,
# and a check of each of a million small calls takes half of a test's time.
_ROOT = Path(__file__).parents[1]
_SHAPED = [
    ".".join(file.relative_to(_ROOT).with_suffix("").parts)
    for file in sorted((_ROOT / "sage").rglob("*.py"))
    if "from jaxtyping import" in file.read_text(encoding="utf-8")
]
jaxtyping.install_import_hook(_SHAPED, "beartype.beartype")

hypothesis.settings.register_profile("sage", derandomize=True, deadline=None)
hypothesis.settings.load_profile("sage")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real tokenizers and published prompt pairs, where they lie beside the checkout."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(
            "no ../shared/data beside the checkout (real tokenizers, published prompt pairs)"
        )
    return folder

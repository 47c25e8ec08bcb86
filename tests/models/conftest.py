"""Random-weight models of every family, loaded by either backend and as plain transformers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from sage.models.base import Model
from sage.models.load import load_model
from tests.models.twin import Twin, load_twin
from tests.tiny import FAMILIES, save_random_model

BACKENDS = ("transformer-lens", "nnsight")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Family -> the folder of its model."""
    return cache(
        lambda family: save_random_model(tmp_path_factory.mktemp("models") / family, family)
    )


@pytest.fixture(scope="session")
def _loaded(folder: Callable[[str], Path]) -> Callable[[str, str], Model]:
    return cache(
        lambda family, backend: load_model(
            str(folder(family)), backend=backend, device="cpu", partial=False
        )
    )


@pytest.fixture(scope="session", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session", params=BACKENDS)
def model(
    request: pytest.FixtureRequest, family: str, _loaded: Callable[[str, str], Model]
) -> Model:
    """The family's model in one of the backends."""
    return _loaded(family, request.param)


@pytest.fixture(scope="session")
def both(family: str, _loaded: Callable[[str, str], Model]) -> tuple[Model, Model]:
    """The family's model in both backends."""
    hooked, traced = (_loaded(family, backend) for backend in BACKENDS)
    return hooked, traced


@pytest.fixture(scope="session")
def twin(family: str, folder: Callable[[str], Path]) -> Twin:
    """The family's model as transformers alone runs it."""
    return load_twin(family, folder(family))

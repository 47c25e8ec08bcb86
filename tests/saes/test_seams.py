"""An architecture is one file, and so is a format: neither is named anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch

from saes.examples import NAMES, encoder, inputs, sae
from sage.cli.making import train_sae
from sage.nodes import Node
from sage.saes import architectures, formats
from sage.saes.architectures import architecture_names
from sage.saes.architectures.architecture import trainer_settings
from sage.saes.formats import dictionary_learning, load_file, saelens
from sage.saes.formats.format import Format
from sage.saes.sae import Stated
from sage.saes.training_settings import TrainingSettings

# What a newcomer writes: latents without a bias, stored by SAELens as a ReLU and trained as one.
BIASLESS = """
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sage.saes.architectures.architecture import Architecture, Trainer, l1_penalty
from sage.saes.stored import DictionaryClass, SAELensForm, SAELensRecord


@dataclass(frozen=True, eq=False)
class Biasless:
    W_enc: Tensor
    name: ClassVar[str] = "biasless"

    def encode(self, x_in):
        return torch.relu(x_in @ self.W_enc)

    def scaled(self, scale):
        return Biasless(self.W_enc * scale)

    def tensors(self):
        return {"W_enc": self.W_enc}

    def settings(self):
        return {}


def read(stored):
    return Biasless(stored.take("W_enc"))


def write(encoder):
    return SAELensRecord("biasless", encoder.tensors())


architecture = Architecture(
    trainer=Trainer("standard", l1_penalty),
    saelens=SAELensForm(names=("biasless",), read=read, write=write),
    dictionary_learning=(
        DictionaryClass("BiaslessEncoder", read, Biasless.tensors, array_names={"b_dec": "bias"}),
    ),
)
"""
# What a newcomer writes: two axes, whatever the file says.
AXES = """
import torch

from sage.nodes import Node
from sage.saes.architectures.relu import ReLU
from sage.saes.formats.format import Description
from sage.saes.sae import SAE, Stated

TITLE, FILES, LOADER = "axes", ("axes.txt",), "axes"


def recognises(path):
    return (path / "axes.txt").is_file()


def describe(path):
    return Description(Node("resid_pre", 1), 2, Stated())


def load(path):
    eye, zeros = torch.eye(2), torch.zeros(2)
    return SAE("axes", ReLU(eye, zeros), eye, zeros, Node("resid_pre", 1))
"""


@pytest.fixture
def biasless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """An architecture whose one file has been put beside the others."""
    yield from put_beside(architectures, "biasless", BIASLESS, tmp_path / "more", monkeypatch)


@pytest.fixture
def axes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A format whose one file has been put beside the others."""
    yield from put_beside(formats, "axes", AXES, tmp_path / "more", monkeypatch)


def put_beside(
    package: ModuleType, name: str, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModuleType]:
    folder.mkdir()
    (folder / f"{name}.py").write_text(text)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    yield import_module(f"{package.__name__}.{name}")
    del sys.modules[f"{package.__name__}.{name}"]
    delattr(package, name)


def test_every_architecture_is_named_by_its_file() -> None:
    assert {encoder(name).name for name in NAMES} == set(architecture_names())


def test_the_command_line_offers_every_architecture() -> None:
    (option,) = (parameter for parameter in train_sae.params if parameter.name == "architecture")
    assert tuple(option.type.choices) == architecture_names()


def test_an_architecture_is_added_by_one_file(biasless: ModuleType, tmp_path: Path) -> None:
    assert "biasless" in architecture_names()
    settings = TrainingSettings("biasless", width=32, steps=1, batch=4, penalty=2.0, warm_up=3)
    assert trainer_settings(settings) == {"l1_coefficient": 2.0, "l1_warm_up_steps": 3}
    original = sae(
        "relu",
        encoder=biasless.Biasless(encoder("relu").W_enc),
        subtract_b_dec=True,
        reads_bos=False,
        stated=Stated(model="gpt2"),
    )
    for form in (saelens, dictionary_learning):
        form.save(original, tmp_path / form.TITLE)
        loaded = load_file(tmp_path / form.TITLE)
        assert type(loaded.encoder) is biasless.Biasless
        assert torch.equal(loaded.reconstruct(inputs()), original.reconstruct(inputs()))


def test_a_format_is_added_by_one_file(axes: ModuleType, tmp_path: Path) -> None:
    assert axes in formats.formats()
    with pytest.raises(formats.BadFile, match=r"or axes\.txt \(axes\)|axes\.txt \(axes\),"):
        load_file(tmp_path)
    (tmp_path / "axes.txt").touch()
    assert load_file(tmp_path).hook == Node("resid_pre", 1)


def test_every_format_offers_what_a_format_offers() -> None:
    for form in formats.formats():
        assert isinstance(form, Format), form
    assert formats.formats()[0] is saelens

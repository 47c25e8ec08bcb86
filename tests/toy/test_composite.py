"""Composite features: latents are told as they were built, and T3 tells the two kinds apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from sage.cli import cli
from sage.errors import UnknownName
from sage.report.composite import cosine_panel, score_table
from sage.toy.composite import CompositeRecipe, composite_count, toy_composite
from sage.toy.composite_latents import LatentTable, describe_latents
from sage.toy.composite_result import ComposedSAE, CompositeToy
from sage.toy.planted import World

# Two attributes of two values: atoms A1=0, A1=1, A2=0, A2=1 in four dimensions.
WORLD = World("two by two", sizes=(2, 2), d=4)


def directions(*rows: tuple[float, ...]) -> Tensor:
    """Latents by their parts along the four atoms."""
    return torch.tensor(rows, dtype=torch.float32) @ WORLD.directions


def described(*rows: tuple[float, ...], bias: tuple[float, ...] = (1, 1, 0, 0)) -> LatentTable:
    active = torch.ones(10, len(rows), dtype=torch.bool)
    return describe_latents(WORLD, directions(*rows), directions(bias)[0], active)


@pytest.mark.parametrize(
    ("row", "kind", "nearest", "cosine"),
    [
        ((3.0, 0.0, 0.0, 0.0), "atomic", "A1=0", 1.0),
        ((0.0, 1.0, 1.0, 0.0), "composite", "A1=1 + A2=0", 1.0),
        # cos 22.5 and sin 22.5 are the same way from an atom and from a composite.
        ((0.0, 0.0, 0.95, 0.31), "atomic", "A2=0", 0.95 / math.hypot(0.95, 0.31)),
        ((0.9, 0.0, 0.0, 0.5), "composite", "A1=0 + A2=1", 1.4 / math.sqrt(2 * 1.06)),
        # Two values of one attribute never occur together: their sum is no composite.
        ((1.0, 1.0, 0.0, 0.0), "mixed", "A1=0", 1 / math.sqrt(2)),
        ((-1.0, 0.0, 0.0, 0.0), "mixed", "A1=1", 0.0),
    ],
)
def test_a_latent_is_told_by_the_nearest_atom_or_composite(
    row: tuple[float, ...], kind: str, nearest: str, cosine: float
) -> None:
    (latent,) = described(row).latents
    assert latent.kind == kind
    assert latent.cosine == pytest.approx(cosine, abs=1e-5)
    if kind != "mixed":
        assert latent.nearest == nearest


def test_a_composite_that_left_its_mean_to_the_bias_is_still_one_from_six_values_on() -> None:
    """e_1 + e_2 less the mean of all atoms of its attributes: cosine sqrt(1 - 1/6) = .913."""
    world = World("six", sizes=(6, 6), d=12)
    parts = torch.full((1, 12), -1 / 6)
    parts[0, 2] = parts[0, 9] = 5 / 6
    table = describe_latents(
        world, parts @ world.directions, torch.ones(12), torch.ones(3, 1, dtype=torch.bool)
    )
    assert table.latents[0][1:4] == ("composite", "A1=2 + A2=3", pytest.approx((5 / 6) ** 0.5))


def test_rows_have_mean_and_standard_deviation_and_the_bias_comes_last() -> None:
    """(1, 0, 0, 0): mean 1/4, variance 1/4 - 1/16 = 3/16. Bias (1, 1, 0, 0)/sqrt 2: mean
    sqrt(2)/4, standard deviation as much."""
    latent, bias = described((1.0, 0.0, 0.0, 0.0)).rows()
    assert latent["mean"] == pytest.approx(0.25, abs=1e-6)
    assert latent["sd"] == pytest.approx(math.sqrt(3) / 4, abs=1e-6)
    assert latent["A1=0"] == pytest.approx(1, abs=1e-6)
    assert (bias["kind"], bias["number"]) == ("bias only", None)
    assert [bias[name] for name in ("A1=0", "A1=1", "A2=0", "A2=1")] == pytest.approx(
        [0.5**0.5, 0.5**0.5, 0, 0], abs=1e-6
    )
    assert bias["mean"] == bias["sd"] == pytest.approx(2**0.5 / 4, abs=1e-6)


def test_shares_are_of_latents_that_are_ever_active_and_atoms_stand_first() -> None:
    rows = directions((0, 1, 0, 1), (0, 1, 0, 0), (1, 0, 0, 0), (1, 0, 0, 0))
    active = torch.tensor([[True, True, True, False]] * 4)
    table = describe_latents(WORLD, rows, torch.ones(4), active)
    assert [latent.number for latent in table.latents] == [2, 1, 0, 3]
    assert [latent.kind for latent in table.latents] == ["atomic", "atomic", "composite", "dead"]
    assert table.share("atomic") == pytest.approx(2 / 3)
    assert table.count("dead") == 1


def test_an_sae_has_room_for_every_atom_or_for_every_composite() -> None:
    world = World("pairs", sizes=(3, 4, 2, 5), d=14)
    assert composite_count(world) == 3 * 4 + 2 * 5
    atoms = CompositeRecipe("topk", "atoms").settings(world, 0)
    composites = CompositeRecipe("topk", "composites").settings(world, 0)
    assert (atoms.width, atoms.k) == (14, 4)
    assert (composites.width, composites.k) == (22, 2)


@pytest.fixture(scope="module")
def toy() -> CompositeToy:
    return toy_composite("small", architectures=["relu"], steps=700, starts=1)


def test_interpretable_control_falls_from_atoms_to_composites_and_geometry_does_not(
    toy: CompositeToy,
) -> None:
    """Wherever composites fill an SAE, atoms are still among its latents: some latent points along
    each feature, which is all that T4 asks."""
    atoms, composites = toy.saes
    assert atoms.latents.share("atomic") > 0.8
    assert composites.latents.share("composite") > atoms.latents.share("composite") + 0.2
    fall = toy.falls()["relu"]
    assert fall["T3"] > 0.5
    assert fall["T4"] < 0.3
    assert toy.sentences()[0].startswith("relu: T3 falls, ")


def test_every_score_is_told_of_every_sae(toy: CompositeToy) -> None:
    scores = ("T3", "T2", "T1", "T4", "move", "coverage", "decoding", "copying")
    for row in toy.table():
        assert all(0 <= _number(row[name]) <= 1 for name in scores), row
    assert len(score_table(toy).rows) == 2


def test_the_heat_map_has_latents_bias_mean_and_deviation(toy: CompositeToy) -> None:
    sae: ComposedSAE = toy.saes[0]
    panel = cosine_panel(sae)
    assert panel.values.shape == (12 + 2, 12 + 3)
    assert (panel.rows[-1], panel.columns[-2:]) == ("bias only", ["mean", "sd"])
    np.testing.assert_allclose(panel.values[:12, :12], sae.latents.cosines)
    np.testing.assert_allclose(panel.values[-1, :12], sae.latents.bias)
    np.testing.assert_allclose(panel.values[0, 13], sae.latents.cosines[0].mean(), rtol=1e-5)


def test_an_unknown_world_is_refused() -> None:
    with pytest.raises(UnknownName, match="smal"):
        toy_composite("smal")


def test_the_command_refuses_what_cannot_be_trained() -> None:
    refused = CliRunner().invoke(cli, ["toy", "composite", "--architecture", "tpok"])
    assert refused.exit_code == 2


def _number(value: object) -> float:
    assert isinstance(value, float)
    return value

"""The panel of the wired model: what is done to its planted features, and how it is judged."""

from __future__ import annotations

from math import cos, radians

import pytest
import torch
from torch.nn.functional import cosine_similarity

from sage.audit.metrics import AuditedMetric
from sage.audit.plan import LENSES, QUICK
from sage.audit.records import Measured
from sage.audit.truth import Panel, judge_truth
from sage.audit.units import units
from sage.audit.wired import WIRED, Streams, residual_streams, suite_quality
from sage.audit.wired_panel import BUILT, PREFIX, PlantedHook, planted_hooks
from sage.models.load import load_model
from sage.saes.sae import SAE
from sage.task.catalog import load_task
from sage.toy.panel import CHAINS

ENTRIES = {entry.name: entry for entry in BUILT}


@pytest.fixture(scope="module")
def streams() -> Streams:
    return residual_streams(load_model(WIRED, device="cpu"), load_task(WIRED), seed=1)


@pytest.fixture(scope="module")
def hooks(streams: Streams) -> list[PlantedHook]:
    """The embedding and the last point, where all is written."""
    every = tuple(streams)
    return planted_hooks((every[0], every[-1]))


def built(name: str, at: PlantedHook) -> SAE:
    return ENTRIES[name].make(at)


def test_the_truth_is_perfect_and_what_is_turned_is_worse_by_the_cosine(
    hooks: list[PlantedHook], streams: Streams
) -> None:
    perfect = suite_quality(ENTRIES["truth"].on(hooks), hooks, streams)
    assert perfect[:3] == pytest.approx((1, 1, 1), abs=1e-5)
    assert perfect.fvu < 0.01
    turned = built("rotated 30", hooks[0]).W_dec
    assert cosine_similarity(turned, hooks[0].sae.W_dec) == pytest.approx(cos(radians(30)))
    assert turned.norm(dim=-1) == pytest.approx(hooks[0].sae.W_dec.norm(dim=-1))


@pytest.mark.parametrize(("name", "copies"), [("split x4", 4), ("duplicates x4", 4)])
def test_parts_and_copies_of_a_feature_add_up_to_it(
    name: str, copies: int, hooks: list[PlantedHook], streams: Streams
) -> None:
    for at in hooks:
        tokens = streams[at.sae.hook][:200]
        codes = built(name, at).encode(tokens).unflatten(-1, (-1, copies))
        assert torch.allclose(codes.sum(-1), at.sae.encode(tokens), atol=1e-5)
        if name.startswith("split"):
            assert ((codes > 0).sum(-1) <= 1).all()


@pytest.mark.parametrize("of", [("previous", "colour"), ("asked", "animal")])
def test_a_feature_is_dealt_by_what_else_its_token_holds(
    of: tuple[str, str], hooks: list[PlantedHook], streams: Streams
) -> None:
    """Tokens that share a value differ in much else: each part of its feature gets some of them. A
    change within the feature's own subspace deals nothing anew."""
    at = hooks[1]
    codes = built("split x2", at).encode(streams[at.sae.hook]).unflatten(-1, (-1, 2))
    fired = (codes[:, at.latents(of)] > 0).float().sum(0)
    assert fired.sum(-1).min() > 20
    assert (fired / fired.sum(-1, keepdim=True)).min() > 0.15
    assert (at.columns[of].T @ at.context[:, at.latents(of)]).abs().max() < 1e-2


def test_composites_are_of_features_that_are_present_together(
    hooks: list[PlantedHook], streams: Streams
) -> None:
    """Every token has a position, so what a token is merges with where it stands: where it did fire
    as one feature it fires as one composite."""
    at = hooks[0]
    tokens = streams[at.sae.hook]
    merged = built("merged pairs", at).encode(tokens)
    animals = at.latents(("token", "animal"))
    fired = (at.sae.encode(tokens)[:, animals] > 0).any(-1)
    assert ((merged[fired] > 0).sum(-1) == 1).all()
    assert merged.shape[1] > at.sae.width


def test_a_dropped_value_is_dropped_everywhere(hooks: list[PlantedHook]) -> None:
    kept: list[set[str]] = []
    for at in hooks:
        sae = built("dropped 0.5", at)
        rows = [at.sae.W_dec.tolist().index(row) for row in sae.W_dec.tolist()]
        kept.append({at.values[row] for row in rows if at.of[row] == ("token", "animal")})
        assert len(rows) < at.sae.width
    assert kept[0] == kept[1]
    assert 0 < len(kept[0]) < 10


def test_every_chain_has_a_beginning_and_an_end_here_too() -> None:
    for chain in CHAINS.values():
        assert len([name for name in chain if name in ENTRIES]) >= 2
    assert {suite.name for suite in BUILT if suite.control} == {"random", "permuted", "untrained"}
    assert PREFIX + "random" not in ENTRIES
    wired = [unit for unit in units(QUICK, LENSES) if unit.where == WIRED]
    assert [(unit.lens, unit.part) for unit in wired] == [("truth", "built")]


def panel(**changed: float) -> Panel:
    """Scores that fall along every chain, without anything that was trained."""
    falling = {"truth": 1.0, "rotated 15": 0.9, "rotated 60": 0.2, "random": 0.0} | changed
    entries = [
        Measured(
            "truth", WIRED, name, "control" if name == "random" else "built", {"x": score},
            {"atoms": score, "l0": 3.0},
        )
        for name, score in falling.items()
    ]  # fmt: skip
    return Panel(WIRED, 3.0, AuditedMetric("x", 1, "x"), entries, 0.0)


def test_a_world_without_trained_saes_is_judged_by_its_chains_alone() -> None:
    cell = judge_truth(panel())
    assert (cell.passed, cell.failed) == (True, ())
    assert "peak L0" not in cell.figures
    assert "of the trained" not in cell.figures
    assert judge_truth(panel(**{"rotated 60": 0.95})).failed[:1] == (
        "puts rotated 60 above rotated 15",
    )
    assert judge_truth(panel(random=0.95)).failed == ("puts random above rotated 15",)


def test_a_metric_that_was_not_measured_in_a_world_is_not_judged_there() -> None:
    unmeasured = Panel(WIRED, 3.0, AuditedMetric("y", 1, "y"), panel().entries, 0.0)
    assert judge_truth(unmeasured).passed is None

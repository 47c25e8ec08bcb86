"""Codes told from labels: the regression of a textbook, and nothing of p' but its labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from linear import MLP, D, activations, claimed
from sage.dictionaries.activations import Activations, Labels, moments
from sage.dictionaries.code_model import CodeModel, UnfittedCodes, fit_codes
from sage.dictionaries.dictionary import LabelMoves, SiteMoves, coded_alike
from sage.dictionaries.edits import control
from sage.dictionaries.projected import project
from sage.dictionaries.supervised import fit_features
from sage.nodes import Node, parse_node
from sage.task.task import TEMPLATE, Label
from tests.dictionaries.worlds import (
    MLP_SITE,
    Q,
    V,
    columns_of,
    one_after_another,
    products,
    uneven,
)
from tests.toy import activations as toy
from tests.toy import suite

FIT, LATENTS = 90, 7
ATTRIBUTES = ("a", "b", "c")


class World(NamedTuple):
    """90 prompts to fit on, 10 to edit, the labels of what they are edited to, and codes of all."""

    fit: Activations
    base: Activations
    after: Labels
    codes: Tensor
    directions: Tensor

    def dictionary(self, *, signed: bool = False):
        whole = one_after_another(self.fit, self.base)
        codes = self.codes if signed else self.codes.clamp(min=0)
        return claimed(whole, {MLP: codes}, {MLP: self.directions}, signed=signed)


def world() -> World:
    """Codes that the attributes and the template decide in part; latent 5 is on in prompts to edit
    alone, latent 6 never."""
    labels, given = uneven(FIT + 10)
    generator = np.random.default_rng(7)
    design = columns_of(labels, (*ATTRIBUTES, TEMPLATE))
    effects = generator.normal(size=(design.shape[1], LATENTS)) * np.linspace(1.5, 0, LATENTS)
    codes = design @ effects + 0.5 * generator.normal(size=(len(labels), LATENTS))
    codes[:FIT, 5] = 0
    codes[:, 6] = 0
    base = given.select(range(FIT, FIT + 10)).on([MLP])
    after = [labels[row] for row in generator.integers(FIT, size=10)]
    directions = torch.randn(LATENTS, D, generator=torch.Generator().manual_seed(2))
    fit = given.select(range(FIT)).on([MLP])
    return World(fit, base, after, torch.from_numpy(codes).float(), directions)


class Textbook(NamedTuple):
    """What a change of labels does to every code, [pair, latent], and its standard error."""

    delta: np.ndarray
    error: np.ndarray


def textbook(world: World, codes: np.ndarray) -> Textbook:
    """Ordinary least squares with an intercept on every one-hot column, nuisances too; their own
    columns do not change."""
    labels = one_after_another(world.fit, world.base).prompt_labels
    whole = columns_of([*labels, *world.after], (*ATTRIBUTES, TEMPLATE))
    attributes = columns_of([*labels, *world.after], ATTRIBUTES).shape[1]
    X = np.column_stack([np.ones(FIT), whole[:FIT]])
    coefficients, _, rank, _ = np.linalg.lstsq(X, codes[:FIT], rcond=None)
    rest = codes[:FIT] - X @ coefficients
    sigma = np.sqrt(np.square(rest).sum(0) / (FIT - rank))
    step = np.zeros((10, X.shape[1]))
    changes = whole[FIT + 10 :] - whole[FIT : FIT + 10]
    step[:, 1 : 1 + attributes] = changes[:, :attributes]
    spread = np.einsum("pi,ij,pj->p", step, np.linalg.pinv(X.T @ X), step)
    return Textbook(step @ coefficients, np.sqrt(spread)[:, None] * sigma)


def fitted(world: World, *, signed: bool = False) -> CodeModel:
    features = fit_features(world.fit, attributes=ATTRIBUTES, nuisance=(TEMPLATE,), coupled=False)
    return fit_codes(world.dictionary(signed=signed), world.fit, features)


def steps(part: SiteMoves, node: Node = MLP, latents: int = LATENTS) -> np.ndarray:
    """Every latent's step, 0 for those that are no candidates."""
    whole = np.zeros((len(part.steps[node]), latents))
    whole[:, part.latents.numpy()] = part.steps[node].numpy()
    return whole


@pytest.mark.parametrize("signed", [False, True])
def test_the_regression_is_least_squares_with_an_intercept_on_the_whole_design(
    signed: bool,
) -> None:
    """Differences of coefficients and their errors are the textbook's. Candidates are changes of
    more than two errors, of latents active on fit; codes end at 0 but where they are signed."""
    given = world()
    codes = given.codes.double().numpy() if signed else given.codes.clamp(min=0).double().numpy()
    expected = textbook(given, codes)
    model = fitted(given, signed=signed)
    (part,) = model.moves(given.base, given.after)
    assert model.regressions[MLP].latents.tolist() == [0, 1, 2, 3, 4]
    beyond = np.abs(expected.delta) > 2 * expected.error
    assert 0.2 < beyond[:, :5].mean() < 0.8
    before = codes[FIT:]
    after = before + expected.delta if signed else np.maximum(0, before + expected.delta)
    wanted = np.where(beyond, after - before, 0)
    np.testing.assert_allclose(steps(part)[:, :5], wanted[:, :5], atol=1e-4)
    assert not steps(part)[:, 5:].any()
    reaches_0 = (before + expected.delta < 0) & beyond & (before > 0)
    assert signed or reaches_0.any()


def test_standard_errors_are_those_of_the_textbook() -> None:
    given = world()
    regression = fitted(given).regressions[MLP].additive
    features = fitted(given).fits[MLP].additive.design
    step = features.codes(given.after) - features.codes(given.base.prompt_labels)
    leverage = torch.einsum("pi,ij,pj->p", step.double(), regression.spread, step.double())
    error = leverage.clamp(min=0).sqrt()[:, None] * regression.noise
    expected = textbook(given, given.codes.clamp(min=0).double().numpy())
    np.testing.assert_allclose(error, expected.error[:, :5], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(step @ regression.effects, expected.delta[:, :5], atol=1e-4)


def test_where_labels_decide_a_code_a_small_change_counts_and_rounding_does_not() -> None:
    """The first code is 1 + a/1024, forty more are j b / 3, and 0 at times; b does not change."""
    labels = [{"a": n % 3, "b": n % 5} for n in range(30)]
    by_a = torch.tensor([[1 + int(label["a"]) / 1024] for label in labels])
    by_b = torch.tensor([[int(label["b"]) / 3] for label in labels]) * torch.arange(1.0, 41)
    codes = torch.cat([by_a, by_b], 1)
    given = activations(labels, mlp=torch.randn(30, D, generator=seeded(0)))
    features = fit_features(given, attributes=("a", "b"))
    model = fit_codes(claimed(given, {MLP: codes}, {MLP: torch.ones(41, D)}), given, features)
    after = [{**label, "a": (int(label["a"]) + 1) % 3} for label in labels]
    (part,) = model.moves(given, after)
    assert part.latents.tolist() == [0]
    expected = torch.tensor([-2.0 if label["a"] == 2 else 1.0 for label in labels]) / 1024
    torch.testing.assert_close(part.steps[MLP][:, 0], expected, atol=1e-6, rtol=0)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_latent_is_told_at_each_node_by_that_nodes_own_regression() -> None:
    """At q latents 0 and 2 are active, at v 1 and 2, whose codes rise by 1, 2, 3 and 4 with a. All
    three are shown at both nodes, and where a latent is not active it does not move."""
    labels = [{"a": n % 2} for n in range(20)]
    a = torch.tensor([float(label["a"]) for label in labels])
    zeros = torch.zeros(20)
    codes = {
        Q: torch.stack([1 + a, zeros, 1 + 2 * a], -1),
        V: torch.stack([zeros, 1 + 3 * a, 1 + 4 * a], -1),
    }
    given = activations(labels, mlp=torch.zeros(20, D))
    generator = seeded(0)
    values = {node: a[:, None] + torch.randn(20, 4, generator=generator) for node in (Q, V)}
    given = replace(given, values=values)
    features = fit_features(given, attributes=("a",))
    directions = {node: torch.eye(4)[:3] for node in (Q, V)}
    model = fit_codes(claimed(given, codes, directions), given, features)
    (part,) = model.moves(given.select([0, 1]), [{"a": 1}, {"a": 0}])
    assert part.latents.tolist() == [0, 1, 2]
    torch.testing.assert_close(part.steps[Q], torch.tensor([[1.0, 0, 2], [-1, 0, -2]]))
    torch.testing.assert_close(part.steps[V], torch.tensor([[0.0, 3, 4], [0, -3, -4]]))


def test_a_nested_attribute_has_the_columns_of_its_whole_chain() -> None:
    """Codes of 1 for Mary, 3 for Alice, 2 and 6 for the men: from Mary to Bob + 5, whatever of it
    is gender."""
    codes_of = {"Mary": 1.0, "Alice": 3.0, "John": 2.0, "Bob": 6.0}
    genders = {"Mary": "F", "Alice": "F", "John": "M", "Bob": "M"}
    labels = [{"gender": genders[name], "name": name} for name in codes_of] * 5
    given = activations(labels, mlp=torch.randn(20, D, generator=seeded(1)))
    codes = torch.tensor([[codes_of[label["name"]]] for label in labels])
    features = fit_features(given, attributes=("gender", "name"), within={"name": "gender"})
    model = fit_codes(claimed(given, {MLP: codes}, {MLP: torch.ones(1, D)}), given, features)
    (part,) = model.moves(given.select([0, 0]), [labels[3], labels[1]])
    assert part.steps[MLP][:, 0].tolist() == pytest.approx([5, 2], abs=1e-5)


def test_where_a_pair_of_values_is_unseen_the_additive_regression_tells_both_sides() -> None:
    """mlp couples s and order, without (1, 1). The code of (s, order) = 4 5, 6 9, 2 of the pairs
    (-1, -1) (-1, 1) (0, -1) (0, 1) (1, -1).

    Coupled, from (-1, -1) to (0, 1) it is 9 - 4 = 5. By the additive fit order adds (1 + 3)/2 = 2
    in equal shares; s = 1 is seen with order = -1 alone, so that (1, 1) is told to be 2 + 2 and
    (-1, -1) to be 4.5 - 1: + .5, where the coupled code of (-1, -1) would be 4.
    """
    table = {(-1, -1): 4.0, (-1, 1): 5.0, (0, -1): 6.0, (0, 1): 9.0, (1, -1): 2.0}
    given = products(without=(1, 1)).on([MLP])
    labels = given.prompt_labels
    codes = torch.tensor([[table[label["s"], label["order"]]] for label in labels])
    features = fit_features(given, attributes=("s", "order", "other"))
    assert features.fits[MLP].coupled is not None
    model = fit_codes(claimed(given, {MLP: codes}, {MLP: torch.ones(1, D)}), given, features)
    assert labels[0] == {TEMPLATE: "f", "s": -1, "order": -1, "other": 0}
    base = given.select([0, 0])
    after: list[Mapping[str, Label]] = [
        {**labels[0], "s": 0, "order": 1},
        {**labels[0], "s": 1, "order": 1},
    ]
    (part,) = model.moves(base, after)
    assert part.steps[MLP][0, 0].item() == pytest.approx(5, abs=1e-4)
    assert part.steps[MLP][1, 0].item() == pytest.approx(0.5, abs=1e-4)


def test_a_coupled_node_is_regressed_on_pairs_of_values() -> None:
    """With noise, against a regression on one column per pair and the rest."""
    given = products().on([MLP])
    labels = given.prompt_labels
    generator = np.random.default_rng(0)
    codes = 3 + given.values[MLP][:, :1].double().numpy() + 0.3 * generator.normal(size=(360, 1))
    features = fit_features(given, attributes=("s", "order", "other"))
    stated = claimed(given, {MLP: torch.from_numpy(codes).float()}, {MLP: torch.ones(1, D)})
    model = fit_codes(stated, given, features)
    pairs = [{"pair": f"{p['s']}/{p['order']}", "other": p["other"]} for p in labels]
    X = np.column_stack([np.ones(360), columns_of(pairs, ("pair", "other"))])
    coefficients, _, rank, _ = np.linalg.lstsq(X, codes, rcond=None)
    sigma = np.sqrt(np.square(codes - X @ coefficients).sum(0) / (360 - rank))
    regression = model.regressions[MLP].coupled
    assert regression is not None
    np.testing.assert_allclose(regression.noise, sigma, rtol=1e-4)
    design = features.fits[MLP].chosen.design
    step = design.codes(labels[5:6]) - design.codes(labels[:1])
    expected = (X[5] - X[0]) @ coefficients
    np.testing.assert_allclose((step @ regression.effects)[0], expected, atol=1e-4)


def projected_world(prompts: int = 40):
    """A random suite at nodes of several sites, and the labels of other prompts."""
    given = toy("neox", prompts=prompts)
    judged = project(suite(given), given.anatomy, given.nodes, moments(given))
    features = fit_features(given, attributes=("colour", "place"))
    base = given.select(range(10))
    after = [given.prompt_labels[row] for row in (3, 1, 4, 1, 5, 9, 2, 6, 5, 3)]
    return given, judged, features, base, after


def test_sums_in_parts_are_those_of_all_prompts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given, judged, features, base, after = projected_world()
    whole = fit_codes(judged, given, features)
    together = list(whole.moves(base, after))
    monkeypatch.setattr("sage.dictionaries.projected.CODES_AT_ONCE", 150)
    parts = fit_codes(judged, given, features)
    apart = list(parts.moves(base, after))
    assert len(apart) > len(together)
    for node in given.nodes:
        at_once, in_parts = whole.regressions[node], parts.regressions[node]
        assert torch.equal(at_once.latents, in_parts.latents)
        torch.testing.assert_close(at_once.additive.effects, in_parts.additive.effects)
        torch.testing.assert_close(at_once.additive.noise, in_parts.additive.noise)
        assert torch.equal(at_once.additive.spread, in_parts.additive.spread)
    for part in together:
        for node in part.nodes:
            pieces = [piece for piece in apart if node in piece.directions]
            assert all(torch.equal(piece.latents, part.latents) for piece in pieces)
            steps = torch.cat([piece.steps[node] for piece in pieces])
            torch.testing.assert_close(steps, part.steps[node], atol=1e-6, rtol=1e-5)


def test_a_projected_suites_codes_are_regressed_as_they_are_at_each_node() -> None:
    """At z the head's mixed code. Against codes and labels in NumPy, node by node."""
    given, judged, features, base, after = projected_world()
    model = fit_codes(judged, given, features)
    labels = [*given.prompt_labels, *after]
    whole = columns_of(labels, ("colour", "place"))
    X = np.column_stack([np.ones(40), whole[:40]])
    step = np.column_stack([np.zeros(10), whole[40:] - whole[:10]])
    moving = 0
    for part in model.moves(base, after):
        for node in part.nodes:
            codes = judged.codes(given)[node].double().numpy()
            coefficients, _, rank, _ = np.linalg.lstsq(X, codes, rcond=None)
            rest = np.square(codes - X @ coefficients).sum(0) / (40 - rank)
            spread = np.einsum("pi,ij,pj->p", step, np.linalg.pinv(X.T @ X), step)
            delta, error = step @ coefficients, np.sqrt(spread[:, None] * rest)
            moved = np.maximum(0, codes[:10] + delta) - codes[:10]
            expected = np.where(np.abs(delta) > 2 * error + 1e-9, moved, 0)
            np.testing.assert_allclose(steps(part, node, 9), expected, atol=1e-4)
            assert torch.equal(part.directions[node], judged.directions(node)[part.latents])
            moving += int((expected != 0).sum())
    assert moving > 20


def test_nodes_with_the_same_codes_and_design_share_a_regression() -> None:
    """k and v of one layer at one position read the same codes; z mixes codes of its own."""
    given, judged, features, _, _ = projected_world()
    regressions = fit_codes(judged, given, features).regressions
    k, v, z = (parse_node(name) for name in ("1.0.k@A", "1.1.v@A", "1.2.z@A"))
    assert regressions[k] is regressions[v]
    assert regressions[z] is not regressions[v]


def test_a_model_that_is_not_fitted_yet_makes_the_moves_of_the_fitted_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is fitted once, when moves are first asked for."""
    given, judged, features, base, after = projected_world()
    expected = list(fit_codes(judged, given, features).moves(base, after))
    fits: list[int] = []

    def watched(*arguments: Any) -> CodeModel:
        fits.append(1)
        return fit_codes(*arguments)

    monkeypatch.setattr("sage.dictionaries.code_model.fit_codes", watched)
    unfitted = UnfittedCodes(judged, given, features)
    assert isinstance(unfitted, LabelMoves)
    assert not fits
    for _ in range(2):
        for part, fitted_part in zip(unfitted.moves(base, after), expected, strict=True):
            assert torch.equal(part.latents, fitted_part.latents)
            for node in part.nodes:
                assert torch.equal(part.steps[node], fitted_part.steps[node])
    assert fits == [1]


def test_dictionaries_with_the_same_codes_share_one_fit_and_keep_their_own_directions() -> None:
    """Moves along another's directions are those that a fit of its own would give."""
    given, judged, features, base, after = projected_world()
    turned = replace(judged, name="turned", decoder=lambda sae, latents: sae.W_dec.flip(0)[latents])
    assert coded_alike(judged, turned)
    fitted = UnfittedCodes(judged, given, features)
    shared = UnfittedCodes(turned, given, features, fitted)
    assert shared.model.regressions is fitted.model.regressions
    apart = list(fit_codes(turned, given, features).moves(base, after))
    for moves in (shared.moves(base, after), (p.along(turned) for p in fitted.moves(base, after))):
        for part, expected in zip(moves, apart, strict=True):
            assert torch.equal(part.latents, expected.latents)
            for node in part.nodes:
                torch.testing.assert_close(part.steps[node], expected.steps[node])
                assert torch.equal(part.directions[node], expected.directions[node])


def test_nothing_of_the_other_prompt_is_read_but_its_labels() -> None:
    """The target's activations, streams and attention are not numbers: the edits are the same."""
    given, judged, features, base, _ = projected_world()
    model = fit_codes(judged, given, features)
    target = given.select([3, 1, 4, 1, 5, 9, 2, 6, 5, 3])

    def spoiled(tensors: Mapping[Node, Tensor]) -> dict[Node, Tensor]:
        return {node: value * torch.nan for node, value in tensors.items()}

    broken = replace(
        target,
        values=spoiled(target.values),
        streams=spoiled(target.streams),
        patterns=spoiled(target.patterns),
    )
    budgets = {part.site: (2, None) for part in model.moves(base, target.prompt_labels)}
    for candidates in (model, features):
        whole, spoilt = (
            control(
                candidates, base, run.prompt_labels, features.aim(base, run.prompt_labels),
                variance=features.variance, budgets=budgets,
            )[0]
            for run in (target, broken)
        )  # fmt: skip
        for edit, spoilt_edit in zip(whole, spoilt, strict=True):
            assert edit.picks.any()
            assert torch.equal(edit.picks, spoilt_edit.picks)
            for node in given.nodes:
                assert torch.equal(edit.values[node], spoilt_edit.values[node])
                assert spoilt_edit.values[node].isfinite().all()


def test_edits_of_many_prompts_are_those_of_each_alone() -> None:
    given, judged, features, base, after = projected_world()
    model = fit_codes(judged, given, features)
    sites: Sequence = [part.site for part in model.moves(base, after)]
    arguments = {"variance": features.variance, "budgets": dict.fromkeys(sites, (1, 4))}
    together = control(model, base, after, features.aim(base, after), **arguments)[0]
    for row in range(10):
        prompt, labels = base.select([row]), after[row : row + 1]
        aim = features.aim(prompt, labels)
        alone = control(model, prompt, labels, aim, **arguments)[0]
        for edit, whole in zip(alone, together, strict=True):
            assert edit.picks[0] == whole.picks[row]
            for node in given.nodes:
                torch.testing.assert_close(
                    edit.values[node][0], whole.values[node][row], atol=1e-5, rtol=1e-5
                )


@pytest.mark.parametrize("cosine", [0.3, 0.6, 0.9])
def test_an_exact_dictionary_of_two_values_arrives_whatever_their_cosine(cosine: float) -> None:
    """a = 3 d_v of the value v, a dictionary of d_0 and d_1: from one value to the other with two
    moves, and none before that ends nearer where single moves overshoot."""
    directions = torch.zeros(2, D)
    directions[0, 0] = 1
    directions[1, :2] = torch.tensor([cosine, (1 - cosine**2) ** 0.5])
    labels = [{"v": n % 2} for n in range(20)]
    codes = 3 * torch.eye(2)[[n % 2 for n in range(20)]]
    given = activations(labels, mlp=codes @ directions)
    features = fit_features(given, attributes=("v",))
    model = fit_codes(claimed(given, {MLP: codes}, {MLP: directions}), given, features)
    base, after = given.select([0, 1]), [{"v": 1}, {"v": 0}]
    aim = features.aim(base, after)
    torch.testing.assert_close(aim[MLP], given.values[MLP][[1, 0]], atol=1e-5, rtol=0)
    one_move, two_moves = control(
        model, base, after, aim, variance=features.variance, budgets={MLP_SITE: (1, 2)}
    )[0]
    torch.testing.assert_close(two_moves.values[MLP], aim[MLP], atol=1e-5, rtol=0)
    assert two_moves.distance.tolist() == pytest.approx([0, 0], abs=1e-6)
    assert two_moves.picks.tolist() == [2, 2]
    assert one_move.picks.tolist() == ([1, 1] if cosine < 0.5 else [0, 0])


def test_a_dictionary_that_is_never_active_moves_nothing() -> None:
    given, _, features, _, _ = projected_world()
    at_q = parse_node("1.0.q@END")
    silent = given.on([at_q])
    nothing = claimed(silent, {at_q: torch.zeros(40, 3)}, {at_q: torch.ones(3, 5)})
    silent = replace(
        silent, prompts=tuple(replace(p, ids=(n,)) for n, p in enumerate(silent.prompts))
    )
    model = fit_codes(nothing, silent, features)
    (part,) = model.moves(silent, silent.prompt_labels)
    assert part.steps[at_q].shape == (40, 0)
    ((edit,),) = control(
        model, silent, silent.prompt_labels, {at_q: torch.ones(40, 5)},
        variance=features.variance, budgets={part.site: (4,)},
    )  # fmt: skip
    assert torch.equal(edit.values[at_q], silent.values[at_q])

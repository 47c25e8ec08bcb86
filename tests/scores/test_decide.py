"""What is decided on fit: the form of control, and where no dictionary has a score."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from linear import D, activations
from sage.dictionaries.cross_validation import FOLDS
from sage.dictionaries.supervised import fit_features
from sage.scores.control import Along, control_statistic, make_aim, make_edits, run_edits
from sage.scores.data import PairRuns
from sage.scores.decide import decide
from sage.scores.held_out import cross_validated_control
from sage.scores.levels import ANY, Decisions
from sage.scores.node_set import NodeSet
from scores.worlds import Facts, Roles, World, in_turn, make_world, split_world

READ = {"mlp": [1.0] + [0.0] * 7, "z": [0.0] * 4}


def world(
    *, effect: float = 1.0, place: float = 0.0, metric: float = 0.0, ordinal: tuple[str, ...] = ()
) -> World:
    """`a` moves the metric by `effect` from minus half to plus half of it, `place` (irrelevant) by
    `place`; `metric` is added to all. Pairs change `a` alone, irrelevant ones `place` alone."""
    labels = [{"a": n % 2, "place": n // 2 % 2} for n in range(48)]
    mlp = torch.zeros(48, D)
    mlp[:, 0] = torch.tensor(
        [metric + effect * (label["a"] - 0.5) + place * label["place"] for label in labels]
    )
    mlp[:, 1] = torch.tensor([float(label["a"]) for label in labels])
    roles = Roles(
        fit=range(32),
        decide=in_turn(0, 32),
        test=in_turn(32, 48),
        irrelevant=[(row, row + 2) for row in range(0, 32, 4)],
    )
    facts = Facts(attributes=("a",), changed=("a",), irrelevant=("place",), ordinal=ordinal)
    return make_world(activations(labels, mlp=mlp), roles, facts, read=READ)


def decisions(made: World) -> Decisions:
    return decide(made.node_set())


def test_a_contrast_that_moves_the_metric_and_can_be_told_from_labels_has_control() -> None:
    told = decisions(world())
    assert told.control is None
    assert (told.effect, told.unchanged, told.supervised) == pytest.approx((1, 0, 1), abs=1e-6)


@pytest.mark.parametrize(("size", "defined"), [(40.0, True), (60.0, False)])
def test_there_is_no_control_where_the_ground_truth_moves_a_fiftieth_of_the_metric_or_less(
    size: float, defined: bool
) -> None:
    """An effect of 1 against .02 times 40 or 60."""
    told = decisions(world(metric=size))
    assert (told.control is None) == defined
    if not defined:
        assert (
            told.control == "patching these nodes moves the metric by 1 in the mean, less than 1.2"
        )


@pytest.mark.parametrize(("place", "defined"), [(0.9, True), (1.1, False)])
def test_there_is_no_control_where_an_irrelevant_change_moves_the_metric_more(
    place: float, defined: bool
) -> None:
    told = decisions(world(place=place))
    assert (told.control is None) == defined
    if not defined:
        assert "less than 1.1" in str(told.control)


def test_there_is_no_control_where_nothing_moves() -> None:
    told = decisions(world(effect=0.0))
    assert (told.control or "").startswith("patching these nodes moves the metric by 0")
    assert told.supervised == 0


def by_prompt(values: int, *, told: float = 0.0) -> World:
    """The metric of every prompt is its own, but for what the label tells: plus or minus `told`.
    Each value has six prompts of fit and stands in pairs of fit with the next one."""
    generator = torch.Generator().manual_seed(0)
    labels = [{"a": n % values} for n in range(6 * values)] + [{"a": n % 2} for n in range(12)]
    mlp = torch.randn(len(labels), D, generator=generator)
    mlp[:, 0] += torch.tensor([told * (1 - 2 * (label["a"] % 2)) for label in labels])
    fit = 6 * values
    roles = Roles(fit=range(fit), decide=in_turn(0, fit), test=in_turn(fit, fit + 12))
    facts = Facts(attributes=("a",), changed=("a",))
    return make_world(activations(labels, mlp=mlp), roles, facts, read=READ)


def test_there_is_no_control_where_the_supervised_features_have_none_in_cross_validation() -> None:
    told = decisions(by_prompt(20))
    assert told.effect > 0.5
    assert told.supervised < 0.2
    assert str(told.control).startswith("the supervised features themselves, cross-validated, come")


def test_a_pair_is_edited_by_features_that_have_seen_neither_of_its_prompts() -> None:
    """A literal twin: the features of each fold's pairs refitted without their texts."""
    made = by_prompt(4, told=1.5)
    node_set = made.node_set()
    base, target = made.data.decide
    folds = torch.randperm(len(base), generator=torch.Generator().manual_seed(0)) % FOLDS
    weights = torch.zeros(len(base), 4, dtype=torch.double)
    for row, fold in enumerate(folds.tolist()):
        held = [other for other in range(len(base)) if folds[other] == fold]
        texts = {side.prompts[other].prompt.text for side in (base, target) for other in held}
        kept = [n for n, p in enumerate(node_set.fit.prompts) if p.prompt.text not in texts]
        features = fit_features(node_set.fit.select(kept), attributes=("a",))
        aim = make_aim(features, node_set.needs, unbounded=False)
        labels = target.prompt_labels
        (edits,) = make_edits(features, base, labels, aim, along=[Along({ANY: None})])
        watched, answers = node_set.watched("decide"), made.data.shared.answers
        control = run_edits(made.model, {"all": edits}, node_set.decide, watched, answers)["all"]
        weights[row] = torch.from_numpy(control.columns("graded", (ANY,)).values[row])
    expected = control_statistic(weights.mean(0, keepdim=True).numpy())[0]
    assert cross_validated_control(node_set, "graded") == pytest.approx(expected, abs=1e-6)
    assert 0.2 < expected < 0.9


def test_a_value_that_only_its_own_pair_has_is_left_as_it_is() -> None:
    """The last of 12 pairs goes to value 2, which no other prompt has: graded 1 for eleven pairs, 0
    for it."""
    labels = [{"a": n % 2} for n in range(23)] + [{"a": 2}] + [{"a": n % 2} for n in range(12)]
    mlp = torch.zeros(36, D)
    mlp[:, 0] = torch.tensor([1.0 - 2 * (label["a"] > 0) for label in labels])
    roles = Roles(fit=range(24), decide=in_turn(0, 24), test=in_turn(24, 36))
    facts = Facts(attributes=("a",), changed=("a",))
    made = make_world(activations(labels, mlp=mlp), roles, facts, read=READ)
    node_set = made.node_set()
    assert cross_validated_control(node_set, "graded") == pytest.approx(11 / 12, abs=1e-5)
    assert cross_validated_control(node_set, "success") == pytest.approx(11 / 12)


def some_unchanged(*, changed_pairs: int) -> World:
    """Of 12 pairs of fit so many change what is said: the others go from 0 to 1 by too little."""
    labels = [{"a": n % 2, "b": int(n // 2 < changed_pairs)} for n in range(36)]
    mlp = torch.zeros(36, D)
    mlp[:, 0] = torch.tensor([1 - label["a"] * (2.0 if label["b"] else 0.5) for label in labels])
    roles = Roles(fit=range(24), decide=in_turn(0, 24), test=in_turn(24, 36))
    facts = Facts(attributes=("a", "b"), changed=("a",))
    return make_world(activations(labels, mlp=mlp), roles, facts, read=READ)


@pytest.mark.parametrize(("changed_pairs", "form"), [(6, "success"), (5, "graded")])
def test_the_form_is_success_where_at_most_half_of_the_pairs_say_the_same_anyway(
    changed_pairs: int, form: str
) -> None:
    told = decisions(some_unchanged(changed_pairs=changed_pairs))
    assert told.unchanged == pytest.approx(1 - changed_pairs / 12)
    assert told.form == form


def with_answer_sets(made: World) -> World:
    """Every prompt that is decided on has two answers."""
    base, target = made.data.decide
    several = tuple(replace(prompt, answers=(0, 0)) for prompt in base.prompts)
    decide = PairRuns(replace(base, prompts=several), target)
    return made._replace(data=replace(made.data, decide=decide))


@pytest.mark.parametrize(
    ("ordinal", "sets", "form"),
    [((), True, "success"), (("a",), False, "success"), (("a",), True, "graded")],
)
def test_ordinal_attributes_with_answer_sets_are_graded(
    ordinal: tuple[str, ...], sets: bool, form: str
) -> None:
    made = world(effect=4.0, ordinal=ordinal)
    assert decisions(with_answer_sets(made) if sets else made).form == form


def spoilt(made: World) -> World:
    """The same, with test pairs in which nothing changes."""
    base = made.data.test.base
    return made._replace(data=replace(made.data, test=PairRuns(base, base)))


@pytest.mark.parametrize("made", [split_world(), world(), some_unchanged(changed_pairs=5)])
def test_nothing_is_decided_on_test(made: World) -> None:
    assert decisions(spoilt(made)) == decisions(made)


def test_what_was_decided_is_not_decided_again() -> None:
    made = world()
    node_set = made.node_set()
    told = decide(node_set)
    spent = made.model.counter.tokens
    again = NodeSet(made.model, made.data, node_set.settings, node_set.memo)
    assert decide(again) is told
    assert made.model.counter.tokens == spent


def geometry_world(mlp: torch.Tensor, *, count: int = 2) -> World:
    labels = [{"a": n % count} for n in range(60)]
    roles = Roles(fit=range(48), decide=in_turn(0, 48), test=in_turn(48, 60))
    facts = Facts(attributes=("a",), changed=("a",))
    return make_world(activations(labels, mlp=mlp), roles, facts, read=READ)


def test_geometry_is_undefined_where_no_node_carries_what_changes() -> None:
    noise = torch.randn(60, D, generator=torch.Generator().manual_seed(0))
    told = decisions(geometry_world(noise * torch.tensor([0.0, 0, 1, 1, 1, 1, 1, 1])))
    assert told.geometry == "no node carries an attribute that the contrast changes"


def test_geometry_is_undefined_where_shuffled_labels_point_the_same_way() -> None:
    """A node with one direction alone has no other for them to point in; noise in others gives
    it."""
    noise = 0.1 * torch.randn(60, D, generator=torch.Generator().manual_seed(0))
    values = noise.clone()
    values[:, 0] += torch.tensor([float(n % 2) for n in range(60)])
    told = decisions(geometry_world(values * torch.eye(D)[0]))
    assert told.geometry == "features fitted to shuffled labels match these ones to 1.000"
    with_hardly_another = decisions(geometry_world(values)).geometry or ""
    assert 0.8 < float(with_hardly_another.rpartition(" ")[2]) < 1


def test_geometry_is_undefined_where_one_shuffle_differs_too_much_from_the_next() -> None:
    """Two values have one direction and its opposite, which in a space of eight dimensions a
    shuffle meets by chance to anything between -1 and 1; of six values the mean hardly differs."""
    noise = torch.randn(60, D, generator=torch.Generator().manual_seed(0))
    axes = torch.eye(D)
    two = torch.stack([axes[n % 2] for n in range(60)])
    told = decisions(geometry_world(two + noise)).geometry or ""
    opening, _, spread = told.rpartition(" ")
    assert opening == "features fitted to shuffled labels come to a T4 of 0 ±"
    assert 0.2 < float(spread) < 1
    six = torch.stack([3 * axes[n % 6] for n in range(60)])
    assert decisions(geometry_world(six + noise, count=6)).geometry is None

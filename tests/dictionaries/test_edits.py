"""Edits by hand: budgets of each site, masks of each node, and copying against a literal twin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from linear import MLP, Z, activations, claimed
from sage.dictionaries.activations import Activations, Labels
from sage.dictionaries.dictionary import SiteMoves
from sage.dictionaries.edits import Way, control, copying
from sage.errors import SageError
from sage.nodes import Node
from tests.dictionaries.worlds import MLP_SITE, Z_SITE, Q, V

AXES = {MLP: torch.eye(8)[:3], Z: torch.eye(4)[:3]}
NUMBERS = torch.tensor([5, 9, 40])


@dataclass(frozen=True)
class Planned:
    """Moves as they are given, whatever the labels."""

    parts: Sequence[SiteMoves]

    def moves(self, base: Activations, labels: Labels) -> Iterator[SiteMoves]:
        assert len(labels) == len(base)
        yield from self.parts


def at_rest(nodes: Mapping[Node, int], prompts: int = 1) -> Activations:
    """Activations that are 0 at nodes of these widths."""
    given = activations([{"a": 0}] * prompts, mlp=torch.zeros(prompts, 8))
    return replace(given, values={n: torch.zeros(prompts, size) for n, size in nodes.items()})


def moves(node: Node, steps: Sequence[Sequence[float]], *, first: int = 0) -> SiteMoves:
    """Three candidates along the first three axes of a node that is alone at its site."""
    site = MLP_SITE if node == MLP else Z_SITE
    rows = slice(first, first + len(steps))
    return SiteMoves(site, rows, NUMBERS, {node: torch.tensor(steps)}, {node: AXES[node]})


def aim_of(*parts: SiteMoves) -> dict[Node, Tensor]:
    """Where all of the moves lead."""
    return {
        node: step @ part.directions[node] for part in parts for node, step in part.steps.items()
    }


def test_every_site_has_budgets_of_its_own() -> None:
    """Steps 3 2 1 at mlp, 1 2 3 at z, and the aim is all of them: the largest go first. D is 14/4 +
    14 x 4 at the start; with 3 moved at mlp and 3 and 2 at z 5/4 + 1 x 4 are left."""
    parts = (moves(MLP, [[3.0, 2.0, 1.0]]), moves(Z, [[1.0, 2.0, 3.0]]))
    base, aim = at_rest({MLP: 8, Z: 4}), aim_of(*parts)
    ((few, whole),) = control(
        Planned(parts), base, [{"a": 1}], aim,
        variance={MLP: 4.0, Z: 0.25}, budgets={MLP_SITE: (1, 3), Z_SITE: (2, None)},
    )  # fmt: skip
    assert few.values[MLP].tolist() == [[3, 0, 0, 0, 0, 0, 0, 0]]
    assert few.values[Z].tolist() == [[0, 2, 3, 0]]
    assert (few.picks.tolist(), whole.picks.tolist()) == ([3], [6])
    assert few.start.tolist() == whole.start.tolist() == [59.5]
    assert few.distance.tolist() == [5.25]
    assert whole.distance.tolist() == [0]
    assert {site: latents.tolist() for site, latents in few.latents.items()} == {
        MLP_SITE: [[5]],
        Z_SITE: [[9, 40]],
    }
    assert torch.equal(whole.values[MLP], aim[MLP])
    assert torch.equal(whole.values[Z], aim[Z])
    assert not base.values[MLP].any()


def test_a_site_in_parts_is_the_whole_site() -> None:
    """Prompts with one, two and three candidates: -1 stands where fewer were moved."""
    steps = [[3.0, 0.0, 0.0], [0.0, 2.0, 1.0], [1.0, 2.0, 3.0]]
    base, aim = at_rest({MLP: 8}, 3), aim_of(moves(MLP, steps))
    cuts = [[moves(MLP, steps)], [moves(MLP, steps[:1]), moves(MLP, steps[1:], first=1)]]
    whole, parts = (
        control(
            Planned(cut), base, [{}] * 3, aim, variance={MLP: 1.0}, budgets={MLP_SITE: (2, None)}
        )[0]
        for cut in cuts
    )
    for together, apart in zip(whole, parts, strict=True):
        assert torch.equal(together.values[MLP], apart.values[MLP])
        assert torch.equal(together.picks, apart.picks)
        assert torch.equal(together.distance, apart.distance)
        for row in range(3):
            chosen = together.latents[MLP_SITE][row]
            split = apart.latents[MLP_SITE][row]
            assert chosen[chosen >= 0].tolist() == split[split >= 0].tolist()
    assert whole[1].latents[MLP_SITE].tolist() == [[5, -1, -1], [9, 40, -1], [5, 9, 40]]
    assert whole[0].picks.tolist() == [1, 2, 2]


def shared_site() -> tuple[Planned, Activations, dict[Node, Tensor]]:
    """q and v read one site; two latents, each of which would move both, the second more."""
    steps = torch.tensor([[1.0, 2.0]])
    part = SiteMoves(
        Z_SITE, slice(0, 1), torch.tensor([0, 2]), {Q: steps, V: steps},
        {Q: torch.eye(4)[:2], V: torch.eye(4)[2:]},
    )  # fmt: skip
    return Planned([part]), at_rest({Q: 4, V: 4}), aim_of(part)


def test_a_latent_moves_only_the_nodes_where_it_qualifies() -> None:
    """Latent 0 may be moved at q, latent 2 at v; without a mask both move both. One edit for each
    mask and budget."""
    candidates, base, aim = shared_site()
    masks = {Q: torch.tensor([True, True, False]), V: torch.tensor([False, True, True])}
    neither = {node: torch.zeros(3, dtype=torch.bool) for node in (Q, V)}
    everything, some, nothing = control(
        candidates, base, [{"a": 1}], aim,
        variance={Q: 1.0, V: 1.0}, budgets={Z_SITE: (1, None)},
        ways=(Way(), Way(masks), Way(neither)),
    )  # fmt: skip
    assert [edit.picks.item() for edit in everything] == [1, 2]
    assert everything[0].latents[Z_SITE].tolist() == [[2]]
    assert torch.equal(everything[1].values[Q], aim[Q])
    assert torch.equal(everything[1].values[V], aim[V])
    first, both = some
    assert first.latents[Z_SITE].tolist() == [[2]]
    assert (first.values[Q].tolist(), first.values[V].tolist()) == ([[0] * 4], [[0, 0, 0, 2]])
    assert both.latents[Z_SITE].tolist() == [[0, 2]]
    assert (both.values[Q].tolist(), both.values[V].tolist()) == ([[1, 0, 0, 0]], [[0, 0, 0, 2]])
    assert both.distance.tolist() == [4 + 1]
    for edit in nothing:
        assert not edit.picks.any()
        assert not edit.values[Q].any()
        assert edit.distance.tolist() == edit.start.tolist() == [10]


def test_a_node_that_does_not_vary_is_left_as_it_is() -> None:
    candidates, base, aim = shared_site()
    ((edit,),) = control(
        candidates, base, [{"a": 1}], aim, variance={Q: 4.0, V: 0.0}, budgets={Z_SITE: (None,)}
    )
    assert torch.equal(edit.values[Q], aim[Q])
    assert torch.equal(edit.values[V], base.values[V])
    assert (edit.start.tolist(), edit.distance.tolist()) == ([1.25], [0])


def test_a_site_without_candidates_stays_as_it_is() -> None:
    steps = {MLP: torch.zeros(2, 0)}
    empty = SiteMoves(
        MLP_SITE, slice(0, 2), torch.zeros(0, dtype=torch.long), steps, {MLP: torch.zeros(0, 8)}
    )
    base = at_rest({MLP: 8}, 2)
    for parts in ([empty], []):
        ((edit,),) = control(
            Planned(parts), base, [{}] * 2, {MLP: torch.ones(2, 8)},
            variance={MLP: 4.0}, budgets={MLP_SITE: (None,)},
        )  # fmt: skip
        assert torch.equal(edit.values[MLP], base.values[MLP])
        assert edit.distance.tolist() == edit.start.tolist() == [2, 2]


def random_pairs(*nodes: Node) -> tuple[Activations, Activations, object]:
    """Five pairs at nodes, and a dictionary with six random latents, half of them active."""
    generator = torch.Generator().manual_seed(3)
    widths = {Q: 4, V: 4, MLP: 8, Z: 4}
    given = activations([{"a": 0}] * 10, mlp=torch.zeros(10, 8))
    values = {node: torch.randn(10, widths[node], generator=generator) for node in nodes}
    given = replace(given, values=values)
    active = torch.rand(10, 6, generator=generator) < 0.5
    codes = active * torch.rand(10, 6, generator=generator)
    vectors = {node: torch.randn(6, widths[node], generator=generator) for node in nodes}
    dictionary = claimed(given, dict.fromkeys(nodes, codes), vectors)
    return given.select(range(5)), given.select(range(5, 10)), dictionary


def literal_copy(
    base: Activations, target: Activations, dictionary, nodes: Sequence[Node], row: int, k: int
) -> tuple[dict[Node, np.ndarray], list[int]]:
    """One prompt at one site: k times the latent that lowers the summed distance most."""
    values = {node: base.values[node][row].double().numpy() for node in nodes}
    goal = {node: target.values[node][row].double().numpy() for node in nodes}
    codes = [dictionary.codes(run) for run in (base, target)]
    step = {node: (codes[1][node] - codes[0][node])[row].double().numpy() for node in nodes}
    vectors = {node: dictionary.directions(node).double().numpy() for node in nodes}

    def distance(latents: Sequence[int]) -> float:
        total = 0.0
        for node in nodes:
            moved = values[node] + sum(step[node][i] * vectors[node][i] for i in latents)
            total += float(np.square(moved - goal[node]).sum()) / VARIANCE[node]
        return total

    chosen: list[int] = []
    while len(chosen) < k:
        tried = {i: distance([*chosen, i]) for i in range(6) if i not in chosen}
        best = min(tried, key=lambda i: tried[i])
        if tried[best] > distance(chosen) - 1e-6:
            break
        chosen.append(best)
    moved = {
        node: values[node] + sum(step[node][i] * vectors[node][i] for i in chosen) for node in nodes
    }
    return moved, chosen


VARIANCE = {Q: 2.0, V: 0.5, MLP: 3.0}


@pytest.mark.parametrize("choice", ["joint", "per node"])
def test_copying_is_the_literal_greedy_choice_at_every_k(choice: str) -> None:
    """One choice for all nodes that read a site, or one for each node."""
    base, target, dictionary = random_pairs(Q, V, MLP)
    edits = copying(dictionary, base, target, variance=VARIANCE, ks=(0, 1, 2, 6), choice=choice)
    assert all(torch.equal(edits[0].values[node], base.values[node]) for node in VARIANCE)
    joint = [(MLP,), (Q, V)] if choice == "joint" else [(MLP,), (Q,), (V,)]
    for k, row in product((1, 2, 6), range(5)):
        picks, distance = 0, 0.0
        chosen_at_z: list[int] = []
        for nodes in joint:
            moved, chosen = literal_copy(base, target, dictionary, nodes, row, k)
            picks += len(chosen)
            chosen_at_z += [] if nodes == (MLP,) else sorted(chosen)
            for node in nodes:
                np.testing.assert_allclose(edits[k].values[node][row], moved[node], atol=1e-5)
                left = moved[node] - target.values[node][row].double().numpy()
                distance += float(np.square(left).sum()) / VARIANCE[node]
        assert edits[k].picks[row] == picks
        assert edits[k].distance[row].item() == pytest.approx(distance, rel=1e-4)
        latents = edits[k].latents[Z_SITE][row]
        assert latents[latents >= 0].tolist() == chosen_at_z


def test_copying_never_goes_away_from_the_target() -> None:
    base, target, dictionary = random_pairs(Q, V, MLP)
    edits = copying(dictionary, base, target, variance=VARIANCE, ks=range(8))
    distances = torch.stack([edits[k].distance for k in range(8)])
    assert (distances[1:] <= distances[:-1] + 1e-6).all()
    assert torch.equal(distances[0], edits[0].start)


def test_what_cannot_be_copied_is_refused() -> None:
    base, target, dictionary = random_pairs(MLP)
    for ks in ((), (-1, 2)):
        with pytest.raises(SageError, match="at least one k"):
            copying(dictionary, base, target, variance=VARIANCE, ks=ks)

"""What a node set knows of its contenders."""

from __future__ import annotations

import pytest
import torch

from linear import MLP, D, activations, claimed
from sage.scores.node_set import Settings
from sage.scores.suite import NodeSets
from scores.worlds import HALVES, Facts, Roles, World, make_world, value_one


def one_in_four() -> World:
    """Of 24 prompts of fit every fourth has value 1; pairs are of a prompt with 0 and one with
    1."""
    labels = [{"a": int(n % 4 == 3)} for n in range(32)]
    values = torch.zeros(len(labels), D)
    values[:, :4] = torch.tensor([0.6 - label["a"] for label in labels])[:, None]
    every = activations(labels, flips="a", mlp=values)
    decide, test = [(n, n + 1) for n in range(2, 24, 4)], [(26, 27), (30, 31)]
    roles = Roles(fit=range(24), decide=decide, test=test)
    return make_world(every, roles, Facts(attributes=("a",), changed=("a",)), read=HALVES)


def test_a_supervised_feature_is_active_on_the_share_of_fit_that_has_its_value() -> None:
    node_set = one_in_four().node_set()
    supervised = node_set.data.supervised
    shares = node_set.activity(node_set.contender(supervised))
    by_name = dict(zip(supervised.fits[MLP].chosen.names, shares[MLP].tolist(), strict=True))
    assert by_name == pytest.approx({"a=0": 3 / 4, "a=1": 1 / 4})


@pytest.mark.parametrize("known", [False, True])
def test_a_latent_is_active_on_the_share_of_fit_on_which_it_has_a_code(known: bool) -> None:
    """One latent is on where `a` is 1, one always, one never, whether or not it is known what they
    mean."""
    world = one_in_four()
    on = value_one(world.every)
    codes = torch.cat([on, torch.ones_like(on), torch.zeros_like(on)], dim=1)
    node_set = world.node_set()
    learned = node_set.contender(claimed(world.every, {MLP: codes}, {MLP: torch.eye(3, D)}))
    if known:
        node_set.meaning(learned)
    assert node_set.activity(learned)[MLP].tolist() == pytest.approx([1 / 4, 1, 0])


def test_suites_that_reach_the_same_nodes_share_a_node_set() -> None:
    world = one_in_four()
    node_sets = NodeSets(world.model, world.data, Settings())
    node_set = node_sets.at([MLP])
    assert node_set.nodes == (MLP,)
    assert node_sets.at((MLP,)) is node_set

"""The facts of the published circuits, and the order and positions of their members."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sage.circuits.catalog import circuit_names, load_circuit
from sage.circuits.circuit import forward_order

HEADS = {
    "acronym": 8,
    "copy_suppression": 2,
    "greater_than": 11,
    "ioi": 26,
    "sentiment": 7,
    "successor_months": 13,
    "successor_number_words": 19,
    "successor_numerals": 14,
    "successor_shared": 8,
}


FOUND_HERE = ("ioi_smollm2",)


def test_there_is_one_file_for_every_published_list_and_those_found_here_say_so():
    assert sorted((*HEADS, *FOUND_HERE)) == circuit_names()
    for name in FOUND_HERE:
        circuit = load_circuit(name)
        assert circuit.source.startswith("Found by sage itself")
        assert circuit.where.startswith("tests/benchmarks/")


def test_the_circuit_of_smollm2_has_the_classes_of_ioi_at_their_positions():
    circuit = load_circuit("ioi_smollm2")
    assert (circuit.model, circuit.heads_total, len(circuit.heads)) == ("smollm2-135m", 270, 16)
    positions = {group.role: group.position for group in circuit.groups}
    published = {group.role: group.position for group in load_circuit("ioi").groups}
    shared = ("name mover", "negative name mover", "S-inhibition", "induction")
    assert all(positions[role] == published[role] for role in shared)
    assert all(layer < 30 and head < 9 for layer, _, head in map(forward_order, circuit.heads))


@pytest.mark.parametrize("name", HEADS)
def test_a_published_circuit_has_the_heads_of_its_source_and_they_exist_in_gpt2_small(name: str):
    circuit = load_circuit(name)
    assert (circuit.name, circuit.model, circuit.heads_total, len(circuit.heads)) == (
        name,
        "gpt2-small",
        144,
        HEADS[name],
    )
    assert all(
        layer < 12 and head < 12
        for layer, _, head in map(forward_order, (*circuit.heads, *circuit.mlps))
    )
    assert "arXiv" in circuit.source
    assert circuit.disputed <= {*circuit.heads, *circuit.mlps}


def test_ioi_has_26_heads_in_7_classes_and_disputes_10_6_alone():
    circuit = load_circuit("ioi")
    sizes = {group.role: (len(group.heads), group.position) for group in circuit.groups}
    assert sizes == {
        "name mover": (3, "END"),
        "negative name mover": (2, "END"),
        "backup name mover": (8, "END"),
        "S-inhibition": (4, "END"),
        "induction": (4, "S2"),
        "duplicate token": (3, "S2"),
        "previous token": (2, "S1+1"),
    }
    assert circuit.disputed == {"10.6"}
    assert set(circuit.positions) == {"END", "S2", "S1+1"}
    assert circuit.mlps == {}


def test_greater_than_is_a_union_whose_differences_are_disputed():
    circuit = load_circuit("greater_than")
    assert circuit.disputed == {"5.1", "6.1", "8.8"}
    assert list(circuit.mlps) == [f"{layer}.mlp" for layer in (0, 1, 2, 3, 8, 9, 10, 11)]


def test_the_shared_successor_circuit_is_the_intersection_of_the_three_kinds():
    kinds = [load_circuit(f"successor_{kind}") for kind in ("months", "numerals", "number_words")]
    shared = load_circuit("successor_shared")
    assert set(shared.heads) == set.intersection(*(set(circuit.heads) for circuit in kinds))
    assert set(shared.mlps) == set.intersection(*(set(circuit.mlps) for circuit in kinds))


def test_a_head_in_two_groups_has_both_roles_and_acts_anywhere_if_one_gives_no_position():
    circuit = load_circuit("sentiment")
    assert circuit.heads["7.1"] == ("direct", "intermediate")
    assert circuit.positions_of("7.1") == ()
    assert circuit.positions_of("10.1") == ("END",)


def test_heads_come_in_forward_order_and_not_in_that_of_their_names():
    assert all(
        forward_order(first) < forward_order(second)
        for first, second in pairwise(load_circuit("ioi").heads)
    )
    assert list(load_circuit("acronym").heads)[-2:] == ["10.10", "11.4"]

"""Packing: a value of sage's own data types comes back as it was, and nothing else is ever made."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from sage.dictionaries.design import Column
from sage.errors import BadFile
from sage.nodes import parse_node
from sage.stats import Sampled
from sage.store.pack import Packed, pack, unpack


def test_what_is_packed_comes_back_as_it_was() -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    column = Column("IO", ("gender", "IO"), (("f", "Mary"), (1732, "x")), coupled=True)
    value: dict[Any, Any] = {
        parse_node("1.0.z@END"): [Sampled(0.5, np.array([0.25, np.nan]), 7), None],
        3: (shared, column),
        "again": {"transposed": shared.T, "flag": True, "empty": (), "infinite": float("inf")},
        "scalars": (torch.tensor(2.5), np.array(3)),
    }
    found = unpack(pack(value))
    assert list(found) == list(value)
    (sampled, nothing), (tensor, found_column) = found[parse_node("1.0.z@END")], found[3]
    assert (sampled.value, sampled.n, nothing) == (0.5, 7, None)
    assert np.array_equal(sampled.draws, [0.25, np.nan], equal_nan=True)
    assert tensor.equal(shared)
    assert found_column == column
    assert type(found_column.keys) is tuple
    transposed = found["again"].pop("transposed")
    assert transposed.equal(shared.T)
    assert found["again"] == {"flag": True, "empty": (), "infinite": float("inf")}
    assert [scalar.shape for scalar in found["scalars"]] == [(), ()]


def test_a_value_has_memory_of_its_own_laid_out_row_by_row() -> None:
    """Whoever computes with it gets the same last bits, whether it was just made or is old."""
    whole = torch.arange(12.0).reshape(3, 4)
    array = np.arange(6.0).reshape(2, 3)
    tensor, transposed = unpack(pack([whole.T, array.T]))
    assert tensor.is_contiguous()
    assert transposed.flags["C_CONTIGUOUS"]
    whole += 1
    array += 1
    assert tensor.equal(torch.arange(12.0).reshape(3, 4).T)
    assert np.array_equal(transposed, np.arange(6.0).reshape(2, 3).T)


def test_a_tensor_that_occurs_twice_is_packed_once() -> None:
    shared = torch.ones(3)
    packed = pack([shared, {"other": shared}])
    assert len(packed.arrays) == 1
    first, second = unpack(packed)
    assert first is second["other"]


def test_arrays_made_on_the_way_are_told_apart() -> None:
    class Made(Mapping[str, np.ndarray]):
        def __getitem__(self, name: str) -> np.ndarray:
            return np.full(3, float(name))

        def __iter__(self) -> Iterator[str]:
            return iter("123456789")

        def __len__(self) -> int:
            return 9

    found = unpack(pack(Made()))
    assert {name: array.tolist() for name, array in found.items()} == {
        name: [float(name)] * 3 for name in "123456789"
    }


def test_only_the_projects_own_data_types_are_packed_and_nothing_else_is_made() -> None:
    foreign = namedtuple("Foreign", "a")

    @dataclass
    class Local:
        a: int

    for value in (foreign(1), Local(1), {1, 2}, lambda: 1, np.int64(3)):
        with pytest.raises(TypeError, match="is not one of sage's data types"):
            pack([value])
    for path in (
        "os:system",
        "subprocess:Popen",
        "sage.store.store:user_store",
        "sage.store.store:os",
        "sage.errors:SageError",
        "sage.stats:Nothing",
        "sage.nothing:Nothing",
    ):
        with pytest.raises(BadFile, match="not one of sage's data types"):
            unpack(Packed({"of": path, "fields": ["true"]}, {}))

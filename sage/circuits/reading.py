"""Reading a circuit from its TOML file, with every key checked.

circuits/README.md says what the keys mean.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from sage.circuits.circuit import Circuit, Group, is_member, is_mlp
from sage.errors import BadFile, unknown
from sage.files import first_line, given_path

# More layers, and more heads in one, than any model has.
_MOST_LAYERS = 1000


def read_circuit(path: Path | str) -> Circuit:
    """The circuit of a TOML file, named after the file.

    BadFile says which key is wrong, what stands there and what should.
    """
    path = given_path(str(path))
    table = _toml(path)
    _check(table, _CIRCUIT_KEYS, optional=("notes",), place=str(path))
    groups = tuple(
        _group(entry, place=f"{path}, groups[{index}]")
        for index, entry in enumerate(table.pop("groups"))
    )
    _check_feeds(groups, path)
    circuit = Circuit(path.stem, groups=groups, **table)
    if len(circuit.heads) > circuit.heads_total:
        raise BadFile(
            f"{path}: 'heads_total' is {circuit.heads_total}; expected at least "
            f"{len(circuit.heads)}, the heads of its groups."
        )
    return circuit


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadFile(
            f"There is no file {path}. A circuit is a TOML file; circuits/README.md gives its keys."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadFile(f"{path} cannot be read as TOML: {first_line(error)}.") from error


def _group(table: Mapping[str, Any], *, place: str) -> Group:
    _check(table, _GROUP_KEYS, optional=set(_GROUP_KEYS) - {"role"}, place=place)
    role, disputed = table["role"], table.get("disputed", ())
    lists = {key: tuple(table.get(key, ())) for key in ("heads", "mlps", "carries", "feeds")}
    group = Group(role, position=table.get("position"), **lists)
    if not group.members:
        raise BadFile(
            f"{place} ('{role}') has neither 'heads' nor 'mlps'; expected one of them, with at "
            "least one entry."
        )
    if disputed is True:
        return replace(group, disputed=group.members)
    for member in disputed:
        if member not in group.members:
            raise BadFile(
                f"{place} ('{role}'): 'disputed' has '{member}'; expected members of the group: "
                f"{', '.join(group.members)}."
            )
    return replace(group, disputed=tuple(disputed))


def _check_feeds(groups: Sequence[Group], path: Path) -> None:
    roles = [group.role for group in groups]
    for index, group in enumerate(groups):
        for role in group.feeds:
            if role not in roles:
                raise BadFile(
                    f"{path}, groups[{index}] ('{group.role}'): 'feeds' has '{role}'. "
                    f"{unknown('role', role, roles)}"
                )


class _Expected(NamedTuple):
    """What the value of a key must be: in words, for the error, and as a test."""

    words: str
    holds: Callable[[Any], bool]


def _check(
    table: Mapping[str, Any],
    keys: Mapping[str, _Expected],
    *,
    optional: Collection[str],
    place: str,
) -> None:
    for key in table:
        if key not in keys:
            raise BadFile(f"{place}: {unknown('key', key, keys)}")
    for key, expected in keys.items():
        if key not in table and key not in optional:
            raise BadFile(f"{place}: the key '{key}' is missing; expected {expected.words}.")
        if key in table and not expected.holds(table[key]):
            raise BadFile(f"{place}: '{key}' is {table[key]!r}; expected {expected.words}.")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_head(value: Any) -> bool:
    if not (isinstance(value, str) and is_member(value) and not is_mlp(value)):
        return False
    return all(_is_layer(int(number)) for number in value.split("."))


def _is_layer(value: Any) -> bool:
    return _is_count(value) and value < _MOST_LAYERS


def _is_tables(value: Any) -> bool:
    return (
        isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)
    )


def _is_list_of(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A test for lists whose entries pass `holds`, each there once."""

    def is_list(value: Any) -> bool:
        return isinstance(value, list) and all(map(holds, value)) and len(set(value)) == len(value)

    return is_list


_TEXT = _Expected("text", _is_text)
_NAMES = _Expected('a list of names, each once, such as ["IO"]', _is_list_of(_is_text))
_CIRCUIT_KEYS = {
    **dict.fromkeys(("task", "model", "source", "where", "notes"), _TEXT),
    "heads_total": _Expected(
        "the number of heads of the model, such as 144",
        lambda value: _is_count(value) and 0 < value < _MOST_LAYERS**2,
    ),
    "groups": _Expected("[[groups]] tables, at least one", _is_tables),
}
_GROUP_KEYS = {
    "role": _TEXT,
    "position": _TEXT,
    "heads": _Expected(
        'a list of heads, layer.head, each once, such as ["9.6", "10.0"]', _is_list_of(_is_head)
    ),
    "mlps": _Expected("a list of layers, each once, such as [8, 9]", _is_list_of(_is_layer)),
    "carries": _NAMES,
    "feeds": _NAMES,
    "disputed": _Expected(
        'true, or a list of members such as ["10.6", "8.mlp"]',
        lambda value: value is True or _NAMES.holds(value),
    ),
}

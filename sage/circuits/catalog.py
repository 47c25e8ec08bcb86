"""Finding published circuits by name or by path.

A circuit's name is the name of its TOML file in circuits/.
"""

from __future__ import annotations

from sage.circuits.circuit import Circuit
from sage.circuits.reading import read_circuit
from sage.errors import unknown
from sage.task.catalog import folder, is_path


def circuit_names() -> list[str]:
    """The published circuits that come with sage."""
    return sorted(path.stem for path in folder("circuits").glob("*.toml"))


def load_circuit(name: str) -> Circuit:
    """The published circuit of that name, or the one in the TOML file of that path."""
    if is_path(name, (".toml",)):
        return read_circuit(name)
    if name not in circuit_names():
        raise unknown("circuit", name, circuit_names(), remedy="A path to a TOML file works too.")
    return read_circuit(folder("circuits") / f"{name}.toml")

"""What the wired model's residual stream holds where: each variable in subspaces of its own.

The values of a variable are vectors that sum to zero (a simplex with edges of different lengths),
because that is the form in which least squares gives features back (method, section 3): centring
them changes nothing. Their duals read one of them out, and read less than nothing while another is
present, so that a ReLU separates them without an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sage.models.wired import language

D_MODEL = 128
BALLAST = 40.0

_LENGTHS = (0.8, 1.2)
_STAGES = {
    "token": ("owner", "animal", "kind", "colour", "size", "word", "bos", "position"),
    "previous": ("owner", "kind", "colour", "size"),
    "clause": ("owner",),
    "asked": ("animal",),
    "found": ("owner",),
    "wanted": ("owner",),
    "looked up": ("kind", "colour", "size"),
    "said": ("kind", "colour", "size"),
}
_VALUES = {
    "owner": language.OWNERS,
    "animal": language.ANIMALS,
    "kind": language.KINDS,
    "colour": language.COLOURS,
    "size": language.SIZES,
    "word": tuple(word.strip() for word in language.WORDS),
    "bos": (language.BOS,),
    "position": tuple(str(position) for position in range(language.LENGTH)),
}


@dataclass(frozen=True)
class Variable:
    """Values of which at most one is present at a time; coordinates [value, dim] sum to zero unless
    there is only one value."""

    name: str
    values: tuple[str, ...]
    coordinates: Float[np.ndarray, "value dim"]

    @property
    def duals(self) -> Float[np.ndarray, "value dim"]:
        """duals @ coordinates.T is the identity minus 1/n (the identity for a single value)."""
        return np.linalg.pinv(self.coordinates).T

    @property
    def peak(self) -> float:
        """What the dual of a value reads where that value is present."""
        count = len(self.values)
        return 1.0 if count == 1 else 1 - 1 / count


@dataclass(frozen=True)
class Subspace:
    """A variable as the residual stream holds it after a stage of the circuit: `columns` [d_model,
    dim] are orthonormal."""

    stage: str
    variable: Variable
    columns: Float[np.ndarray, "d_model dim"]

    @property
    def directions(self) -> Float[np.ndarray, "value d_model"]:
        """One planted feature per value."""
        return self.variable.coordinates @ self.columns.T

    @property
    def readers(self) -> Float[np.ndarray, "value d_model"]:
        """What reads each value and nothing of any other subspace."""
        return self.variable.duals @ self.columns.T

    @property
    def meanings(self) -> tuple[str, ...]:
        """`previous owner=my`."""
        return tuple(f"{self.stage} {self.variable.name}={value}" for value in self.variable.values)


@dataclass(frozen=True)
class ResidualLayout:
    """Every subspace, the constant direction `ballast` that keeps the norm's scale almost constant,
    and the columns nobody reads."""

    subspaces: tuple[Subspace, ...]
    ballast: Float[np.ndarray, "d_model"]
    unread: Float[np.ndarray, "d_model dim"]

    def at(self, stage: str, *variables: str) -> tuple[Subspace, ...]:
        """The subspaces of a stage: all of them, or those of some variables, in that order."""
        of_stage = {
            subspace.variable.name: subspace
            for subspace in self.subspaces
            if subspace.stage == stage
        }
        return tuple(of_stage[name] for name in variables or _STAGES[stage])

    def subspace(self, stage: str, variable: str) -> Subspace:
        """The one subspace of a variable at a stage."""
        return self.at(stage, variable)[0]


def draw_layout(rng: np.random.Generator) -> ResidualLayout:
    """Lengths of the values and a random rotation that keeps all subspaces orthogonal to the
    ones-vector, which a norm subtracts."""
    variables = {name: _variable(name, values, rng) for name, values in _VALUES.items()}
    columns = _columns(rng)
    subspaces: list[Subspace] = []
    for stage, names in _STAGES.items():
        for name in names:
            dim = variables[name].coordinates.shape[1]
            basis = np.stack([next(columns) for _ in range(dim)], axis=1)
            subspaces.append(Subspace(stage, variables[name], basis))
    ballast = next(columns)
    return ResidualLayout(tuple(subspaces), BALLAST * ballast, np.stack(list(columns), axis=1))


def columns_of(subspaces: Sequence[Subspace]) -> Float[np.ndarray, "d_model dim"]:
    """The columns of several subspaces side by side."""
    return np.concatenate([subspace.columns for subspace in subspaces], axis=1)


def _variable(name: str, values: tuple[str, ...], rng: np.random.Generator) -> Variable:
    """A variable whose values are one number each where there are one or two, else the corners of a
    simplex."""
    count = len(values)
    if count <= 2:
        length = 0.75 if name == "kind" else 1.0
        return Variable(name, values, length * np.array([[1.0], [-1.0]])[:count])
    lengths = rng.permutation(np.linspace(*_LENGTHS, count))
    corners = np.diag(lengths) - lengths / count
    left, singular, _ = np.linalg.svd(corners)
    return Variable(name, values, (left * singular)[:, : count - 1])


def _columns(rng: np.random.Generator) -> Iterator[Float[np.ndarray, "d_model"]]:
    """Orthonormal vectors, all of them orthogonal to the ones-vector."""
    start = rng.standard_normal((D_MODEL, D_MODEL))
    start[:, 0] = 1.0
    rotation, _ = np.linalg.qr(start)
    yield from rotation.T[1:]

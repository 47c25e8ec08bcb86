"""The `Score` noun: one number between a zero and a one of its own, from numbers per prompt.

Every score is a statistic of means over rows (pairs of prompts, mostly), so that its value, its
bootstrap draws, differences between dictionaries and their intervals all come from one table of
columns (method, section 5.1). A file of this folder that defines `SCORE` is a score; they are found
by listing, and adding one touches no other file. A score is made from a *measurement*: the file of
that name gives `measure`, and several scores may share one (control, interpretable and move are
read off the same edits).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

    from sage.scores.levels import Decisions, Split
    from sage.scores.node_set import Contender, NodeSet
    from sage.stats import Sampled

Statistic = Callable[["Float[np.ndarray, 'draw column']"], "Float[np.ndarray, 'draw']"]


class Columns(NamedTuple):
    """What a score of one dictionary is made from; rows of one cluster are resampled together."""

    values: Float[np.ndarray, "row column"]
    clusters: tuple[Hashable, ...] | None


class Detail(NamedTuple):
    """A number beside a score: its name, what tells it apart (`at`, a form, a budget, a k), and the
    columns and the statistic that give it (none for what is sampled already)."""

    metric: str
    evidence: Columns | Sampled
    statistic: Statistic | None = None
    raw: Statistic | None = None
    at: str | None = None
    form: str | None = None
    budget: str | None = None
    k: int | None = None
    picks: float | None = None


@runtime_checkable
class Measure(Protocol):
    """What the file of a measurement gives."""

    def __call__(
        self, node_set: NodeSet, contenders: Sequence[Contender], *, split: Split
    ) -> Mapping[str, Any]:
        """What was measured of each contender that has such a measurement, by name."""
        ...


@dataclass(frozen=True)
class Score:
    """A score: how it is called, what its zero and its one are, and how it is made.

    `columns` takes what was measured of one dictionary (None: it lacks something). `statistic` maps
    means of columns to the score, `raw` to the score before it is clipped to [0, 1].
    `why_undefined` reads what was decided on fit, for all dictionaries alike. `details` are the
    rows beside it. `headline` scores stand in every table. A score that `has_form` is of success,
    or graded, as was decided. `of_fit`: it is made from prompts of fit alone, whatever the split.
    `figure` names the figure that shows it.
    """

    name: str
    version: int
    symbol: str
    title: str
    zero: str
    one: str
    measurement: str
    columns: Callable[[Any, Decisions], Columns | Sampled | None]
    statistic: Statistic
    raw: Statistic
    why_undefined: Callable[[Decisions], str | None]
    details: Callable[[Any, Decisions], Iterable[Detail]]
    headline: bool = True
    has_form: bool = False
    of_fit: bool = False
    figure: str | None = None

    @property
    def versioned(self) -> str:
        """`control@2`."""
        return f"{self.name}@{self.version}"

    def sampled(self, evidence: Columns | Sampled, *, seed: int) -> Sampled:
        """The score with its bootstrap draws, each clipped."""
        return sampled(evidence, self.statistic, seed=seed)

    def unclipped(self, evidence: Columns | Sampled) -> float:
        """The score before it is clipped."""
        return at_means(evidence, self.raw)


def sampled(evidence: Columns | Sampled, statistic: Statistic | None, *, seed: int) -> Sampled:
    """A statistic of columns with its bootstrap draws; what is sampled already is as it is."""
    from sage.stats import bootstrap

    if statistic is None or not isinstance(evidence, Columns):
        assert not isinstance(evidence, Columns)
        return evidence
    return bootstrap(evidence.values, statistic, seed=seed, clusters=evidence.clusters)


def at_means(evidence: Columns | Sampled, statistic: Statistic) -> float:
    """A statistic of all rows together."""
    import numpy as np

    if not isinstance(evidence, Columns):
        return evidence.value
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(statistic(evidence.values.mean(0, keepdims=True))[0])


def mean_of(column: int) -> Statistic:
    """The mean of one column."""
    return lambda means: means[:, column]


# In the order in which they stand in a table.
_ORDER = ("interpretable", "control", "approximation", "geometry", "move")


def scores() -> Mapping[str, Score]:
    """Every score, by name, those of tables first."""
    package = import_module("sage.scores")
    listed: dict[str, Score] = {}
    for file in iter_modules(package.__path__):
        score: object = getattr(import_module(f"sage.scores.{file.name}"), "SCORE", None)
        if isinstance(score, Score):
            listed[score.name] = score
    return dict(sorted(listed.items(), key=lambda entry: _rank(entry[0])))


def versions() -> dict[str, int]:
    """The version of every score's definition, by name: numbers of different versions are not to be
    compared."""
    return {name: score.version for name, score in scores().items()}


def defined_as_today(given: Mapping[str, int]) -> bool:
    """Whether scores of these versions are defined as this version of sage defines them."""
    today = versions()
    known = all(today.get(name) == version for name, version in given.items())
    return known and given.keys() >= {score.name for score in headlines()}


def headlines() -> tuple[Score, ...]:
    """The scores that stand in every table."""
    return tuple(score for score in scores().values() if score.headline)


def measurements() -> Mapping[str, Measure]:
    """Every measurement that a score needs, by name."""
    names = dict.fromkeys(score.measurement for score in scores().values())
    modules = {name: import_module(f"sage.scores.{name}") for name in names}
    return {name: cast("Measure", module.measure) for name, module in modules.items()}


def _rank(name: str) -> tuple[int, str]:
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)

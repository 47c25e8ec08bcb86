"""A cell: one result, a task on a model, with its rows at hand by what they are of.

Everything a page shows comes from here; rows of options that were scored beside the headline are
kept apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sage.nodes import Node, parse_node
from sage.report.score import Score, mean_number, score_of
from sage.report.sources import Source
from sage.report.words import label
from sage.result import ALL, COMPONENTS, NodeRow, Result, Row, SuiteInfo, load, load_arrays, names

SUMMARY = ("control", "sage", *(f"{name} normalised" for name in COMPONENTS), "reach")
HEADLINES = 2

_Key = tuple[str, str, str]


class Matrix(NamedTuple):
    """A matrix of `score_arrays`: numbers [latent, column], which latents, and what the columns are
    called."""

    node: Node
    values: Float[np.ndarray, "latent column"]
    latents: list[int]
    columns: list[str]


@dataclass(frozen=True)
class Cell:
    """One result with an index: `rows[section, suite, dictionary][metric]` are the headline rows,
    in the order of the file."""

    source: Source
    result: Result
    arrays: Mapping[str, np.ndarray]
    rows: Mapping[_Key, Mapping[str, list[Row]]]
    others: list[Row] = field(default_factory=list[Row])

    @property
    def contrasts(self) -> list[str]:
        return [section.id for section in self.result.sections if section.id == section.contrast]

    def found(self, section: str, suite: str, dictionary: str, metric: str) -> list[Row]:
        """The rows of one metric."""
        return self.rows.get((section, suite, dictionary), {}).get(metric, [])

    def score(self, metric: str, *, suite: str, dictionary: str, section: str = ALL) -> Score:
        """The one score of that name; undefined where there is none."""
        found = self.found(section, suite, dictionary, metric)
        return (
            score_of(found[0])
            if found
            else Score(None, why=self._missing(section, suite, dictionary))
        )

    def summary(self, metric: str, *, suite: str, dictionary: str) -> Score:
        """A score over all contrasts; where it is undefined, with what each contrast or component
        says."""
        found = self.score(metric, suite=suite, dictionary=dictionary)
        if found.value is not None or not self.found(ALL, suite, dictionary, metric):
            return found
        if metric == "sage":
            parts = {
                name: self.score(f"{name} normalised", suite=suite, dictionary=dictionary)
                for name in COMPONENTS
            }
            missing = [name for name, part in parts.items() if part.value is None]
            return found._replace(why=f"{found.why} ({', '.join(missing)})")
        own = "T2 normalised" if metric == "control" else metric
        by_contrast = {
            name: self.score(own, suite=suite, dictionary=dictionary, section=name)
            for name in self.contrasts
        }
        said = [f"{name}: {part.why}" for name, part in by_contrast.items() if part.value is None]
        return found._replace(why=f"{found.why} ({'; '.join(said)})") if said else found

    def dictionaries(self, suite: str, section: str = ALL) -> list[str]:
        """Who was scored on a suite's nodes, the suite itself first."""
        names = [
            dictionary
            for where, whose, dictionary in self.rows
            if (where, whose) == (section, suite) and dictionary != ALL
        ]
        return list(dict.fromkeys([suite, *names]))

    def label(self, name: str) -> str:
        """A suite's or dictionary's name on this model's page."""
        return label(name, self.source.model)

    def ranked(self) -> list[SuiteInfo]:
        """Suites by control, best first: those that reach most of the sections, then the others,
        which were scored on other nodes."""
        widest = self.widest()

        def rank(suite: SuiteInfo) -> tuple[bool, bool, float]:
            control = self.score("control", suite=suite.id, dictionary=suite.id).value
            return suite.id not in widest, control is None, -(control or 0.0)

        return sorted(self.result.suites, key=rank)

    def headliners(self) -> list[str]:
        """The suites whose matrices are drawn: the best ones of those that reach most of the
        sections."""
        widest = self.widest()
        return [suite.id for suite in self.ranked() if suite.id in widest][:HEADLINES]

    def widest(self) -> set[str]:
        """The suites that reach as much as any; none where no suite reaches anything."""
        reaches = {
            suite.id: mean_number(suite.reach.values()) or 0.0 for suite in self.result.suites
        }
        most = max(reaches.values(), default=0.0)
        return {name for name, share in reaches.items() if share >= most - 1e-6 and most > 0}

    def evidence(self, contrast: str) -> list[NodeRow]:
        return [found for found in self.result.discovery if found.contrast == contrast]

    def matrix(self, contrast: str, suite: str, dictionary: str, what: str) -> Matrix | None:
        """The matrix at the node with the largest statistic among those that have one."""
        prefix = f"{contrast}|{suite}|{dictionary}|{what}|"
        nodes = {name.removeprefix(prefix) for name in self.arrays if name.startswith(prefix)}
        ranked = sorted(self.evidence(contrast), key=lambda found: -(found.statistic or 0.0))
        node = next((found.node for found in ranked if found.node in nodes), None)
        if node is None:
            return None
        base = f"{contrast}|{suite}|{dictionary}|{what}"
        latents, columns = (
            self.arrays[f"{base} latents|{node}"],
            self.arrays[f"{base} names|{node}"],
        )
        return Matrix(
            parse_node(node),
            self.arrays[f"{base}|{node}"],
            [int(latent) for latent in latents],
            names(columns),
        )

    def _missing(self, section: str, suite: str, dictionary: str) -> str:
        """Why there is no such row: most often because the suite reaches no node, which its row of
        reach says."""
        if not self.result.gate.passed:
            return "the model does not do this task"
        wheres = self.contrasts if section == ALL else [section]
        said = [
            row.status
            for where in wheres
            for row in self.found(where, suite, suite, "reach")
            if row.value == 0
        ]
        if said and len(said) == len(wheres):
            return (
                said[0].removeprefix("undefined: ")
                if said[0] != "ok"
                else "the suite reaches no node"
            )
        return f"not measured for {dictionary}"


def read_cell(source: Source) -> Cell:
    """Load a result and what lies beside it, once."""
    result = load(source.path)
    rows: dict[_Key, dict[str, list[Row]]] = {}
    others: list[Row] = []
    for row in result.rows:
        if (row.choice, row.option) == ("joint", "frozen"):
            rows.setdefault((row.section, row.suite, row.dictionary), {}).setdefault(
                row.metric, []
            ).append(row)
        else:
            others.append(row)
    return Cell(source, result, load_arrays(source.path), rows, others)

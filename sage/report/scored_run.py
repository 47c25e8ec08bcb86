"""A scored run: one result, a task on a model, with its rows at hand by what they are of.

Everything a run's page shows comes from here; rows of options that were scored beside the headline
are kept apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sage.nodes import Node, parse_node
from sage.report.metrics import NORMALISED
from sage.report.reported_score import ReportedScore, plain_mean, score_in
from sage.report.sources import Source
from sage.report.words import suite_label
from sage.result import ALL, NodeRow, Result, Row, SectionInfo, SuiteInfo, load, load_arrays, names

HEADLINES = 2

_Of = tuple[str, str, str]


class LatentMatrix(NamedTuple):
    """One matrix of a result: a number for each latent and column, and what these are called."""

    node: Node
    values: Float[np.ndarray, "latent column"]
    latents: list[int]
    columns: list[str]


@dataclass(frozen=True)
class ScoredRun:
    """One result with an index of its headline rows.

    `rows[section, suite, dictionary][metric]` are in the order of the file. Where a method takes a
    dictionary and none is given, it is the suite itself.
    """

    source: Source
    result: Result
    arrays: Mapping[str, np.ndarray]
    rows: Mapping[_Of, Mapping[str, list[Row]]]
    option_rows: list[Row] = field(default_factory=list[Row])

    @property
    def contrasts(self) -> list[str]:
        return [section.id for section in self.result.sections if section.id == section.contrast]

    def section(self, contrast: str) -> SectionInfo:
        """The section of a contrast, all its nodes together."""
        return next(section for section in self.result.sections if section.id == contrast)

    def suite(self, name: str) -> SuiteInfo:
        return next(suite for suite in self.result.suites if suite.id == name)

    def node_rows(self, contrast: str) -> list[NodeRow]:
        """What the discovery measured of each candidate node."""
        return [row for row in self.result.discovery if row.contrast == contrast]

    def metric_rows(
        self, metric: str, suite: str, dictionary: str | None = None, *, section: str = ALL
    ) -> list[Row]:
        """The rows of one metric."""
        return self.rows.get((section, suite, dictionary or suite), {}).get(metric, [])

    def score(
        self, metric: str, suite: str, dictionary: str | None = None, *, section: str = ALL
    ) -> ReportedScore:
        """The one score of that name; undefined where there is none."""
        rows = self.metric_rows(metric, suite, dictionary, section=section)
        if rows:
            return score_in(rows[0])
        return ReportedScore(None, why=self._why_missing(section, suite, dictionary or suite))

    def summary(self, metric: str, suite: str, dictionary: str | None = None) -> ReportedScore:
        """A score over all contrasts.

        Where it is undefined, `why` adds what each contrast or component says.
        """
        score = self.score(metric, suite, dictionary)
        if score.value is not None or not self.metric_rows(metric, suite, dictionary):
            return score
        if metric == "sage":
            missing = [
                component
                for component, normalised in NORMALISED.items()
                if self.score(normalised, suite, dictionary).value is None
            ]
            return score._replace(why=f"{score.why} ({', '.join(missing)})")
        by_contrast = {
            contrast: self.score(
                NORMALISED["T2"] if metric == "control" else metric,
                suite,
                dictionary,
                section=contrast,
            )
            for contrast in self.contrasts
        }
        reasons = [
            f"{contrast}: {part.why}"
            for contrast, part in by_contrast.items()
            if part.value is None
        ]
        return score._replace(why=f"{score.why} ({'; '.join(reasons)})") if reasons else score

    def dictionaries(self, suite: str) -> list[str]:
        """Who was scored on a suite's nodes over all contrasts, the suite itself first."""
        scored = [
            dictionary
            for section, judged, dictionary in self.rows
            if (section, judged) == (ALL, suite) and dictionary != ALL
        ]
        return list(dict.fromkeys([suite, *scored]))

    def label(self, name: str) -> str:
        """A suite's or dictionary's name on this run's page."""
        return suite_label(name, self.source.model)

    def ranked(self) -> list[SuiteInfo]:
        """Suites by control, best first.

        Those that reach most of the sections come before the others, which were scored on other
        nodes.
        """
        widest = self.widest()

        def rank(suite: SuiteInfo) -> tuple[bool, bool, float]:
            control = self.score("control", suite.id).value
            return suite.id not in widest, control is None, -(control or 0.0)

        return sorted(self.result.suites, key=rank)

    def headliners(self) -> list[str]:
        """The suites that are shown in detail: the best of those that reach most."""
        widest = self.widest()
        return [suite.id for suite in self.ranked() if suite.id in widest][:HEADLINES]

    def widest(self) -> set[str]:
        """The suites that reach as much as any; none where no suite reaches anything."""
        reaches = {
            suite.id: plain_mean(suite.reach.values()) or 0.0 for suite in self.result.suites
        }
        most = max(reaches.values(), default=0.0)
        return {name for name, reach in reaches.items() if reach >= most - 1e-6 and most > 0}

    def matrix(
        self, kind: str, contrast: str, suite: str, dictionary: str | None = None
    ) -> LatentMatrix | None:
        """The matrix of a kind (f1, cosine) at the node with the largest statistic that has one."""
        name = f"{contrast}|{suite}|{dictionary or suite}|{kind}"
        nodes = {key.removeprefix(f"{name}|") for key in self.arrays if key.startswith(f"{name}|")}
        ranked = sorted(self.node_rows(contrast), key=lambda row: -(row.statistic or 0.0))
        node = next((row.node for row in ranked if row.node in nodes), None)
        if node is None:
            return None
        return LatentMatrix(
            parse_node(node),
            self.arrays[f"{name}|{node}"],
            [int(latent) for latent in self.arrays[f"{name} latents|{node}"]],
            names(self.arrays[f"{name} names|{node}"]),
        )

    def _why_missing(self, section: str, suite: str, dictionary: str) -> str:
        """Why there is no such row.

        Most often the suite reaches no node, which its row of reach says.
        """
        if not self.result.gate.passed:
            return "the model does not do this task"
        sections = self.contrasts if section == ALL else [section]
        reach = [row for part in sections for row in self.metric_rows("reach", suite, section=part)]
        unreached = [row.status for row in reach if row.value == 0]
        if not unreached or len(unreached) < len(sections):
            return f"not measured for {dictionary}"
        if unreached[0] == "ok":
            return "the suite reaches no node"
        return unreached[0].removeprefix("undefined: ")


def read_run(source: Source) -> ScoredRun:
    """Load a result and what lies beside it, once."""
    result = load(source.path)
    rows: dict[_Of, dict[str, list[Row]]] = {}
    option_rows: list[Row] = []
    for row in result.rows:
        if (row.choice, row.option) == ("joint", "frozen"):
            by_metric = rows.setdefault((row.section, row.suite, row.dictionary), {})
            by_metric.setdefault(row.metric, []).append(row)
        else:
            option_rows.append(row)
    return ScoredRun(source, result, load_arrays(source.path), rows, option_rows)

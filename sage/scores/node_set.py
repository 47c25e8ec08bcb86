"""Where dictionaries are measured: one contrast and node set, with what no suite changes there.

Clean runs, ground-truth patches, attribute tables and whatever the dictionaries that no suite
enters come to (supervised, identity, mean only) are computed once and serve every suite that
reaches the same nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from sage.dictionaries.activations import Activations, Dictionary
from sage.dictionaries.controls import shuffle_labels
from sage.dictionaries.supervised import fit_features
from sage.models.base import Model
from sage.nodes import Node
from sage.result import SUPERVISED
from sage.scores import geometry, interpretability
from sage.scores.approximation import Approximation, Baseline, baseline, score_approximations
from sage.scores.control import Control, Truth, ground_truth, score_controls
from sage.scores.data import ContrastData, Runs, Settings
from sage.scores.geometry import Geometry, Targets, targets
from sage.scores.interpretability import Interpretability, Table, tabulate
from sage.scores.isolation import Bystanders, bystanders
from sage.store.recall import NOTHING, Recall

IDENTITY, MEAN_ONLY = "identity", "mean only"
SHARED = (SUPERVISED, IDENTITY, MEAN_ONLY)


class Measured(NamedTuple):
    """The four tests of one dictionary; None where it has no such test: identity only reconstructs,
    and T4 may have no features."""

    approximation: Approximation
    control: Control | None
    interpretability: Interpretability | None
    geometry: Geometry | None


class Causal(NamedTuple):
    """T1 and T2 with only the latents whose corrected F1 on `fit` is at least `level`; `latents` is
    how many there are, over all nodes."""

    level: float
    latents: int
    approximation: Approximation
    control: Control


class FitScores(NamedTuple):
    """What is decided from: T1's value and T2 of one dictionary on pairs of `fit`."""

    t1: float
    control: Control


class Behaviour(NamedTuple):
    """What the model does on the pairs of one split."""

    clean: Baseline
    truth: Truth


class Memo(NamedTuple):
    """What has been found out at a node_set and serves more than one suite: by split, and by a
    dictionary's `content`."""

    behaviour: dict[str, Behaviour]
    irrelevant_effect: dict[str, float]
    on_fit: dict[str, FitScores]
    measured: dict[str, Measured]
    causal: dict[str, tuple[Causal, ...]]
    l0: dict[str, float]

    def of_no_suite(self) -> Memo:
        """What depends on no suite at all."""
        return Memo(
            self.behaviour,
            self.irrelevant_effect,
            _shared(self.on_fit),
            _shared(self.measured),
            _shared(self.causal),
            {},
        )

    @property
    def names(self) -> tuple[frozenset[str], ...]:
        """Of what something is known."""
        return tuple(frozenset(found) for found in self)


class SplitRuns(NamedTuple):
    """Pairs of one split, with the model's clean, mean-ablated and patched behaviour on them."""

    runs: Runs
    clean: Baseline
    truth: Truth


class Shuffled(NamedTuple):
    """`fit` and test with every prompt's labels taken from another, and what these labels make of
    values and features."""

    fit: Activations
    test: Activations
    table: Table
    features: Mapping[Node, Targets]


@dataclass(frozen=True, eq=False)
class NodeSet:
    """One contrast on one node set; `known` fills up."""

    model: Model
    data: ContrastData
    settings: Settings
    known: Memo = field(default_factory=lambda: Memo({}, {}, {}, {}, {}, {}))

    @cached_property
    def fit(self) -> SplitRuns:
        """The pairs of `fit`, on which everything is decided."""
        return self._side("fit", self.data.tried)

    @cached_property
    def test(self) -> SplitRuns:
        """The pairs that are reported on."""
        return self._side("test", self.data.test)

    @cached_property
    def watched(self) -> Bystanders:
        """What an edit of a test prompt should leave alone."""
        return bystanders(self.data.decoder, *self.data.test, named=self.data.named)

    @cached_property
    def table(self) -> Table:
        """Where the values of the contrast's attributes hold, on `fit` and on test."""
        return tabulate(self.data.fit, self.data.test.base, self.data.named)

    @cached_property
    def features(self) -> dict[Node, Targets]:
        """The supervised features that T4 is about."""
        return targets(self.data.supervised, self.data.fit, attributes=self.data.named)

    @property
    def irrelevant_effect(self) -> float:
        """E|m_clean - m_patched| where only an irrelevant attribute changes; 0 where the task has
        no such pairs."""
        if self.data.irrelevant is None:
            return 0.0
        if "fit" not in self.known.irrelevant_effect:
            clean, patched = ground_truth(
                self.model, *self.data.irrelevant, metric=self.settings.metric
            )
            self.known.irrelevant_effect["fit"] = float(
                (clean.metric - patched.metric).abs().mean()
            )
        return self.known.irrelevant_effect["fit"]

    @cached_property
    def shuffled(self) -> Shuffled:
        """The same under labels that say nothing."""
        data, seed = self.data, self.settings.seed
        fit, test = (shuffle_labels(given, seed=seed) for given in (data.fit, data.test.base))
        attributes = tuple(
            name for name in data.decoder.attributes if name not in data.decoder.irrelevant
        )
        wrong = fit_features(
            fit, attributes=attributes, within=data.within, coupled=False, seed=seed
        )
        return Shuffled(
            fit,
            test,
            tabulate(fit, test, data.named),
            targets(wrong, fit, attributes=data.named),
        )

    def approximate(
        self, dictionaries: Mapping[str, Dictionary], *, side: SplitRuns
    ) -> dict[str, Approximation]:
        """T1."""
        return score_approximations(
            self.model, dictionaries, side.runs.base,
            baseline=side.clean, moments=self.data.moments, metric=self.settings.metric, seed=self.settings.seed,
        )  # fmt: skip

    def control(
        self,
        dictionaries: Mapping[str, Dictionary],
        *,
        side: SplitRuns,
        ks: Sequence[int],
        watched: Bystanders | None = None,
    ) -> dict[str, Control]:
        """T2."""
        return score_controls(
            self.model, dictionaries, *side.runs, truth=side.truth, metric=self.settings.metric, watched=watched, ks=ks
        )  # fmt: skip

    def interpret(self, dictionary: Dictionary) -> Interpretability:
        """T3."""
        data = self.data
        return interpretability.score_interpretability(
            dictionary, data.fit, data.test.base,
            attributes=data.named, section=data.section, seed=self.settings.seed, table=self.table,
        )  # fmt: skip

    def compare(self, dictionary: Dictionary, third: Interpretability) -> Geometry | None:
        """T4; of the supervised features every one takes part, however rare."""
        if not self.features:
            return None
        return geometry.score_geometry(
            dictionary, self.features, {node: own.active for node, own in third.nodes.items()},
            fit=self.data.fit, section=self.data.section, seed=self.settings.seed,
            min_active=0.0 if dictionary.name == SUPERVISED else geometry.MIN_ACTIVE,
        )  # fmt: skip

    @property
    def small_ks(self) -> tuple[int, ...]:
        """No edit, and the budgets that T2's area is over."""
        return (0, *(k for k in self.settings.ks if 1 <= k <= self.settings.k_max))

    def _side(self, split: str, runs: Runs) -> SplitRuns:
        metric = self.settings.metric
        if split not in self.known.behaviour:
            clean = baseline(self.model, runs.base, moments=self.data.moments, metric=metric)
            self.known.behaviour[split] = Behaviour(
                clean, ground_truth(self.model, *runs, metric=metric)
            )
        return SplitRuns(runs, *self.known.behaviour[split])


@dataclass(frozen=True, eq=False)
class NodeSets:
    """The node_sets of one contrast, one for each node set that is asked for; what they know of no
    suite is recalled, and kept by `keep`."""

    model: Model
    data: ContrastData
    settings: Settings
    recall: Recall = NOTHING
    made: dict[tuple[Node, ...], NodeSet] = field(default_factory=dict[tuple[Node, ...], NodeSet])
    kept: dict[tuple[Node, ...], tuple[frozenset[str], ...]] = field(
        default_factory=dict[tuple[Node, ...], tuple[frozenset[str], ...]]
    )

    def at(self, nodes: Collection[Node]) -> NodeSet:
        """The node_set of these nodes."""
        wanted = tuple(sorted(nodes))
        if wanted not in self.made:
            node_set = NodeSet(self.model, self.data.on(wanted), self.settings)
            known = self._recall(wanted).find("scores")
            self.made[wanted] = node_set if known is None else replace(node_set, known=known)
            self.kept[wanted] = self.made[wanted].known.of_no_suite().names
        return self.made[wanted]

    def keep(self) -> None:
        """Keep for other runs what no suite changes, wherever there is more of it than was
        recalled."""
        for nodes, node_set in self.made.items():
            known = node_set.known.of_no_suite()
            if known.names != self.kept[nodes]:
                self._recall(nodes).keep("scores", value=known)
                self.kept[nodes] = known.names

    def _recall(self, nodes: tuple[Node, ...]) -> Recall:
        section, settings = self.data.section, self.settings
        weights = [(str(node), section.statistic[node]) for node in nodes]
        return self.recall.about(section.contrast, weights, settings[1:])


def _shared(found: Mapping[str, Any]) -> dict[str, Any]:
    return {content: own for content, own in found.items() if content in SHARED}

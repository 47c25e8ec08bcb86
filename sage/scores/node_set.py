"""One contrast on one node set: what every measurement of every dictionary there needs.

Clean, ablated and ground-truth runs and whatever no suite enters are measured once and serve every
suite that reaches the same nodes. What is decided is decided on pairs of `fit`, what is reported is
measured on test (method, sections 1 and 5).
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from sage.dictionaries.activations import Activations
from sage.dictionaries.code_model import UnfittedCodes
from sage.dictionaries.dictionary import Dictionary, LabelMoves, coded_alike, width
from sage.dictionaries.edits import Masks
from sage.dictionaries.need import needs
from sage.dictionaries.supervised import SUPERVISED, FeatureDictionary
from sage.models.base import Model
from sage.nodes import Node
from sage.scores.data import ContrastData, PairRuns
from sage.scores.isolation import Bystanders, find_bystanders
from sage.scores.levels import ANY, EVERY_LEVEL, Split
from sage.scores.meaning import Meaning, activity, find_meaning
from sage.scores.predicates import Predicates, tabulate
from sage.scores.runs import SplitBehaviour, SplitRuns, run_split


@dataclass(frozen=True)
class Settings:
    """How to score: the seed of every draw, the k of copying (none: no copying), and whether the
    budget without a bound is run."""

    seed: int = 0
    copying: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    unbounded: bool = True


@dataclass(frozen=True, eq=False)
class Contender:
    """A dictionary to be measured, and its moves from labels (None: it only reconstructs).

    `features` are the supervised ones whose aim its edits have, `fit` the prompts whose labels say
    what its latents mean, `levels` the F1 levels at which it is edited. Of contenders with the same
    `content` measurements are shared; None is measured each time. `measurements` are those wanted
    (None: all); it is `copied` and `detected` where these rows are wanted; `choice` is an option of
    copying.
    """

    name: str
    dictionary: Dictionary
    candidates: LabelMoves | None
    features: FeatureDictionary
    fit: Activations
    content: str | None = None
    levels: tuple[float, ...] = EVERY_LEVEL
    measurements: tuple[str, ...] | None = None
    copied: bool = False
    detected: bool = False
    choice: Literal["joint", "per node"] = "joint"

    def has(self, measurement: str) -> bool:
        """Whether a measurement is wanted."""
        return self.measurements is None or measurement in self.measurements

    def told_as(self, other: Contender) -> bool:
        """Whether the labels tell the same of its codes as of another's: dictionaries with the same
        codes, on the same prompts of fit, beside the same features."""
        alike = coded_alike(other.dictionary, self.dictionary)
        return alike and other.fit is self.fit and other.features is self.features


Memo = MutableMapping[str, Any]


@dataclass(frozen=True, eq=False)
class NodeSet:
    """One contrast on one set of nodes.

    `memo` holds what serves more than one suite, `code_models` and `meanings` what is known of the
    contenders in hand.
    """

    model: Model
    data: ContrastData
    settings: Settings
    memo: Memo = field(default_factory=dict[str, Any])
    code_models: list[UnfittedCodes] = field(default_factory=list[UnfittedCodes])
    meanings: list[tuple[Contender, Meaning]] = field(
        default_factory=list[tuple["Contender", Meaning]]
    )

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self.data.section.nodes

    @cached_property
    def decide(self) -> SplitRuns:
        """The pairs of fit, on which everything is decided."""
        return SplitRuns(self.data.decide, self.behaviour("decide", self.data.decide))

    @cached_property
    def test(self) -> SplitRuns:
        """The pairs that are reported on."""
        return SplitRuns(self.data.test, self.behaviour("test", self.data.test))

    @cached_property
    def fit(self) -> Activations:
        """The prompts of fit at these nodes."""
        return self.data.fit

    @cached_property
    def predicates(self) -> Predicates:
        """Where the values of the changed attributes hold on fit."""
        return tabulate(self.fit, self.data.changed)

    @cached_property
    def needs(self) -> dict[tuple[Node, str], int]:
        """The unit of the budget at every site."""
        return needs(self.data.supervised, self.data.decide.base, self.data.decide.labels)

    def watched(self, split: str) -> Bystanders:
        """What edits of a split should leave alone."""
        return self._watched[split]

    @cached_property
    def _watched(self) -> dict[str, Bystanders]:
        decoder, changed = self.data.shared.fitted.decoder, self.data.changed
        pairs = {"decide": self.data.decide, "test": self.data.test}
        return {
            name: find_bystanders(decoder, *own, changed=changed) for name, own in pairs.items()
        }

    def contender(
        self, dictionary: Dictionary, *, content: str | None = None, **wanted: Any
    ) -> Contender:
        """A dictionary with its moves from labels: the supervised features' own, or those that a
        regression of its codes on the labels of fit tells."""
        features = self.data.supervised
        if dictionary is features:
            wanted.setdefault("content", SUPERVISED)
            return Contender(features.name, features, features, features, self.fit, **wanted)
        candidates = self._code_model(dictionary) if width(dictionary, self.nodes[0]) else None
        name = dictionary.name
        return Contender(name, dictionary, candidates, features, self.fit, content, **wanted)

    def _code_model(self, dictionary: Dictionary) -> UnfittedCodes:
        """The code model of a dictionary; fitted once for all that have the same codes."""
        alike = [known for known in self.code_models if coded_alike(known.dictionary, dictionary)]
        model = UnfittedCodes(dictionary, self.fit, self.data.supervised, *alike[:1])
        self.code_models.append(model)
        return model

    def forget_contenders(self) -> None:
        """Let go of what is known of the contenders in hand."""
        self.code_models.clear()
        self.meanings.clear()

    def split(self, name: Split) -> SplitRuns:
        """The pairs of a split and what the model does on them."""
        return self.decide if name == "decide" else self.test

    @property
    def detect(self) -> Activations | None:
        """Prompts of the test share beyond those of the pairs; None where none were read."""
        given = self.data.shared.detect
        return None if given is None else given.on(self.nodes)

    def meaning(self, contender: Contender) -> Meaning:
        """What each of a contender's latents means; found once for all that have the same codes."""
        for other, known in self.meanings:
            if contender.told_as(other):
                return known
        meaning = find_meaning(
            contender.dictionary,
            contender.fit,
            contender.features,
            attributes=self.data.changed,
            predicates=self.predicates if contender.fit is self.fit else None,
        )
        self.meanings.append((contender, meaning))
        return meaning

    def activity(self, contender: Contender) -> Mapping[Node, Tensor]:
        """The share of fit on which each latent is active at each node."""
        if contender.dictionary is contender.features:
            return {node: contender.features.fits[node].chosen.shares for node in self.nodes}
        for other, meaning in self.meanings:
            if coded_alike(other.dictionary, contender.dictionary) and other.fit is self.fit:
                return {node: known.activity for node, known in meaning.nodes.items()}
        return activity(contender.dictionary, self.fit)

    def masks(self, contender: Contender) -> dict[float, Masks | None]:
        """Which latents may be moved at every level; levels that let the same through share their
        masks. Supervised features mean something by definition."""
        if contender.dictionary is contender.features:
            return dict.fromkeys(contender.levels)
        device = self.fit.values[self.nodes[0]].device
        masks: dict[float, Masks | None] = {}
        distinct: list[Masks] = []
        for level in contender.levels:
            if level == ANY:
                masks[level] = None
                continue
            qualified = self.meaning(contender).masks(level)
            own = {node: mask.to(device) for node, mask in qualified.items()}
            masks[level] = next((known for known in distinct if _alike(known, own)), own)
            if masks[level] is own:
                distinct.append(own)
        return masks

    def behaviour(self, split: str, pairs: PairRuns) -> SplitBehaviour:
        """What the model does on pairs, which go by the name of their split."""
        if split not in self.memo:
            answers = self.data.shared.answers
            self.memo[split] = run_split(self.model, pairs, self.data.moments, answers)
        behaviour = self.memo[split]
        assert isinstance(behaviour, SplitBehaviour)
        return behaviour


def _alike(one: Masks, other: Masks) -> bool:
    """Whether two sets of masks let the same latents through at every node."""
    return all(torch.equal(mask, other[node]) for node, mask in one.items())

"""Sizes: the numbers of a model, a task, a plan and suites that decide how much there is to do.

Where a contrast lives is known only after discovery; until then its section has a shape that is
guessed from the number of its candidates.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sage.discovery.candidates import SECTION_KINDS, nodes_at, reachable
from sage.models.anatomy import Anatomy
from sage.nodes import Node
from sage.preparation import Prepared
from sage.run import Plan
from sage.saes.suite import Suite
from sage.task.task import Task
from sage.task.tokens import TokenizedPair

# A section has so many nodes, at the least, as a rule, and at the most, times this power of the
# number of its candidates: 47 contrasts with 68 to 476 candidates on the models that ship have 11
# in the mean, those of SmolLM2 with 5,000 have 16 to 190.
SECTION_NODES = (0.2, 0.48, 1.75)
SECTION_POWER = 0.55
# Of the nodes of a section: how many sites they have, as a rule.
SITES_PER_NODE = 0.45
# Of the layers and tokens: what an edit of a section makes the model compute again, as a rule.
CONE = 0.55


@dataclass(frozen=True)
class ModelSize:
    """A model: layers and their width; tokens of a prompt in the mean, and how many different
    lengths prompts have."""

    layers: int
    d_model: int
    d_head: int
    tokens: float
    lengths: int = 1


@dataclass(frozen=True)
class ContrastSize:
    """One contrast: its pairs of each split, and the nodes it may live at."""

    discover: int
    decide: int
    test: int
    candidates: int


@dataclass(frozen=True)
class PromptSizes:
    """Prompts of fit and those beyond the pairs, irrelevant pairs of discovery and of fit, and how
    many prompts are drawn in all."""

    fit: int
    detect: int
    null: int
    drawn: int


@dataclass(frozen=True)
class SuiteSize:
    """A suite: the latents of the widest SAE, how many residual streams have one, and of all nodes
    where a contrast may live the share that reads one of them."""

    width: int
    hooks: int
    share: float = 1.0


@dataclass(frozen=True)
class Shape:
    """A section as far as one suite reaches it.

    `encoded` counts the tokens of a prompt that its SAEs encode, `cone` is the share of layers and
    tokens that an edit makes the model compute again.
    """

    nodes: float
    sites: float
    encoded: float
    cone: float


@dataclass(frozen=True)
class SectionShapes:
    """The shape of a section, and of what each suite reaches of it."""

    whole: Shape
    reached: tuple[Shape, ...]


@dataclass(frozen=True)
class Sizes:
    """All that decides how much there is to do on one task and model by one plan."""

    model: ModelSize
    contrasts: Mapping[str, ContrastSize]
    prompts: PromptSizes
    plan: Plan


def sizes_of(anatomy: Anatomy, prepared: Prepared, plan: Plan) -> Sizes:
    """The sizes of a task as one model reads it."""
    task, splits = prepared
    tokens = [len(prompt.ids) for prompt in splits.fit]
    mean, lengths = sum(tokens) / len(tokens), len({*tokens})
    model = ModelSize(anatomy.layers, anatomy.d_model, anatomy.d_head, mean, lengths)
    contrasts = {
        name: ContrastSize(
            len(pairs),
            len(splits.fit_pairs[name]),
            len(splits.test[name]),
            _candidates(pairs, task, anatomy),
        )
        for name, pairs in splits.discover.items()
    }
    most = max(contrast.discover for contrast in contrasts.values())
    null = min(most, sum(map(len, splits.discover_null.values())))
    drawn = sum(1 for _ in splits.prompts())
    prompts = PromptSizes(len(splits.fit), len(splits.detect), null, drawn)
    return Sizes(model, contrasts, prompts, plan)


def _candidates(pairs: Sequence[TokenizedPair], task: Task, anatomy: Anatomy) -> int:
    return len(nodes_at(reachable(pairs, task), SECTION_KINDS, anatomy))


def suite_size(suite: Suite, anatomy: Anatomy) -> SuiteSize:
    """The size of a suite."""
    hooks = [hook for hook in anatomy.hooks if suite.at(hook) is not None]
    return suite_at(hooks, anatomy, width=max(sae.width for sae in suite.saes.values()))


def suite_at(hooks: Collection[Node], anatomy: Anatomy, *, width: int) -> SuiteSize:
    """The size of a suite with SAEs of this width at these residual streams."""
    read = [anatomy.source(node) in hooks for node in nodes_at(["END"], SECTION_KINDS, anatomy)]
    return SuiteSize(width, len(hooks), sum(read) / len(read))


def guessed_shapes(
    sizes: Sizes, contrast: str, suites: Sequence[SuiteSize], *, nodes: float = SECTION_NODES[1]
) -> SectionShapes:
    """The shapes of a section with so many nodes times a power of its candidates, of which each
    suite reaches the square root of the share of all candidates that it does: SAEs are put where
    contrasts live."""
    candidates = sizes.contrasts[contrast].candidates
    whole = _guessed_shape(sizes, min(candidates, nodes * candidates**SECTION_POWER))
    reached = tuple(_guessed_shape(sizes, whole.nodes * suite.share**0.5) for suite in suites)
    return SectionShapes(whole, reached)


def _guessed_shape(sizes: Sizes, nodes: float) -> Shape:
    nodes = max(1.0, nodes)
    sites = max(1.0, SITES_PER_NODE * nodes)
    tokens = sizes.model.tokens * min(2.0 * sizes.model.layers, sites) / 2
    return Shape(nodes, sites, tokens, CONE)


def known_shape(
    section: Collection[Node],
    anatomy: Anatomy,
    pairs: Sequence[TokenizedPair],
    *,
    hooks: Collection[Node] | None = None,
) -> Shape:
    """The shape of a section, as far as SAEs at these residual streams reach it (None: all)."""
    nodes = [n for n in section if hooks is None or anatomy.source(n) in hooks]
    if not nodes:
        return Shape(0.0, 0.0, 0.0, 0.0)
    sites = {(anatomy.source(node), node.position) for node in nodes}
    last: dict[Node, float] = {}
    for node in nodes:
        source, at = anatomy.source(node), _mean_index(pairs, node.position)
        read = at + 1 if node.kind == "z" else 1.0
        last[source] = max(last.get(source, 0.0), read)
    cone = _cone(nodes, anatomy, pairs)
    return Shape(float(len(nodes)), float(len(sites)), sum(last.values()), cone)


def _cone(nodes: Sequence[Node], anatomy: Anatomy, pairs: Sequence[TokenizedPair]) -> float:
    """The share of layers from the lowest node up, times that of tokens from the first on."""
    layers = anatomy.layers - min(node.layer for node in nodes)
    tokens = sum(len(pair.clean.ids) for pair in pairs) / len(pairs)
    first = min(_mean_index(pairs, node.position) for node in nodes)
    return layers / anatomy.layers * (tokens - first) / tokens


def _mean_index(pairs: Sequence[TokenizedPair], position: str) -> float:
    return sum(pair.clean.index[position] for pair in pairs) / len(pairs)

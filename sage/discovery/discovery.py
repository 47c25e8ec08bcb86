"""What a discovery found: per contrast its ranked nodes, section, null, validation and cost.

The names are those of section 2 of the method. Everything is plain data with a JSON form; nodes are
written `9.6.z@END`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, cast

from sage.errors import BadFile, unknown
from sage.nodes import Node, Section, parse_node

SCHEMA = 1


@dataclass(frozen=True)
class NodeEffect:
    """What is known of one node, in units of the task's metric.

    `attribution` is E|I| and `attribution_statistic` the statistic of I; `effect` is E[dm],
    `statistic` the mean over directions of |E[dm | direction]|, `stderr` that statistic's standard
    error over pairs, `n` the number of pairs they rest on: all, or those after which the node was
    beyond doubt below what a section takes. These four are None where the node was not patched.
    `kept` nodes are the section.
    """

    node: Node
    attribution: float
    attribution_statistic: float
    effect: float | None = None
    statistic: float | None = None
    stderr: float | None = None
    kept: bool = False
    n: int | None = None

    @property
    def best(self) -> float:
        """The statistic, of exact patching where it was done and of attribution elsewhere."""
        return self.attribution_statistic if self.statistic is None else self.statistic


@dataclass(frozen=True)
class FaithfulnessCurve:
    """f = (m - m_none)/(m_all - m_none) with a growing share of nodes left clean, others patched.

    `points` are (share of nodes, f); `cpr` is the area under f and `cmd` that under |1 - f|, both
    from share 0, where f is 0. `n` is the number of pairs.
    """

    points: tuple[tuple[float, float], ...]
    cpr: float
    cpr_stderr: float
    cmd: float
    cmd_stderr: float
    n: int


@dataclass(frozen=True)
class Validation:
    """Whether the ranking and the section can be believed; `notes` says why a number is None.

    Over the `patched` nodes: rank and linear correlation of the statistic of I with that of dm, and
    the overlap of their first `top` nodes. `section_effect` is the statistic of the whole section
    patched at once, `random_effects` that of random sets of the same size, layers and kinds, on
    `random_n` pairs each: all, or those after which the set was beyond doubt below the section.
    `jaccard` is the mean overlap of the section with those of resampled pairs, which are made of
    the `in_full` nodes patched on all pairs, `jaccard_sd` its spread.
    """

    patched: int
    spearman: float | None
    pearson: float | None
    top: int
    top_overlap: float | None
    section_effect: float | None
    random_effects: tuple[float, ...]
    jaccard: float | None
    jaccard_sd: float | None
    resamples: int
    curve: FaithfulnessCurve | None = None
    notes: tuple[str, ...] = ()
    in_full: int | None = None
    random_n: tuple[int, ...] = ()


@dataclass(frozen=True)
class Cost:
    """Wall-clock seconds, and `forwards`: passes over the contrast's clean prompts.

    That is tokens run through the model over the tokens of these prompts; backward counts as 2.
    """

    seconds: float
    forwards: float


@dataclass(frozen=True)
class Finding:
    """One contrast: its candidates ranked, the section among them, and what it is held against.

    `evidence` is sorted, patched nodes first by statistic, then the others by attribution.
    `baseline` is E|m(p)|, which tau is a share of; `null` the level irrelevant changes reach on
    `null_n` pairs (None: no irrelevant pairs, tau alone). `sizes` has the section's size at other
    tau, counting patched nodes. `shown` are nodes of kinds that never belong to a section.
    `dropped` counts pairs of unequal length that the attribution method could not take. `notes` say
    what nodes were patched on fewer pairs, and with what chance of an error.
    """

    contrast: str
    n: int
    dropped: int
    directions: int
    positions: tuple[str, ...]
    baseline: float
    null: float | None
    null_n: int
    evidence: tuple[NodeEffect, ...]
    shown: tuple[NodeEffect, ...]
    sizes: Mapping[float, int]
    validation: Validation
    cost: Cost
    notes: tuple[str, ...] = ()

    @property
    def kept(self) -> tuple[NodeEffect, ...]:
        """The nodes of the section, largest statistic first."""
        return tuple(effect for effect in self.evidence if effect.kept)

    @property
    def section(self) -> Section:
        """The nodes kept, each with its statistic."""
        return Section(self.contrast, {effect.node: effect.best for effect in self.kept})

    @property
    def statistics(self) -> dict[Node, float]:
        """Every candidate's statistic: of exact patching where it was done, else of attribution."""
        return {effect.node: effect.best for effect in self.evidence}


@dataclass(frozen=True)
class Discovery:
    """Where in a model a task's attributes live: a finding for every contrast, and how it was made.

    `positions` are all of the task's, reached or not.
    """

    task: str
    model: str
    positions: tuple[str, ...]
    method: str
    qk_fix: bool
    tau: float
    seed: int
    findings: Mapping[str, Finding] = field(default_factory=dict[str, Finding])

    @property
    def sections(self) -> dict[str, Section]:
        """The section of every contrast, empty where nothing was kept."""
        return {contrast: finding.section for contrast, finding in self.findings.items()}

    def finding(self, contrast: str) -> Finding:
        """The finding of that contrast; UnknownName where it was not looked for."""
        if contrast not in self.findings:
            raise unknown(f"contrast in this discovery of {self.task}", contrast, self.findings)
        return self.findings[contrast]

    def summary(self) -> list[dict[str, object]]:
        """One row per contrast for a table: what was found, how far to believe it, what it cost."""
        return [_summary(finding) for finding in self.findings.values()]

    def nodes(self, contrast: str) -> list[dict[str, object]]:
        """One row per node of a contrast's section, largest statistic first, for a table."""
        return [
            {
                "node": str(effect.node),
                "statistic": effect.statistic,
                "stderr": effect.stderr,
                "effect": effect.effect,
                "attribution": effect.attribution,
            }
            for effect in self.finding(contrast).kept
        ]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON data; `from_dict` reads it back equal."""
        return {"schema": SCHEMA, **asdict(self, dict_factory=_nodes_as_text)}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Discovery:
        """The discovery that `to_dict` wrote; BadFile names what is wrong with anything else."""
        from pydantic import TypeAdapter, ValidationError

        if data.get("schema") != SCHEMA:
            raise BadFile(
                f"A discovery of schema {data.get('schema')} was given; this version reads schema "
                f"{SCHEMA}. Discover again."
            )
        try:
            return TypeAdapter(Discovery).validate_python(_text_as_nodes(data))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole of it"
            raise BadFile(f"This is no discovery of sage: {where}: {first['msg']}.") from error


def _summary(finding: Finding) -> dict[str, object]:
    validation, curve = finding.validation, finding.validation.curve
    random = validation.random_effects
    return {
        "contrast": finding.contrast,
        "pairs": finding.n,
        "nodes": len(finding.section.nodes),
        "E|m|": finding.baseline,
        "null": finding.null,
        "effect": validation.section_effect,
        "random": sum(random) / len(random) if random else None,
        "spearman": validation.spearman,
        "pearson": validation.pearson,
        "top overlap": validation.top_overlap,
        "jaccard": validation.jaccard,
        "CPR": None if curve is None else curve.cpr,
        "CMD": None if curve is None else curve.cmd,
        "seconds": finding.cost.seconds,
        "forwards": finding.cost.forwards,
    }


_NODE_FIELDS = {entry.name for entry in fields(Node)}


def _nodes_as_text(entries: list[tuple[str, Any]]) -> Any:
    """What `asdict` makes of one dataclass: its fields by name, but a node as it is written."""
    value_by_field = dict(entries)
    if value_by_field.keys() == _NODE_FIELDS:
        return str(Node(**value_by_field))
    return value_by_field


def _text_as_nodes(data: Any, name: object = "") -> Any:
    """JSON data, without its schema, with every value named `node` read as one."""
    if isinstance(data, Mapping):
        return {
            key: _text_as_nodes(value, key)
            for key, value in cast("Mapping[str, Any]", data).items()
            if key != "schema"
        }
    if isinstance(data, list | tuple):
        return [_text_as_nodes(value) for value in cast("list[Any]", data)]
    return parse_node(data) if name == "node" and isinstance(data, str) else data

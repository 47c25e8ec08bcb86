"""One contrast, one suite: the suite and its controls scored on the union of the nodes it reaches
and on each of their groups."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from sage.dictionaries.activations import Dictionary, sites
from sage.dictionaries.controls import CONTROLS, controls
from sage.dictionaries.projected import Options, ProjectedSuite, project, reach, reached
from sage.errors import SageError
from sage.result import ALL, SUPERVISED, Row
from sage.saes.suite import Suite
from sage.scores.geometry import encoder_cosines, score_geometry
from sage.scores.interpretability import score_interpretability
from sage.scores.node_set import SHARED, NodeSet, NodeSets
from sage.scores.node_set_scores import NodeSetScores, score_nodes
from sage.scores.rows import sampled_row, score_arrays, score_rows
from sage.scores.summary import Component
from sage.stats import Sampled
from sage.store.checkpoints import Part

SHUFFLED = "shuffled labels"
RESERVED = (*SHARED, *CONTROLS, SHUFFLED, ALL)


@dataclass(frozen=True)
class Scored:
    """What one contrast and suite came to: rows, arrays, reach, and every dictionary's normalised
    components at the union.

    `components[dictionary][T1 to T4]` lacks what is undefined. `l0` has each control's own L0.
    """

    contrast: str
    suite: str
    reach: float
    rows: tuple[Row, ...]
    arrays: Mapping[str, np.ndarray]
    components: Mapping[str, Mapping[str, Sampled]]
    l0: Mapping[str, float]


def check_names(suites: Sequence[Suite]) -> None:
    """SageError for a suite that goes by the name of a control, and for two of one name: their rows
    could not be told apart."""
    names = [suite.id for suite in suites]
    for name in names:
        if name in RESERVED:
            raise SageError(
                f"A suite cannot be called '{name}': a control has that name. Give its folder as a path, such as ./{name}."
            )
        if names.count(name) > 1:
            raise SageError(f"Two suites are called '{name}'. Give each its own name.")


def score_suite(
    node_sets: NodeSets,
    suite: Suite,
    *,
    also: Sequence[Options] = (),
    groups: bool = True,
    among: Collection[str] = CONTROLS,
) -> Scored:
    """Score a suite and its controls wherever it reaches the contrast's section: on the union, and
    on each of its groups if wanted."""
    section, anatomy, seed = (
        node_sets.data.section,
        node_sets.model.anatomy,
        node_sets.settings.seed,
    )
    nodes = reached(suite, anatomy, section.nodes)
    if not nodes:
        why = (
            "no node of the section reads an SAE of this suite"
            if section.nodes
            else "the section is empty"
        )
        row = Row(
            section.contrast,
            suite.id,
            suite.id,
            "reach",
            section.contrast,
            0.0,
            0,
            status=f"undefined: {why}",
        )
        return Scored(section.contrast, suite.id, 0.0, (row,), {}, {}, {})
    node_set = node_sets.at(nodes)
    here = node_set.data
    judged = project(suite, anatomy, nodes, here.moments)
    made = controls(
        judged, here.fit, section=here.section, seed=seed, among=among, known=node_set.known.l0
    )
    options = {_option_name(suite, option): option for option in also}
    others = [replace(judged, name=name, options=option) for name, option in options.items()]
    dictionaries: dict[str, Dictionary] = {
        found.name: found for found in (judged, here.supervised, *made.dictionaries, *others)
    }
    whole = score_nodes(node_set, dictionaries, id=section.contrast, causal=(suite.id, SUPERVISED))
    several = here.section.groups if groups and len(here.section.groups) > 1 else {}
    parts = [
        score_nodes(node_sets.at(group), dictionaries, id=f"{section.contrast}/{name}", union=whole)
        for name, group in several.items()
    ]
    node_sets.keep()
    share = reach(suite, anatomy, section)
    rows = [
        Row(
            section.contrast,
            suite.id,
            suite.id,
            "reach",
            section.contrast,
            share,
            len(here.test.base),
        )
    ]
    for scores in (whole, *parts):
        found = score_rows(
            scores,
            suite=suite.id,
            settings=node_sets.settings,
            sites=len(sites(scores.nodes, anatomy)),
        )
        rows += [_named(row, suite, options) for row in found]
    rows += shuffled_rows(node_set, judged)
    arrays = {
        name: array
        for scores in (whole, *parts)
        for name, array in score_arrays(scores, suite=suite.id).items()
    }
    arrays |= _beside(judged, node_set, whole)
    components = {name: _defined(found) for name, found in whole.components.items()}
    return Scored(section.contrast, suite.id, share, tuple(rows), arrays, components, made.l0)


def shuffled_rows(node_set: NodeSet, judged: ProjectedSuite) -> list[Row]:
    """The suite's T3 and T4 with every prompt's labels taken from another prompt: what is left
    after correction is chance."""
    (fit, test, table, features), section, seed = (
        node_set.shuffled,
        node_set.data.section,
        node_set.settings.seed,
    )
    third = score_interpretability(
        judged, fit, test, attributes=node_set.data.named, section=section, seed=seed, table=table
    )
    found: dict[str, Sampled | None] = {"T3": third.score, "T4": None}
    if features:
        active = {node: own.active for node, own in third.nodes.items()}
        found["T4"] = score_geometry(
            judged, features, active, fit=fit, section=section, seed=seed
        ).score
    blank = Row(section.contrast, judged.name, SHUFFLED, "", section.contrast, None, len(test))
    return [
        sampled_row(replace(blank, metric=metric), value, "shuffled features carry no variance")
        for metric, value in found.items()
    ]


def to_part(scored: Scored) -> Part:
    """The same as JSON data and arrays, for a checkpoint."""
    data = {
        "contrast": scored.contrast,
        "suite": scored.suite,
        "reach": scored.reach,
        "rows": [asdict(row) for row in scored.rows],
        "l0": dict(scored.l0),
        "arrays": list(scored.arrays),
        "components": {
            key: {part: [value.value, value.n] for part, value in parts.items()}
            for key, parts in scored.components.items()
        },
    }
    arrays = {f"array {index}": array for index, array in enumerate(scored.arrays.values())}
    arrays |= {
        f"draws|{key}|{part}": value.draws
        for key, parts in scored.components.items()
        for part, value in parts.items()
    }
    return Part(data, arrays)


def from_part(part: Part) -> Scored:
    """What `to_part` made, back again."""
    data, arrays = part
    components = {
        key: {
            name: Sampled(value, arrays[f"draws|{key}|{name}"], n)
            for name, (value, n) in parts.items()
        }
        for key, parts in data["components"].items()
    }
    return Scored(
        data["contrast"], data["suite"], data["reach"], tuple(Row(**row) for row in data["rows"]),
        {name: arrays[f"array {index}"] for index, name in enumerate(data["arrays"])}, components, data["l0"],
    )  # fmt: skip


def _beside(
    judged: ProjectedSuite, node_set: NodeSet, whole: NodeSetScores
) -> dict[str, np.ndarray]:
    """Rows for the heat maps of cosines: `cosine encoder` [latent, feature] and `cosine bias`
    [feature] of every node."""
    geometry = whole.measured[judged.name].geometry
    found: dict[str, np.ndarray] = {}
    for node, own in (geometry.nodes if geometry else {}).items():
        rows, prefix = (
            encoder_cosines(judged, node, own, node_set.features[node]),
            f"{whole.id}|{judged.name}|{judged.name}|cosine",
        )
        found |= {
            f"{prefix} encoder|{node}": rows.encoder.numpy(),
            f"{prefix} bias|{node}": rows.bias.numpy(),
        }
    return found


def _defined(components: Mapping[str, Component]) -> dict[str, Sampled]:
    return {
        name: found.normalised for name, found in components.items() if found.normalised is not None
    }


def _option_name(suite: Suite, option: Options) -> str:
    return f"{suite.id} [{option.choice}, {option.sources}, {option.scale}, {option.codes}]"


def _named(row: Row, suite: Suite, options: Mapping[str, Options]) -> Row:
    """A row of an option is the suite's own, told apart by its `choice` and `option`."""
    option = options.get(row.dictionary)
    if option is None:
        return row
    parts = [
        option.scale,
        *(["sources apart"] if option.sources == "apart" else []),
        *(["oracle codes"] if option.codes == "oracle" else []),
    ]
    return replace(row, dictionary=suite.id, choice=option.choice, option=", ".join(parts))

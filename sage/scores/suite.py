"""One contrast, one suite: the suite and its controls scored on the nodes that it reaches.

All of them together, and a group of them (kind, position) where the union has no control (method,
section 5.4).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from sage.dictionaries.code_model import fit_codes
from sage.dictionaries.controls import Control, Setting, control_names, make_controls
from sage.dictionaries.controls.setting import generator
from sage.dictionaries.options import Options
from sage.dictionaries.projected import ProjectedSuite, mean_l0, project
from sage.dictionaries.projection import reach, reached
from sage.dictionaries.supervised import SUPERVISED, fit_features, with_labels_of
from sage.errors import SageError
from sage.models.base import Model
from sage.nodes import Node, Section
from sage.result import ALL, MovedLatent, Row
from sage.saes.suite import Suite
from sage.scores.contest import LOOKUPS, Contest, hold
from sage.scores.data import ContrastData
from sage.scores.decide import decide
from sage.scores.geometry import encoder_cosines
from sage.scores.moved_latents import moved_latents
from sage.scores.node_set import Contender, Memo, NodeSet, Settings
from sage.scores.rows import NodeSetScores, collect, score_arrays, score_rows
from sage.scores.score import headlines
from sage.scores.summary import ContrastScores
from sage.scores.targets import targets_at
from sage.scores.text import Streams

SHUFFLED = "shuffled labels"


@dataclass(frozen=True)
class Wanted:
    """What is scored beside the suite.

    Which controls, and whether they have every score; groups of each section; own and moved nodes
    apart; shuffled labels; options of copying.
    """

    controls: tuple[str, ...]
    thorough: bool = True
    groups: bool = False
    apart: bool = True
    shuffled: bool = True
    options: Mapping[str, Options] = field(default_factory=dict[str, Options])


def _new_memo(section: Section) -> Memo:
    """Where nothing is kept for other runs."""
    del section
    return {}


@dataclass(frozen=True, eq=False)
class NodeSets:
    """The node sets of one contrast, one for each set of nodes asked for.

    `memo` gives where a node set keeps what it shares with other suites, `tables` holds the
    lookup tables made so far.
    """

    model: Model
    data: ContrastData
    settings: Settings
    text: Streams | None = None
    tables: MutableMapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    memo: Callable[[Section], Memo] = _new_memo
    made: dict[tuple[Node, ...], NodeSet] = field(default_factory=dict[tuple[Node, ...], NodeSet])

    def at(self, nodes: Collection[Node]) -> NodeSet:
        """The node set of these nodes."""
        wanted = tuple(sorted(nodes))
        if wanted not in self.made:
            data = self.data.on(wanted)
            memo = self.memo(data.section)
            self.made[wanted] = NodeSet(self.model, data, self.settings, memo)
        return self.made[wanted]


@dataclass(frozen=True)
class SuiteScores:
    """What one contrast and suite came to.

    `l0` has each control's own L0, `moved` the latents behind the headline where it counts.
    """

    scores: ContrastScores
    rows: tuple[Row, ...]
    arrays: Mapping[str, np.ndarray]
    l0: Mapping[str, float]
    moved: tuple[MovedLatent, ...] = ()


def check_names(suites: Sequence[Suite]) -> None:
    """SageError for a suite that goes by the name of a control, and for two of one name: their rows
    could not be told apart."""
    names = [suite.id for suite in suites]
    reserved = (SUPERVISED, SHUFFLED, ALL, *control_names())
    for name in names:
        if name in reserved:
            raise SageError(
                f"A suite cannot be called '{name}': a control has that name. Give its folder as a "
                f"path, such as ./{name}."
            )
        if names.count(name) > 1:
            raise SageError(f"Two suites are called '{name}'. Give each its own name.")


def score_suite(node_sets: NodeSets, suite: Suite, wanted: Wanted) -> SuiteScores:
    """Score a suite and its controls wherever it reaches the contrast's section."""
    section, anatomy = node_sets.data.section, node_sets.model.anatomy
    nodes = reached(suite, anatomy, section.nodes)
    if not nodes:
        nothing = ContrastScores(section.contrast, 0.0, None)
        return SuiteScores(nothing, tuple(_unreached(node_sets, suite)), {}, {})
    union = _Judging.at(node_sets, suite, nodes, wanted)
    stand_in = _stand_in(node_sets, union)
    scored = {section.contrast: union.scores(section.contrast)}
    groups = union.node_set.data.section.groups
    for name, group in groups.items() if len(groups) > 1 else ():
        if wanted.groups or name == stand_in:
            place = f"{section.contrast}/{name}"
            scored[place] = _Judging.at(node_sets, suite, group, wanted).scores(place)
    share = reach(suite, anatomy, section)
    rows = [_reach_row(node_sets, suite, share)]
    arrays: dict[str, np.ndarray] = {}
    for collected in scored.values():
        rows += score_rows(collected)
        arrays |= score_arrays(collected)
    if wanted.apart:
        rows += _apart(node_sets, suite, union, wanted)
    arrays |= _encoder_arrays(union, scored[section.contrast])
    contrast = ContrastScores(
        section.contrast,
        share,
        scored[section.contrast].place,
        None if stand_in is None else scored[f"{section.contrast}/{stand_in}"].place,
    )
    place = section.contrast if stand_in is None else f"{section.contrast}/{stand_in}"
    moved = moved_latents(scored[place], suite)
    return SuiteScores(contrast, tuple(rows), arrays, union.l0, moved)


@dataclass(frozen=True, eq=False)
class _Judging:
    """A suite with its controls at one node set, and what was measured of them."""

    node_set: NodeSet
    suite: Suite
    judged: ProjectedSuite
    contest: Contest
    l0: Mapping[str, float]

    @staticmethod
    def at(node_sets: NodeSets, suite: Suite, nodes: Collection[Node], wanted: Wanted) -> _Judging:
        node_set = node_sets.at(nodes)
        data, settings = node_set.data, node_set.settings
        judged = project(suite, node_set.model.anatomy, node_set.nodes, data.moments)
        setting = Setting(
            judged, node_set.fit, data.section, settings.seed, node_sets.text, node_sets.tables
        )
        controls = make_controls(setting, among=wanted.controls)
        contenders = [
            node_set.contender(judged, copied=True, detected=True),
            node_set.contender(data.supervised, copied=True, detected=True),
            *(_control(node_set, control, wanted) for control in controls),
        ]
        if wanted.shuffled:
            contenders.append(_shuffled(node_set, judged))
        contenders += [_with_option(node_set, judged, name, wanted) for name in wanted.options]
        names = [control.name for control in controls]
        contest = hold(node_set, contenders, controls=names, thorough=wanted.thorough)
        l0 = {
            control.name: _l0(node_set, control, control.dictionary)
            for control in controls
            if isinstance(control.dictionary, ProjectedSuite)
        }
        return _Judging(node_set, suite, judged, contest, l0)

    def scores(self, id: str) -> NodeSetScores:
        """The scores of all dictionaries here."""
        return collect(self.node_set, self.contest, id=id, suite=self.suite.id)


def _l0(node_set: NodeSet, control: Control, dictionary: ProjectedSuite) -> float:
    """A control's mean L0 over its hooks; of those of one content measured once."""
    key = None if control.content is None else f"l0 | {control.content}"
    if key is not None and key in node_set.memo:
        return node_set.memo[key]
    l0 = mean_l0(dictionary, node_set.fit)
    mean = sum(l0.values()) / len(l0)
    if key is not None:
        node_set.memo[key] = mean
    return mean


def _control(node_set: NodeSet, control: Control, wanted: Wanted) -> Contender:
    """A control; lookup tables are copied by every plan, since they win where memories may."""
    return node_set.contender(
        control.dictionary,
        content=control.content,
        copied=wanted.thorough or control.name in LOOKUPS,
        detected=wanted.thorough and control.name == "untrained",
    )


def _with_option(node_set: NodeSet, judged: ProjectedSuite, name: str, wanted: Wanted) -> Contender:
    """The suite with an option of copying, to be copied alone."""
    option = wanted.options[name]
    other = replace(judged, name=f"{judged.name} [{name}]", options=option)
    features, fit = node_set.data.supervised, node_set.fit
    return Contender(other.name, other, None, features, fit, copied=True, choice=option.choice)


def _reach_row(node_sets: NodeSets, suite: Suite, share: float) -> Row:
    contrast = node_sets.data.section.contrast
    seed = node_sets.settings.seed
    return Row(contrast, suite.id, suite.id, "reach", contrast, share, 0, seed=seed)


def _unreached(node_sets: NodeSets, suite: Suite) -> Iterator[Row]:
    """A reach of 0, and every score undefined for the reason."""
    why = "no node of the section reads an SAE of this suite"
    if not node_sets.data.section.nodes:
        why = "the section has no node with a supervised feature"
    row = _reach_row(node_sets, suite, 0.0)
    yield row
    for score in headlines():
        yield replace(
            row,
            metric=score.name,
            version=score.version,
            value=None,
            status=f"undefined: {why}",
        )


def _stand_in(node_sets: NodeSets, union: _Judging) -> str | None:
    """Where the union has no control, the group with the largest summed statistic that has one;
    None where none has, or none is needed."""
    section = union.node_set.data.section
    if union.contest.decisions.control is None or len(section.groups) < 2:
        return None

    def effect(name: str) -> float:
        return sum(section.statistic[node] for node in section.groups[name])

    for name in sorted(section.groups, key=effect, reverse=True):
        if decide(node_sets.at(section.groups[name])).control is None:
            return name
    return None


def _shuffled(node_set: NodeSet, judged: ProjectedSuite) -> Contender:
    """The suite when every fit is told the labels of other prompts: what is left must be 0."""
    shared, seed = node_set.data.shared, node_set.settings.seed
    draw = generator(f"shuffled labels/{seed}")
    order = torch.randperm(len(node_set.fit), generator=draw).tolist()
    fit = with_labels_of(node_set.fit, order)
    features = fit_features(
        fit,
        attributes=shared.attributes,
        within=shared.within,
        nuisance=shared.nuisance,
        seed=seed,
    )
    candidates = fit_codes(judged, fit, features)
    return Contender(SHUFFLED, judged, candidates, features, fit)


def _apart(node_sets: NodeSets, suite: Suite, union: _Judging, wanted: Wanted) -> list[Row]:
    """T2 at 2 need on own nodes (where the token itself differs between p and p' in most pairs: a
    memory is the truth there) and on moved nodes (the others)."""
    data = union.node_set.data
    own = [node for node in data.section.nodes if _token_differs(data, node)]
    moved = [node for node in data.section.nodes if node not in own]
    if not own or not moved:
        return []
    short = replace(wanted, groups=False, apart=False, shuffled=False, thorough=False, options={})
    rows: list[Row] = []
    for kind, nodes in {"own nodes": own, "moved nodes": moved}.items():
        judging = _Judging.at(node_sets, suite, nodes, short)
        told = ("control", "2 need", judging.contest.decisions.form)
        for row in score_rows(judging.scores(data.section.contrast)):
            if (row.metric, row.budget, row.form) == told:
                rows.append(replace(row, at=kind))
    return rows


def _token_differs(data: ContrastData, node: Node) -> bool:
    """Whether the token at the node's position differs between p and p' in more than half of the
    pairs of fit."""
    base, target = data.decide
    differ = [
        p.ids[p.index[node.position]] != q.ids[q.index[node.position]]
        for p, q in zip(base.prompts, target.prompts, strict=True)
    ]
    return 2 * sum(differ) > len(differ)


def _encoder_arrays(union: _Judging, scores: NodeSetScores) -> dict[str, np.ndarray]:
    """Rows for the heat maps of cosines: `cosine encoder` [latent, feature] and `cosine bias`
    [feature] of every node."""
    name = union.judged.name
    geometry = union.contest.measured[name].get("geometry")
    targets = targets_at(union.node_set)
    arrays: dict[str, np.ndarray] = {}
    for node, matched in geometry.nodes.items() if geometry else ():
        rows = encoder_cosines(union.judged, node, matched, targets[node])
        start = f"{scores.id}|{name}|{name}|cosine"
        arrays[f"{start} encoder|{node}"] = rows.encoder.numpy()
        arrays[f"{start} bias|{node}"] = rows.bias.numpy()
    return arrays

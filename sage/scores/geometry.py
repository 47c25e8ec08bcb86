"""T4, geometry: do a dictionary's directions point where the supervised features point?

Method, section 5.8. The mean over the features that the contrast changes of the cosine with the
latent matched to each (Hungarian), against the same with features fitted to shuffled labels.
Every cosine is divided by what an exact orthonormal dictionary attains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.dictionaries.dictionary import Dictionary, some_directions, width
from sage.dictionaries.projected import ProjectedSuite
from sage.dictionaries.projection import project_direction
from sage.nodes import Node, Section
from sage.scores.levels import Decisions, Split
from sage.scores.node_set import Contender, NodeSet
from sage.scores.score import Columns, Detail, Score, mean_of
from sage.scores.targets import Targets, targets_at, targets_of

MIN_ACTIVE = 0.01
SUBSPACE_VARIANCE = 0.9
# Of a direction's length: less beyond the span of others is rounding.
DEPENDENT = 1e-3
# Of a cosine: less is none.
ROUNDING = 1e-6
# Cosines that agree to so many digits are alike.
ALIKE_DIGITS = 4


class NodeGeometry(NamedTuple):
    """One node: the `latents` that took part, their cosines with the features, and what follows.

    `mcc` and `null` are of attained cosines; `null` has one for each shuffle. `angles` are
    principal angles in radians, none where the features fill the space.
    """

    features: tuple[str, ...]
    latents: Int[Tensor, "latent"]
    cosines: Float[Tensor, "latent feature"]
    mcc: float
    null: Float[np.ndarray, "shuffle"]
    uniqueness: float
    angles: tuple[float, ...]


@dataclass(frozen=True)
class Geometry:
    """T4 of one dictionary, node by node; all means are weighted by the nodes' statistic."""

    nodes: Mapping[Node, NodeGeometry]
    weights: Float[np.ndarray, "node"]

    @property
    def columns(self) -> Columns:
        """MCC, and the null of every shuffle: a resample draws shuffles."""
        null = self.weights @ np.stack([node.null for node in self.nodes.values()])
        return Columns(np.stack([np.full_like(null, self.mcc), null], -1), None)

    @property
    def mcc(self) -> float:
        """The mean matched cosine, as a share of what is attainable."""
        return float(self.weights @ [node.mcc for node in self.nodes.values()])

    @property
    def uniqueness(self) -> float:
        """The share of features whose best latent is no other feature's best."""
        return float(self.weights @ [node.uniqueness for node in self.nodes.values()])

    @property
    def angle(self) -> float | None:
        """The mean principal angle, None where no node has any."""
        angled = [
            (weight, np.mean(node.angles))
            for weight, node in zip(self.weights, self.nodes.values(), strict=True)
            if node.angles
        ]
        if not angled:
            return None
        return float(np.average([a for _, a in angled], weights=[w for w, _ in angled]))


def score_geometry(
    dictionary: Dictionary,
    targets: Mapping[Node, Targets],
    activity: Mapping[Node, Float[Tensor, "latent"]],
    *,
    section: Section,
) -> Geometry:
    """Match a dictionary's directions with the supervised features at every node that has any.

    `activity` is the share of `fit` on which each latent is active. Those take part that reach 1 %,
    or the share of the rarest feature, and are not zero at the node.
    """
    nodes: dict[Node, NodeGeometry] = {}
    for node, target in targets.items():
        rarest = min(MIN_ACTIVE, float(target.share.min()))
        nodes[node] = _node_geometry(dictionary, node, activity[node] >= rarest, target)
    weights = np.array([section.statistic[node] for node in nodes])
    return Geometry(nodes, weights / weights.sum())


class Chance(NamedTuple):
    """What refits of the features to shuffled labels come to: the mean matched cosine with the
    features, 1 where the nodes hold no other direction, and by how much the T4 of one shuffle
    differs from that of another (standard deviation)."""

    mean: float
    spread: float


def chance(targets: Mapping[Node, Targets], section: Section) -> Chance:
    """Of the features of a section, over all shuffles."""
    by_node = [
        [matched(draw) for draw in _attain(cosines(target.directions, target.shuffled), target)]
        for target in targets.values()
    ]
    weights = [section.statistic[node] for node in targets]
    shuffles = np.average(by_node, axis=0, weights=weights)
    mean = float(shuffles.mean())
    room = max(1 - mean, ROUNDING)
    return Chance(mean, float(shuffles.std(ddof=1)) / room)


class EncoderCosines(NamedTuple):
    """What stands beside the cosines of a node's latents: those of their encoders, and that of the
    SAE's decoder bias."""

    encoder: Float[Tensor, "latent feature"]
    bias: Float[Tensor, "feature"]


def encoder_cosines(
    judged: ProjectedSuite, node: Node, geometry: NodeGeometry, target: Targets
) -> EncoderCosines:
    """Encoder directions and decoder bias seen through the same weights as the latents that took
    part."""
    sae = judged.sae_at(node)
    encoders = sae.encoder.W_enc.T[geometry.latents.to(sae.b_dec.device)]
    rows = torch.cat([encoders, sae.b_dec[None]])
    projected = project_direction(judged.anatomy, node, rows.float())
    both = cosines(projected, target.directions).cpu()
    return EncoderCosines(both[:-1], both[-1])


def cosines(
    directions: Float[Tensor, "latent d"],
    features: Float[Tensor, "*shuffle feature d"],
    *,
    signed: bool = False,
) -> Float[Tensor, "*shuffle latent feature"]:
    """Cosines of every latent with every feature; absolute ones for signed codes, whose directions
    have no sign of their own."""
    normalised = torch.nn.functional.normalize(directions, dim=-1)
    cosine = normalised @ torch.nn.functional.normalize(features, dim=-1).mT
    return cosine.abs() if signed else cosine


def matched(attained: Float[Tensor, "latent feature"]) -> float:
    """The sum of one-to-one matched cosines over the number of features; a feature without a
    latent, or with a negative cosine alone, counts 0."""
    rows, columns = _matching(attained)
    return float(attained.cpu().numpy()[rows, columns].sum() / attained.shape[1])


def _attain(
    cosine: Float[Tensor, "*shuffle latent feature"], target: Targets
) -> Float[Tensor, "*shuffle latent feature"]:
    """Cosines as shares of what is attainable, cut at 0 and 1."""
    return (cosine / target.attainable).clamp(0, 1)


def _matching(
    cosine: Float[Tensor, "latent feature"],
) -> tuple[Int[np.ndarray, "pair"], Int[np.ndarray, "pair"]]:
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(cosine.cpu().numpy(), maximize=True)


def _node_geometry(
    dictionary: Dictionary, node: Node, taking_part: Bool[Tensor, "latent"], target: Targets
) -> NodeGeometry:
    device = target.directions.device
    latents = taking_part.nonzero().flatten().to(device)
    directions = some_directions(dictionary, [node], latents)[node].to(target.directions)
    there = directions.norm(dim=-1) > 0
    latents, directions = latents[there], directions[there]
    cosine = cosines(directions, target.directions, signed=dictionary.signed)
    if not len(latents):
        nothing = np.zeros(len(target.shuffled))
        return NodeGeometry(target.names, latents.cpu(), cosine.cpu(), 0.0, nothing, 0.0, ())
    shuffled = cosines(directions, target.shuffled, signed=dictionary.signed)
    return NodeGeometry(
        features=target.names,
        latents=latents.cpu(),
        cosines=cosine.cpu(),
        mcc=matched(_attain(cosine, target)),
        null=np.array([matched(draw) for draw in _attain(shuffled, target)]),
        uniqueness=len(set(cosine.argmax(0).tolist())) / len(target.names),
        angles=_angles(directions, target, cosine),
    )


def _angles(
    directions: Float[Tensor, "latent d"],
    target: Targets,
    cosine: Float[Tensor, "latent feature"],
) -> tuple[float, ...]:
    """Principal angles, in radians, of the leading feature directions, 90 % of the features'
    variance, with as many matched latents.

    From sines and in float64, which small angles need. Of latents that match equally well, up to
    rounding, those of the first features are taken, and none that lies in the span of those before
    it. None where the features fill more than a quarter of the space, or fewer latents are left.
    """
    from scipy.linalg import subspace_angles

    weighted = target.directions.double().cpu() * target.share.double().cpu()[:, None].sqrt()
    _, spread, basis = torch.linalg.svd(weighted, full_matrices=False)
    share = spread.square().cumsum(0) / spread.square().sum()
    rank = int((share < SUBSPACE_VARIANCE).sum()) + 1
    rows, columns = _matching(cosine)
    if rank > target.directions.shape[1] / 4 or len(rows) < rank:
        return ()
    pairs = sorted(
        zip(rows.tolist(), columns.tolist(), strict=True),
        key=lambda pair: (-round(float(cosine[pair]), ALIKE_DIGITS), pair[1]),
    )
    chosen = _independent(directions[[row for row, _ in pairs]].double().cpu(), rank)
    if len(chosen) < rank:
        return ()
    angles = subspace_angles(basis[:rank].T.numpy(), chosen.T.numpy())
    return tuple(float(angle) for angle in angles)


def _independent(rows: Float[Tensor, "row d"], count: int) -> Float[Tensor, "chosen d"]:
    """An orthonormal basis of the first rows, at most so many, that are in no span of those before
    them but for rounding: what rounding leaves of opposite directions is no direction."""
    chosen = rows.new_empty(0, rows.shape[1])
    for row in rows:
        rest = row - chosen.T @ (chosen @ row)
        rest = rest - chosen.T @ (chosen @ rest)
        if rest.norm() > DEPENDENT * row.norm():
            chosen = torch.cat([chosen, rest[None] / rest.norm()])
        if len(chosen) == count:
            break
    return chosen


def raw_geometry(means: Float[np.ndarray, "draw 2"]) -> Float[np.ndarray, "draw"]:
    """(MCC - null)/(1 - null); 0 where the null leaves no room."""
    room = 1 - means[:, 1]
    return np.where(room > ROUNDING, means[:, 0] - means[:, 1], 0) / np.maximum(room, ROUNDING)


def geometry(means: Float[np.ndarray, "draw 2"]) -> Float[np.ndarray, "draw"]:
    """The same, clipped to [0, 1]."""
    return np.clip(raw_geometry(means), 0, 1)


def measure(
    node_set: NodeSet, contenders: Sequence[Contender], *, split: Split
) -> dict[str, Geometry]:
    """Every contender with latents, against the features of the attributes that change; of the
    supervised features every one takes part, however rare."""
    del split
    geometries: dict[str, Geometry] = {}
    for contender in contenders if targets_at(node_set) else ():
        targets = targets_of(node_set, contender)
        if contender.candidates is None or not targets:
            continue
        dictionary = contender.dictionary
        if dictionary is contender.features:
            activity = {node: torch.ones(width(dictionary, node)) for node in targets}
        else:
            activity = node_set.activity(contender)
        section = node_set.data.section
        geometries[contender.name] = score_geometry(dictionary, targets, activity, section=section)
    return geometries


def _columns(part: Geometry, decisions: Decisions) -> Columns:
    del decisions
    return part.columns


def _details(part: Geometry, decisions: Decisions) -> Iterator[Detail]:
    """The matched cosine and its null, uniqueness and the principal angle."""
    del decisions
    yield Detail("MCC", part.columns, mean_of(0))
    yield Detail("MCC null", part.columns, mean_of(1))
    numbers = {"uniqueness": part.uniqueness, "principal angle": part.angle}
    for name, number in numbers.items():
        if number is not None:
            yield Detail(name, Columns(np.full((1, 1), number), None), mean_of(0))


SCORE = Score(
    name="geometry",
    version=4,
    symbol="T4",
    title="geometry",
    zero="features fitted to shuffled labels",
    one="every feature has a latent of its own, as near as an orthonormal dictionary's",
    measurement="geometry",
    columns=_columns,
    statistic=geometry,
    raw=raw_geometry,
    why_undefined=lambda decisions: decisions.geometry,
    details=_details,
    of_fit=True,
    figure="frontier",
)

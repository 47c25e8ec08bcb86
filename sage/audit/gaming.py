"""Gaming: can a metric be raised by blind edits that make a dictionary no better?

Method, section 7. Random changes of decoder rows and of both biases, none of which may change L0 by
more than a tenth, are kept where the metric rises. Labels stay hidden: all that is seen is the
score. An edit that makes the dictionary better is no gaming, and a climb without this condition
finds such: so those are passed over by which the planted features of the attributes that the metric
looks at are detected better, are better matched, or both at once. What the climb gained is measured
where it was climbed and on draws it never saw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch.nn.functional import normalize

from sage.audit.cell import Cell
from sage.audit.measuring import WorldBench
from sage.audit.plan import AuditPlan
from sage.audit.records import Measured, defined
from sage.audit.reseed import ONE_RUN, Noise
from sage.dictionaries.controls.setting import generator
from sage.saes.architectures.relu import ReLU
from sage.saes.architectures.topk import TopK
from sage.toy.planted import NODE, World
from sage.toy.quality import Quality, planted_quality
from sage.toy.training import ToySAE

CLIMBED = ("interpretable", "TPP")
# Of a decoder row's norm, of the spread of encoder biases beside .1, and of the decoder bias.
STEP = 0.05
MOST_L0 = 0.1
# By so much quality may seem to rise by chance.
ROUNDING = 0.002
PAIRS, FRESH = 200, 1


class Climb(NamedTuple):
    """Where a climb ended, and how many of its edits were kept."""

    sae: ToySAE
    kept: int


def climb(world: World, sae: ToySAE, plan: AuditPlan, *, metric: str) -> list[Measured]:
    """The SAE before and after the climb, on the draws climbed on and on fresh ones."""
    small = replace(plan, contrasts=min(2, plan.contrasts), pairs=min(PAIRS, plan.pairs))
    seen, fresh = WorldBench(world, small), WorldBench(world, small, FRESH)
    quality = PlantedQuality(world, seen.attributes)
    best, kept = hill_climb(
        sae, quality, lambda tried: seen.one(tried.dictionary, metric),
        edits=plan.edits, random=generator(f"gaming/{world.name}/{metric}"),
    )  # fmt: skip
    ends = {
        draws: tuple(bench.one(one.dictionary, metric) for one in (sae, best))
        for draws, bench in (("seen", seen), ("fresh", fresh))
    }
    return [
        Measured(
            "gaming", world.name, one.name, f"{when}, {draws}",
            defined({metric: values[place]}),
            quality.of(one)._asdict(),
            at=float(kept * place),
        )
        for draws, values in ends.items()
        for place, (when, one) in enumerate((("before", sae), ("after", best)))
    ]  # fmt: skip


def hill_climb(
    sae: ToySAE,
    quality: PlantedQuality,
    score: Callable[[ToySAE], float],
    *,
    edits: int,
    random: torch.Generator,
) -> Climb:
    """The SAE after so many blind edits, each kept where the score rises, L0 stays and nothing is
    better that quality sees."""
    world = quality.world
    limits, start = quality.of(sae), _l0(sae, world)
    best, highest, kept = sae, score(sae), 0
    for _ in range(edits):
        tried = _edited(best, random)
        if abs(_l0(tried, world) - start) > MOST_L0 * start or _better(quality.of(tried), limits):
            continue
        value = score(tried)
        if value > highest:
            best, highest, kept = tried, value, kept + 1
    return Climb(best, kept)


class PlantedQuality(NamedTuple):
    """What is known of an SAE by the features of some attributes."""

    world: World
    attributes: Sequence[str]

    def of(self, sae: ToySAE) -> Quality:
        """Of this one."""
        return planted_quality(self.world, sae.dictionary, attributes=self.attributes)


def _better(now: Quality, before: Quality) -> bool:
    """Whether an SAE is better than it was before the climb, in any respect."""
    return any(new > old + ROUNDING for new, old in zip(now[:3], before[:3], strict=True))


def _edited(sae: ToySAE, random: torch.Generator) -> ToySAE:
    """A blind edit: every decoder row turned a little, all biases shifted a little."""
    W_dec, encoder = sae.W_dec, sae.encoder
    noise = normalize(torch.randn(W_dec.shape, generator=random), dim=-1)
    size = STEP * (encoder.b_enc.std() + 0.1)
    shift = size * torch.randn(encoder.b_enc.shape, generator=random)
    b_dec = sae.b_dec + STEP * sae.b_dec.std() * torch.randn(sae.b_dec.shape, generator=random)
    biased = ReLU(encoder.W_enc, encoder.b_enc + shift)
    if isinstance(encoder, TopK):
        biased = TopK(encoder.W_enc, encoder.b_enc + shift, encoder.priority, encoder.k)
    return ToySAE(sae.name, biased, normalize(W_dec + STEP * noise, dim=-1), b_dec)


def _l0(sae: ToySAE, world: World) -> float:
    values = world.activations(1000, 0)
    return float((sae.dictionary.encoders[NODE](values) != 0).float().sum(-1).mean())


def judge_gaming(
    records: Sequence[Measured], metric: str, noises: Mapping[str, Noise]
) -> list[Cell]:
    """Passed where fresh draws see no more gain than one run tells from noise."""
    cells: list[Cell] = []
    by_world: dict[str, dict[str, Measured]] = {}
    for record in records:
        if record.lens == "gaming" and metric in record.scores:
            by_world.setdefault(record.where, {})[record.role] = record
    for world, climbed in by_world.items():
        gains = {
            draws: climbed[f"after, {draws}"].score(metric)
            - climbed[f"before, {draws}"].score(metric)
            for draws in ("seen", "fresh")
        }
        before, after = climbed["before, fresh"], climbed["after, fresh"]
        better = after.quality["atoms"] - before.quality["atoms"]
        limit = ONE_RUN * noises[world].sd if world in noises else 0.0
        passed = gains["fresh"] <= limit
        kept = int(after.at or 0)
        said = f"gain {gains['fresh']:+.3f} on fresh draws, {gains['seen']:+.3f} where it climbed, "
        said += f"quality {better:+.3f}, noise {limit:.3f}, {kept} edits kept"
        figures = {"gain": gains["fresh"], "gain where climbed": gains["seen"],
                   "quality": better, "noise": limit, "kept": float(kept)}  # fmt: skip
        failed = () if passed else (f"blind edits gain {gains['fresh']:.2f}",)
        cells.append(Cell(metric, "gaming", world, passed, said, figures, failed))
    return cells

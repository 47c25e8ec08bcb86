"""A discovery made up by hand: a few large nodes among many small ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from sage.discovery import (
    Cost,
    Discovery,
    FaithfulnessCurve,
    Finding,
    NodeEffect,
    Validation,
)
from sage.nodes import Node

POSITIONS = ("S1", "S2", "END")
VALIDATION = Validation(
    patched=2,
    spearman=0.9,
    pearson=0.8,
    top=1,
    top_overlap=1.0,
    section_effect=3.0,
    random_effects=(0.1, 0.0),
    jaccard=1.0,
    jaccard_sd=0.0,
    resamples=50,
    curve=FaithfulnessCurve(((0.5, 0.75), (1.0, 1.0)), 0.6, 0.01, 0.4, 0.01, 20),
    notes=("a note",),
)


def evidence(layers: int, heads: int) -> tuple[NodeEffect, ...]:
    """Every q k v z and mlp_in at three positions; a few nodes are large and kept, half of the
    others were not patched."""
    rng = random.Random(0)
    effects: list[NodeEffect] = []
    for position in POSITIONS:
        for layer in range(layers):
            nodes = [Node(kind, layer, head, position) for kind in "qkvz" for head in range(heads)]
            for node in (*nodes, Node("mlp_in", layer, None, position)):
                large = rng.random() < 0.03
                value = rng.uniform(1, 4) if large else rng.uniform(0, 0.15)
                effect = NodeEffect(node, value, value)
                if large or rng.random() < 0.5:
                    exact = 1.5 * value
                    effect = replace(
                        effect, effect=-exact, statistic=exact, stderr=0.01, kept=large
                    )
                effects.append(effect)
    return tuple(effects)


def finding(contrast: str, layers: int = 3, heads: int = 2) -> Finding:
    return Finding(
        contrast,
        n=20,
        dropped=1,
        directions=2,
        positions=POSITIONS,
        baseline=5.0,
        null=0.05,
        null_n=20,
        evidence=evidence(layers, heads),
        shown=(NodeEffect(Node("resid_pre", 1, None, "END"), 0.3, 0.2, -0.2, 0.2, 0.01),),
        sizes={0.005: 9, 0.01: 8, 0.02: 7, 0.05: 3, 0.1: 1},
        validation=VALIDATION,
        cost=Cost(1.5, 120.0),
    )


def discovery(findings: Sequence[Finding]) -> Discovery:
    return Discovery(
        "ioi",
        "tiny",
        POSITIONS,
        method="attribution patching",
        qk_fix=True,
        tau=0.02,
        seed=0,
        findings={finding.contrast: finding for finding in findings},
    )

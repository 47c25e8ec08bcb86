"""What a toy model of composite features shows: SAEs, their latents, what scores say of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sage.saes.sae import SAE
from sage.toy.composite_latents import ATOMIC, COMPOSITE, DEAD, KINDS, LatentTable
from sage.toy.planted import World
from sage.toy.quality import Quality

# What tables call the scores of this project, and the rows beside them.
SCORES = {
    "interpretable": "T3",
    "control": "T2",
    "approximation": "T1",
    "geometry": "T4",
    "move": "move",
    "coverage": "coverage",
    "decoding": "decoding",
    "copying": "copying",
}
MAIN = "interpretable"
# What a fall of the headline has to be to be called one.
FALL = 0.3


@dataclass(frozen=True, eq=False)
class ComposedSAE:
    """One SAE of a world: what it had room for, its latents, its planted quality, its scores."""

    architecture: str
    room: str
    sae: SAE
    latents: LatentTable
    quality: Quality
    scores: Mapping[str, float]

    @property
    def name(self) -> str:
        """`topk, room for atoms`."""
        return f"{self.architecture}, room for {self.room}"

    def row(self) -> dict[str, object]:
        """A row of the table; kinds of latents are shares of those that are ever active."""
        kinds = {kind: self.latents.share(kind) for kind in KINDS if kind != DEAD}
        scores = {label: self.scores.get(name) for name, label in SCORES.items()}
        return {
            "SAE": self.name,
            "latents": self.sae.width,
            "dead": self.latents.count(DEAD),
            "L0": self.quality.l0,
            "FVU": self.quality.fvu,
            **kinds,
            **scores,
            "atoms found": self.quality.atoms,
        }


@dataclass(frozen=True, eq=False)
class CompositeToy:
    """The SAEs of one world, of each architecture the one with room for atoms first."""

    world: World
    saes: tuple[ComposedSAE, ...]

    def table(self) -> list[dict[str, object]]:
        """One row for each SAE: its size, its latents by kind, and every score."""
        return [sae.row() for sae in self.saes]

    def falls(self) -> dict[str, dict[str, float]]:
        """By architecture, how far each score falls from the SAE of the larger share of atomic
        latents to that of the smaller."""
        falls: dict[str, dict[str, float]] = {}
        for first, second in zip(self.saes[::2], self.saes[1::2], strict=True):
            more, less = _by_atoms(first, second)
            falls[more.architecture] = {
                label: more.scores[name] - less.scores[name]
                for name, label in SCORES.items()
                if name in more.scores
            }
        return falls

    @property
    def claim(self) -> str:
        """In how many architectures the headline, and geometry, fall with composites."""
        falls = self.falls().values()
        count = {label: sum(fall[label] >= FALL for fall in falls) for label in ("T3", "T4")}
        return (
            f"From atoms to composites interpretable control (T3) falls by {FALL:.1f} or more in"
            f" {count['T3']} of {len(falls)} architectures, geometry (T4) in {count['T4']}."
        )

    def sentences(self) -> list[str]:
        """What the headline makes of composites, architecture by architecture."""
        pairs = zip(self.saes[::2], self.saes[1::2], strict=True)
        return [_sentence(*_by_atoms(*pair)) for pair in pairs]


def _by_atoms(first: ComposedSAE, second: ComposedSAE) -> tuple[ComposedSAE, ComposedSAE]:
    """The SAE with the larger share of atomic latents first."""
    fewer = first.latents.share(ATOMIC) < second.latents.share(ATOMIC)
    return (second, first) if fewer else (first, second)


def _sentence(more: ComposedSAE, less: ComposedSAE) -> str:
    before, after = more.scores[MAIN], less.scores[MAIN]
    what = "falls" if before - after >= FALL else "does not fall by .3"
    return (
        f"{more.architecture}: T3 {what}, {before:.2f} where {_told(more)}, {after:.2f} where "
        f"{_told(less)}."
    )


def _told(sae: ComposedSAE) -> str:
    atomic, composite = sae.latents.share(ATOMIC), sae.latents.share(COMPOSITE)
    return f"{atomic:.0%} of the active latents are atomic and {composite:.0%} composite"

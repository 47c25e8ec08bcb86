"""The metrics that are audited, and what each of them claims to measure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from sage.audit.peers import probing, scr, tpp
from sage.scores.score import scores

# What a metric is held against: `atoms` is how near a dictionary is to the planted features.
Claim = Literal["atoms", "mcc", "f1", "explained"]


class AuditedMetric(NamedTuple):
    """A metric by its name in rows, the version of its definition, what tables call it, what it is
    held against, and whether it is of this project."""

    name: str
    version: int
    title: str
    claim: Claim = "atoms"
    ours: bool = True

    @property
    def versioned(self) -> str:
        """`interpretable@2`."""
        return f"{self.name}@{self.version}"


# Rows beside a score, and the score whose version they have.
_BESIDE = {"isolation": "control", "decoding": "coverage"}
_CLAIMS: Mapping[str, Claim] = {
    "approximation": "explained",
    "geometry": "mcc",
    "coverage": "f1",
    "decoding": "f1",
}
_TITLES = {"interpretable": "T3, sage", "control": "T2", "approximation": "T1", "geometry": "T4"}
_PEERS = (probing, tpp, scr)


def audited() -> dict[str, AuditedMetric]:
    """Every audited metric by its name, the headline first, those of other benchmarks last."""
    versions = {score.name: score.version for score in scores().values()}
    versions |= {row: versions[score] for row, score in _BESIDE.items()}
    own = {
        name: AuditedMetric(name, version, _TITLES.get(name, name), _CLAIMS.get(name, "atoms"))
        for name, version in versions.items()
    }
    peers = {
        peer.NAME: AuditedMetric(peer.NAME, peer.VERSION, peer.NAME, ours=False) for peer in _PEERS
    }
    return own | peers


def versions() -> dict[str, int]:
    """Name -> version, as this code computes it."""
    return {metric.name: metric.version for metric in audited().values()}

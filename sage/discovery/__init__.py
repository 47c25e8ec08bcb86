"""Discovery: where in a model a task's attributes live.

Section 2 of the method. Candidates are ranked by attribution, the top of the ranking is patched
exactly, and a node is kept when the effect, direction by direction, is large and above what
irrelevant changes do.
"""

from __future__ import annotations

from sage.discovery.agreement import NodeAgreement, check, check_nodes
from sage.discovery.attribution import (
    ATTRIBUTION_PATCHING,
    EXACT,
    GRAD_DROP,
    INTEGRATED_GRADIENTS,
    METHODS,
)
from sage.discovery.discovery import (
    Cost,
    Discovery,
    FaithfulnessCurve,
    Finding,
    NodeEffect,
    Validation,
)
from sage.discovery.picture import draw
from sage.discovery.search import DiscoverySettings, discover

__all__ = [
    "ATTRIBUTION_PATCHING",
    "EXACT",
    "GRAD_DROP",
    "INTEGRATED_GRADIENTS",
    "METHODS",
    "Cost",
    "Discovery",
    "DiscoverySettings",
    "FaithfulnessCurve",
    "Finding",
    "NodeAgreement",
    "NodeEffect",
    "Validation",
    "check",
    "check_nodes",
    "discover",
    "draw",
]

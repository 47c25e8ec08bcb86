"""The nodes a contrast can live at: q k v z and mlp_in at every position its pairs can reach.

A causal model computes the same at a position in both prompts of a pair when their tokens are the
same up to it: patching there changes nothing, so a position before the first differing token of all
pairs has no candidates (method, section 2).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from sage.errors import Unsupported, unknown
from sage.models.anatomy import Anatomy
from sage.nodes import HEAD_KINDS, Node
from sage.task.task import Task
from sage.task.tokens import TokenizedPair, first_difference

SECTION_KINDS = ("q", "k", "v", "z", "mlp_in")
SHOWN_KINDS = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")


def reachable(pairs: Sequence[TokenizedPair], task: Task) -> tuple[str, ...]:
    """The task's positions that every pair has and at least one pair can differ at."""
    return tuple(
        name
        for name in task.position_names
        if _is_in_all(pairs, name) and any(_can_differ(pair, name) for pair in pairs)
    )


def nodes_at(
    positions: Iterable[str], kinds: Collection[str], anatomy: Anatomy
) -> tuple[Node, ...]:
    """Every node of those kinds at those positions, in the order of a forward pass.

    A k or v is that of its key-value head.
    """
    nodes: list[Node] = []
    for position in positions:
        for layer in range(anatomy.layers):
            for kind in kinds:
                heads = range(anatomy.heads_of(kind)) if kind in HEAD_KINDS else (None,)
                nodes += [Node(kind, layer, head, position) for head in heads]
    return tuple(sorted(nodes))


def shown_kinds(kinds: Sequence[str], anatomy: Anatomy) -> tuple[str, ...]:
    """The kinds asked for, checked and each once.

    They screen off the rest (resid, attn_out) or double a candidate (mlp_out), so they are shown
    and never in a section. UnknownName and Unsupported for other kinds.
    """
    for kind in kinds:
        if kind not in SHOWN_KINDS:
            raise unknown("kind of node to show", kind, SHOWN_KINDS)
        if kind == "resid_mid" and anatomy.parallel:
            raise Unsupported(
                "Blocks that run in parallel have no resid_mid. Show resid_pre or resid_post."
            )
    return tuple(dict.fromkeys(kinds))


def _is_in_all(pairs: Sequence[TokenizedPair], name: str) -> bool:
    return all(name in pair.clean.index and name in pair.counterfactual.index for pair in pairs)


def _can_differ(pair: TokenizedPair, name: str) -> bool:
    return pair.clean.index[name] >= first_difference(pair.clean, pair.counterfactual)
